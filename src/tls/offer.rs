//! What upstream is offered: what the client offered, so that upstream answers as it would have answered the client, and in as
//! many round trips. What we do not know how to do is left out; if nothing is left, the connection is not for us.

use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

use crate::detect::client_hello::{ClientHello, TLS_1_2, TLS_1_3};

/// An offer; the key of the configurations that make it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Offer {
    tls12: bool,
    tls13: bool,
    /// In the client's order, or AES-128, AES-256, ChaCha20.
    cipher_suites: Vec<u16>,
    /// The one that the client sent a key share for first, then in the client's order.
    groups: Vec<u16>,
}

impl Offer {
    /// Of what a client offers, as far as both upstream and we can be asked for it; `None` if that is not enough.
    pub(super) fn of(hello: &ClientHello) -> Option<Self> {
        if hello.small_records {
            return None;
        }
        let shares = hello.key_shares.iter().filter(|share| hello.groups.contains(share));
        let mut groups: Vec<u16> = Vec::new();
        for group in shares.chain(&hello.groups) {
            if !groups.contains(group) && aws_lc_rs::ALL_KX_GROUPS.iter().any(|known| u16::from(known.name()) == *group)
            {
                groups.push(*group);
            }
        }
        let suites = |version| {
            let known = move |suite: &&u16| {
                let found = aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|known| u16::from(known.suite()) == **suite);
                found.is_some_and(|known| known.version().version == version)
            };
            hello.cipher_suites.iter().filter(known).copied().collect::<Vec<_>>()
        };
        let (suites13, suites12) = (suites(ProtocolVersion::TLSv1_3), suites(ProtocolVersion::TLSv1_2));
        let classic = groups.iter().any(|group| CLASSIC_GROUPS.contains(group));
        // Our own certificate is ECDSA over P-256: the client has to be able to verify it.
        let verifies = hello.signature_schemes.contains(&ECDSA_P256_SHA256);
        let tls13 = hello.offers_version(TLS_1_3) && !suites13.is_empty() && !groups.is_empty() && verifies;
        let answers12 = suites12.iter().any(|suite| ECDHE_ECDSA.contains(suite));
        let tls12 = hello.offers_version(TLS_1_2) && !suites12.is_empty() && classic && verifies;
        // A client that offers TLS 1.3 is answered with that.
        if !(tls13 || (tls12 && answers12 && !hello.offers_version(TLS_1_3))) {
            return None;
        }
        let both = [(tls13, suites13), (tls12, suites12)];
        let offered = both.into_iter().filter(|(offered, _)| *offered);
        let mut cipher_suites: Vec<u16> = offered.flat_map(|(_, suites)| suites).collect();
        // Half of a resumed handshake is hashing, and processors help with SHA-256 only. Many servers take the first they know.
        // A client that puts ChaCha20 first has no help with AES, and says so.
        if cipher_suites.first().is_some_and(|first| !CHACHA20.contains(first)) {
            cipher_suites.sort_by_key(|suite| (CHACHA20.contains(suite), AES_256.contains(suite)));
        }
        Some(Self { tls12, tls13, cipher_suites, groups })
    }

    /// As rustls takes it.
    pub(super) fn provider(&self) -> CryptoProvider {
        let cipher_suites = self.cipher_suites.iter().filter_map(|wanted| {
            aws_lc_rs::ALL_CIPHER_SUITES
                .iter()
                .find(|known: &&SupportedCipherSuite| u16::from(known.suite()) == *wanted)
        });
        let groups = self.groups.iter().filter_map(|wanted| {
            aws_lc_rs::ALL_KX_GROUPS.iter().find(|known: &&&dyn SupportedKxGroup| u16::from(known.name()) == *wanted)
        });
        CryptoProvider {
            cipher_suites: cipher_suites.copied().collect(),
            kx_groups: groups.copied().collect(),
            ..aws_lc_rs::default_provider()
        }
    }

    /// As rustls takes them.
    pub(super) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        [(self.tls13, &TLS13), (self.tls12, &TLS12)]
            .into_iter()
            .filter(|(offered, _)| *offered)
            .map(|(_, v)| v)
            .collect()
    }
}

const ECDSA_P256_SHA256: u16 = 0x0403;
/// AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305.
const ECDHE_ECDSA: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
/// TLS 1.3; ECDHE with ECDSA and with RSA.
const CHACHA20: [u16; 3] = [0x1303, 0xcca9, 0xcca8];
/// The same.
const AES_256: [u16; 3] = [0x1302, 0xc02c, 0xc030];
/// P-256, P-384, X25519: those that TLS 1.2 knows too.
const CLASSIC_GROUPS: [u16; 3] = [0x17, 0x18, 0x1d];

#[cfg(test)]
mod tests {
    use super::*;

    fn modern() -> ClientHello {
        ClientHello {
            versions: vec![TLS_1_3, TLS_1_2],
            cipher_suites: vec![0x1302, 0x1301, 0xc02f, 0xc02b, 0x009c],
            groups: vec![0x1d, 0x17, 0x1e, 0x11ec],
            key_shares: vec![0x17],
            signature_schemes: vec![0x0804, ECDSA_P256_SHA256],
            ..ClientHello::default()
        }
    }

    #[test]
    fn upstream_is_offered_what_the_client_offered_its_key_share_first() {
        let offer = Offer::of(&modern()).unwrap();
        assert_eq!(offer.cipher_suites, [0x1301, 0xc02f, 0xc02b, 0x1302]);
        assert_eq!(offer.groups, [0x17, 0x1d, 0x11ec]);
        let provider = offer.provider();
        let groups: Vec<u16> = provider.kx_groups.iter().map(|group| group.name().into()).collect();
        assert_eq!(groups, offer.groups);
        assert_eq!(provider.cipher_suites.len(), 4);
        assert_eq!(offer.versions().len(), 2);
    }

    #[test]
    fn the_cheapest_suite_comes_first_unless_the_client_has_no_help_with_aes() {
        let order = |suites: &[u16]| {
            let hello = ClientHello { cipher_suites: suites.to_vec(), ..modern() };
            Offer::of(&hello).unwrap().cipher_suites
        };
        assert_eq!(order(&[0x1302, 0x1303, 0x1301]), [0x1301, 0x1302, 0x1303], "OpenSSL");
        assert_eq!(order(&[0x1303, 0x1302, 0x1301]), [0x1303, 0x1302, 0x1301]);
    }

    #[test]
    fn what_neither_side_could_be_asked_for_is_not_for_us() {
        type Change = fn(&mut ClientHello);
        let table: [(&str, Change); 8] = [
            ("TLS 1.1", |hello| hello.versions = vec![0x0302]),
            ("no suite of ours", |hello| hello.cipher_suites = vec![0x002f, 0xc013]),
            ("no room for our records", |hello| hello.small_records = true),
            ("TLS 1.3 without a suite of it", |hello| hello.cipher_suites = vec![0xc02b]),
            ("no group of ours", |hello| hello.groups = vec![0x1e]),
            ("cannot verify P-256", |hello| hello.signature_schemes = vec![0x0804]),
            ("TLS 1.2 with RSA certificates only", |hello| {
                hello.versions = vec![TLS_1_2];
                hello.cipher_suites = vec![0xc02f, 0xc030];
            }),
            ("TLS 1.2 with a group of TLS 1.3", |hello| {
                hello.versions = vec![TLS_1_2];
                hello.groups = vec![0x11ec];
            }),
        ];
        for (what, change) in table {
            let mut hello = modern();
            change(&mut hello);
            assert_eq!(Offer::of(&hello), None, "{what}");
        }
        let mut hello = modern();
        hello.versions = vec![TLS_1_2];
        let offer = Offer::of(&hello).unwrap();
        assert_eq!((offer.tls13, offer.cipher_suites), (false, vec![0xc02f, 0xc02b]), "only what its version has");
    }
}
