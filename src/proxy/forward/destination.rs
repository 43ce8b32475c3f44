//! Where the forward proxy may connect to. Pure: what is judged is what a name was resolved to, so that no name can lead
//! elsewhere between the look-up and the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// The rule.
#[derive(Clone, Debug)]
pub(super) struct Destinations {
    ports: Vec<RangeInclusive<u16>>,
    own_ports: Vec<u16>,
}

impl Destinations {
    /// These ports, but for our own on addresses of this pod.
    pub(super) fn new(ports: Vec<RangeInclusive<u16>>, mut own_ports: Vec<u16>) -> Self {
        own_ports.extend(RECEIVERS);
        Self { ports, own_ports }
    }

    /// Whether something may be asked for at this port.
    pub(super) fn judge_port(&self, port: u16) -> Result<(), &'static str> {
        if self.ports.iter().any(|range| range.contains(&port)) { Ok(()) } else { Err(PORT) }
    }

    /// The address to connect to.
    pub(super) fn judge(
        &self,
        address: SocketAddr,
        is_local: impl Fn(IpAddr) -> bool,
    ) -> Result<SocketAddr, &'static str> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        for ip in [Some(ip), inside(ip)].into_iter().flatten() {
            if is_nobodys(ip) {
                return Err("this address is no server's");
            }
            if is_link_local(ip) || METADATA_V4.iter().any(|metadata| ip == *metadata) {
                return Err("link-local addresses and metadata services are the machine's, not the pod's");
            }
            if self.own_ports.contains(&port) && is_local(ip) {
                return Err("this port is Sidetrace's own");
            }
        }
        Ok(SocketAddr::new(ip, port))
    }
}

/// The IPv4 address that an IPv6 address stands for: IPv4-compatible (RFC 4291, section 2.5.5.1), behind a NAT64 (RFC 6052,
/// section 2.1), or a 6to4 (RFC 3056, section 2).
fn inside(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    if let [0x20, 0x02, a, b, c, d, ..] = ip.octets() {
        return Some(Ipv4Addr::new(a, b, c, d).into());
    }
    let [.., a, b, c, d] = ip.octets();
    let stands = matches!(ip.segments(), [0, 0, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _]);
    (stands && ip != Ipv6Addr::LOCALHOST && ip != Ipv6Addr::UNSPECIFIED).then(|| Ipv4Addr::new(a, b, c, d).into())
}

fn is_nobodys(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || ip.octets().first() == Some(&0));
    // NAT64 in places that only the network knows (RFC 8215): the IPv4 address can be anywhere in it.
    let hidden = matches!(ip, IpAddr::V6(ip) if ip.segments().starts_with(&[0x64, 0xff9b, 1]));
    ip.is_unspecified() || ip.is_multicast() || broadcast || hidden
}

/// Link-local, or where clouds have the same over IPv6: the credentials of the machine are there.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || METADATA.contains(&ip),
    }
}

/// OTLP over gRPC and over HTTP.
const RECEIVERS: [u16; 2] = [4317, 4318];
/// Of Amazon (the machine's, and the credentials of pods), and of Google.
const METADATA: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];
/// Of Alibaba and of Azure (its wire server).
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const PORT: &str = "this port is not among SIDETRACE_FORWARD_DESTINATION_PORTS";

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(to: &str) -> Result<String, &'static str> {
        let own = vec![15100, 15101, 15106, 15107, 15120];
        let destinations = Destinations::new(vec![80..=80, 443..=443, 4000..=20000], own);
        let to: SocketAddr = to.parse().unwrap();
        destinations.judge_port(to.port())?;
        let pods: [IpAddr; 2] = ["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        let judged = destinations.judge(to, |ip| ip.is_loopback() || pods.contains(&ip));
        judged.map(|to| to.to_string())
    }

    #[test]
    fn servers_are_reached_at_the_ports_that_are_listed() {
        for (to, becomes) in [
            ("192.0.2.1:443", "192.0.2.1:443"),
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[2002:c000:201::1]:80", "[2002:c000:201::1]:80"),
            ("[64:ff9b:2::1]:80", "[64:ff9b:2::1]:80"),
            ("100.100.100.201:80", "100.100.100.201:80"),
            ("192.0.2.1:15101", "192.0.2.1:15101"),
        ] {
            assert_eq!(judged(to).as_deref(), Ok(becomes), "{to}");
        }
        for to in ["192.0.2.1:22", "192.0.2.1:442", "192.0.2.1:444", "192.0.2.1:3999", "192.0.2.1:20001"] {
            assert_eq!(judged(to), Err(PORT), "{to}");
        }
    }

    #[test]
    fn our_own_ports_are_refused_by_every_address_of_the_pod() {
        let addresses = [
            "127.0.0.1",
            "127.9.9.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "10.0.0.5",
            "[::ffff:10.0.0.5]",
            "[fd00::5]",
            "[::127.0.0.1]",
            "[2002:7f00:1::1]",
        ];
        for address in addresses {
            for port in [15100, 15101, 15106, 15107, 15120, 4317, 4318] {
                assert_eq!(
                    judged(&format!("{address}:{port}")),
                    Err("this port is Sidetrace's own"),
                    "{address}:{port}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_server_of_anybodys_is_refused() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "[::]",
            "255.255.255.255",
            "224.0.0.1",
            "239.1.2.3",
            "[ff02::1]",
            "169.254.169.254",
            "169.254.170.2",
            "[fe80::1]",
            "[febf::1]",
            "[::ffff:169.254.169.254]",
            "[::ffff:0.0.0.0]",
            "[fd00:ec2::254]",
            "[fd00:ec2::23]",
            "[fd20:ce::254]",
            "100.100.100.200",
            "168.63.129.16",
            "[::ffff:168.63.129.16]",
            "[64:ff9b:1::]",
            "[64:ff9b:1:a9fe:a9:fe00::]",
            "[64:ff9b:1:ffff:ffff:ffff:ffff:ffff]",
            "[2002:a9fe:a9fe::1]",
            "[2002:6464:64c8:1:2:3:4:5]",
            "[2002:0:1::]",
            "[64:ff9b::a9fe:a9fe]",
            "[::169.254.169.254]",
            "[::ffff:255.255.255.255]",
        ] {
            assert!(judged(&format!("{ip}:80")).is_err(), "{ip}");
        }
    }
}
