//! Whose the sockets of this network namespace are, by the kernel's own table: `sock_diag(7)`, which needs no privilege.
//!
//! The kernel answers inside of the system call that asks (about 5 µs): nothing here waits. Where it refuses (another kernel, a
//! sandbox) that is an error, and the caller goes without.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// Who made the socket that is connected from `local` to `remote`, both as that socket sees them: its uid. `None` if there is no
/// such socket, or nobody has it any more.
pub fn uid(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<u32>> {
    let mut uid = None;
    Table::open()?.ask(&Question::One(local, remote), |found| {
        // Without one that is connected the kernel names one that listens.
        if found.state != LISTEN && found.inode != 0 {
            uid = Some(found.uid);
        }
    })?;
    Ok(uid)
}

/// How many sockets of `user` are not this process's own. Those that come from or go to one of our `ports` do not count: who
/// asks us for our health may be of our user.
///
/// Exact, if not complete: what is in the table, is none of our descriptors, and then is in the table again, was there while
/// we looked for it among ours. At most 64 Ki sockets of each family are looked at.
pub fn foreign(user: u32, ports: &[u16]) -> io::Result<usize> {
    let mut table = Table::open()?;
    let mut found = table.of(user, ports)?;
    if found.is_empty() {
        return Ok(0);
    }
    let own = own_inodes()?;
    found.retain(|inode| !own.contains(inode));
    if found.is_empty() {
        return Ok(0);
    }
    let still = table.of(user, ports)?;
    Ok(found.intersection(&still).count())
}

/// How many TCP connections programs of this network namespace have opened, whoever they are: the kernel's own count
/// (`ActiveOpens`, RFC 4022), which misses none however short.
pub fn opened() -> io::Result<u64> {
    let mut text = String::new();
    File::open("/proc/self/net/snmp")?.take(MOST_TEXT).read_to_string(&mut text)?;
    active_opens(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Of each protocol there is a line of names, and one of numbers below it.
fn active_opens(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let place = lines.next()?.split_whitespace().position(|name| name == "ActiveOpens")?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

/// A way to ask.
struct Table {
    socket: Socket,
    buffer: Vec<u8>,
}

enum Question {
    /// The socket between these two.
    One(SocketAddr, SocketAddr),
    /// All sockets of this family.
    All(u8),
}

/// What is told of one socket.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    state: u8,
    ports: [u16; 2],
    uid: u32,
    /// 0: no process has it (any more, or yet).
    inode: u32,
}

impl Table {
    fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    fn of(&mut self, user: u32, ports: &[u16]) -> io::Result<HashSet<u32>> {
        let mut inodes = HashSet::new();
        for family in [AF_INET, AF_INET6] {
            self.ask(&Question::All(family), |found| {
                let ours = found.ports.iter().any(|port| ports.contains(port));
                if found.uid == user && found.inode != 0 && !ours {
                    inodes.insert(found.inode);
                }
            })?;
        }
        Ok(inodes)
    }

    fn ask(&mut self, question: &Question, mut take: impl FnMut(Found)) -> io::Result<()> {
        let request = question.bytes();
        // Without an address it goes to the kernel.
        self.socket.send(&request)?;
        self.buffer.resize(if matches!(question, Question::One(..)) { ONE } else { BUFFER }, 0);
        let mut seen = 0;
        loop {
            let length = (&self.socket).read(&mut self.buffer)?;
            let mut rest = self.buffer.get(..length).unwrap_or_default();
            while let Some((kind, payload, next)) = message(rest) {
                rest = next;
                match kind {
                    SOCK_DIAG_BY_FAMILY => {
                        seen += 1;
                        if let Some(found) = socket(payload) {
                            take(found);
                        }
                        if matches!(question, Question::One(..)) {
                            return Ok(());
                        }
                    }
                    NLMSG_ERROR => {
                        return match number(payload, 0).map(u32::cast_signed) {
                            Some(0) => Ok(()),
                            Some(error) if -error == ENOENT => Ok(()),
                            Some(error) => Err(io::Error::from_raw_os_error(-error)),
                            None => Err(io::ErrorKind::InvalidData.into()),
                        };
                    }
                    // The end.
                    NLMSG_DONE => return Ok(()),
                    _ => {}
                }
            }
            if seen > MOST || length == 0 {
                // The rest of the answer would be taken for the next one's.
                *self = Self::open()?;
                return Ok(());
            }
        }
    }
}

impl Question {
    /// `nlmsghdr` and `inet_diag_req_v2` (linux/netlink.h, linux/inet_diag.h).
    fn bytes(&self) -> Vec<u8> {
        let (family, flags, states) = match self {
            Question::One(local, _) if local.is_ipv4() => (AF_INET, NLM_F_REQUEST, u32::MAX),
            Question::One(..) => (AF_INET6, NLM_F_REQUEST, u32::MAX),
            Question::All(family) => (*family, NLM_F_REQUEST | NLM_F_DUMP, HELD),
        };
        let mut bytes = Vec::with_capacity(REQUEST);
        bytes.extend(u32::try_from(REQUEST).unwrap_or_default().to_ne_bytes());
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([family, IPPROTO_TCP, 0, 0]);
        bytes.extend(states.to_ne_bytes());
        let (ends, interface) = match self {
            Question::One(local, remote) => {
                let scope = if let SocketAddr::V6(local) = local { local.scope_id() } else { 0 };
                (Some([*local, *remote]), scope)
            }
            Question::All(_) => (None, 0),
        };
        let ends = ends.unwrap_or_else(|| [SocketAddr::from(([0; 4], 0)); 2]);
        ends.iter().for_each(|end| bytes.extend(end.port().to_be_bytes()));
        for end in ends {
            let mut address = [0; 16];
            match end.ip() {
                IpAddr::V4(v4) => address.iter_mut().zip(v4.octets()).for_each(|(byte, octet)| *byte = octet),
                IpAddr::V6(v6) => address = v6.octets(),
            }
            bytes.extend(address);
        }
        bytes.extend(interface.to_ne_bytes());
        // INET_DIAG_NOCOOKIE
        bytes.extend([0xff; 8]);
        bytes
    }
}

/// The first message's kind and payload, and what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number(bytes, 0)?).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    let next = length.next_multiple_of(4).min(bytes.len());
    Some((kind, payload, bytes.get(next..)?))
}

/// `inet_diag_msg`
fn socket(payload: &[u8]) -> Option<Found> {
    let port = |at: usize| Some(u16::from_be_bytes(payload.get(at..at + 2)?.try_into().ok()?));
    Some(Found {
        state: *payload.get(1)?,
        ports: [port(4)?, port(6)?],
        uid: number(payload, 64)?,
        inode: number(payload, 68)?,
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The sockets that this process has. One that it has all the while is among them, whatever else opens and closes.
fn own_inodes() -> io::Result<HashSet<u32>> {
    let mut inodes = HashSet::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        // Closed meanwhile.
        let Ok(link) = entry.and_then(|entry| std::fs::read_link(entry.path())) else { continue };
        let number =
            link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u32>().ok());
        inodes.extend(number);
    }
    Ok(inodes)
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const IPPROTO_TCP: u8 = 6;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 56;
const LISTEN: u8 = 10;
/// All states that a socket of somebody's can be in: not TIME_WAIT, nor what listeners have not accepted yet.
const HELD: u32 = !(1 << 3 | 1 << 6 | 1 << 12);
const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
/// Twice what one socket takes, or an error with the question.
const ONE: usize = 512;
/// The kernel fills at most half of this at a time.
const BUFFER: usize = 64 * 1024;
const MOST: usize = 64 * 1024;
/// The whole file has about 2 KiB.
const MOST_TEXT: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_connected_socket_has_its_makers_uid_and_one_that_listens_is_no_answer() {
        let me = nix::unistd::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let there = listener.local_addr().unwrap();
            let client = TcpStream::connect(there).unwrap();
            let here = client.local_addr().unwrap();
            assert_eq!(uid(here, there).unwrap(), Some(me));
            let (accepted, _) = listener.accept().unwrap();
            assert_eq!(uid(there, here).unwrap(), Some(me), "the other end");
            let nobody = SocketAddr::new(here.ip(), 1);
            assert_eq!(uid(there, nobody).unwrap(), None, "only the listener fits");
            assert_eq!(uid(nobody, there).unwrap(), None);
            drop((client, accepted));
        }
    }

    #[test]
    fn a_client_that_speaks_ipv4_through_an_ipv6_socket_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).unwrap();
        let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", there.port()).parse().unwrap();
        socket.connect(&mapped.into()).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(uid(peer, there).unwrap(), Some(nix::unistd::geteuid().as_raw()));
    }

    #[test]
    fn every_connection_that_was_opened_is_counted_when_it_is_closed_already() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let before = opened().unwrap();
        for _ in 0..5 {
            drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        }
        assert!(opened().unwrap() >= before + 5);
        assert_eq!(active_opens("Ip: A\nIp: 1\nTcp: MaxConn ActiveOpens\nTcp: -1 7\nUdp: A\n"), Some(7));
        for damaged in ["", "Tcp: ActiveOpens\n", "Tcp: MaxConn\nTcp: 1\n", "Tcp: ActiveOpens\nTcp: x\n"] {
            assert_eq!(active_opens(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn our_own_sockets_are_never_somebody_elses_and_the_table_has_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(there).unwrap()).collect();
        let user = nix::unistd::geteuid().as_raw();
        let mut table = Table::open().unwrap();
        let (own, all) = (own_inodes().unwrap(), table.of(user, &[]).unwrap());
        let others = table.of(user, &[there.port()]).unwrap();
        for client in &clients {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", client.as_raw_fd())).unwrap();
            let inode: u32 = link.to_str().unwrap()["socket:[".len()..].trim_end_matches(']').parse().unwrap();
            assert!(own.contains(&inode) && all.contains(&inode) && !others.contains(&inode), "{inode}");
        }
        assert!(table.of(u32::MAX - 7, &[]).unwrap().is_empty());
    }

    #[test]
    fn a_table_that_is_cut_off_or_damaged_is_read_as_far_as_it_goes() {
        let question = Question::One("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()).bytes();
        assert_eq!(question.len(), REQUEST);
        let mut answer = vec![0; HEADER + 72];
        answer[..4].copy_from_slice(&88_u32.to_ne_bytes());
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer[HEADER + 64] = 7;
        let (kind, payload, rest) = message(&answer).unwrap();
        assert_eq!((kind, rest.len()), (SOCK_DIAG_BY_FAMILY, 0));
        assert!(socket(payload).is_some());
        for end in 0..answer.len() {
            let read = message(&answer[..end]).and_then(|(_, payload, _)| socket(payload));
            assert_eq!(read, None, "{end}");
        }
        for length in [0_u32, 3, 15, 89, u32::MAX] {
            answer[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(message(&answer).and_then(|(_, payload, _)| socket(payload)), None, "{length}");
        }
    }
}
