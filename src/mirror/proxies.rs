//! For whom a page is asked: the peer itself, or whom it names if it is a proxy that the operator trusts.

use std::net::IpAddr;
use std::str::FromStr;

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    first: IpAddr,
    bits: u32,
}

impl Net {
    /// Whether `address` is one of them. An IPv4 address that came through an IPv6 socket is an IPv4 address.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(other)) => {
                (first.to_bits() ^ other.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(other)) => {
                (first.to_bits() ^ other.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Net {
    type Err = String;

    /// Reads `10.0.0.1`, `10.0.0.0/8` or `fd00::/8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let wrong = || format!("\"{text}\" is no address such as 127.0.0.1, 10.0.0.0/8 or fd00::/8");
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most { Err(wrong()) } else { Ok(Self { first, bits }) }
    }
}

/// For whom `peer` asks. `forwarded` is what it says in `X-Forwarded-For`, to which each proxy has added whom it heard:
/// counted from the end, the first who is not trusted. What cannot be read is not believed, nor what stands before it.
#[must_use]
pub fn client(peer: IpAddr, forwarded: Option<&str>, trusted: &[Net]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.holds(address));
    let mut found = peer.to_canonical();
    for word in forwarded.into_iter().flat_map(|words| words.rsplit(',')) {
        match word.trim().parse::<IpAddr>() {
            Ok(address) if is_trusted(found) => found = address.to_canonical(),
            _ => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nets_hold_what_begins_as_they_do() {
        let check = |net: &str, address: &str, expected| {
            assert_eq!(net.parse::<Net>().unwrap().holds(address.parse().unwrap()), expected, "{net} {address}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("10.0.0.1", "10.0.0.1", true);
        check("10.0.0.1", "10.0.0.2", false);
        check("0.0.0.0/0", "9.9.9.9", true);
        check("0.0.0.0/0", "::1", false);
        check("fd00::/8", "fdff::1", true);
        check("fd00::/8", "fe80::1", false);
        check("::/0", "fe80::1", true);
        for wrong in ["", "localhost", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0.0"] {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<Net> = ["127.0.0.1", "10.0.0.0/8"].iter().map(|net| net.parse().unwrap()).collect();
        let check = |peer: &str, forwarded: Option<&str>, expected: &str| {
            assert_eq!(
                client(peer.parse().unwrap(), forwarded, &trusted).to_string(),
                expected,
                "{peer} {forwarded:?}"
            );
        };
        check("9.9.9.9", None, "9.9.9.9");
        check("9.9.9.9", Some("1.1.1.1"), "9.9.9.9");
        check("127.0.0.1", None, "127.0.0.1");
        check("127.0.0.1", Some("1.1.1.1"), "1.1.1.1");
        check("::ffff:127.0.0.1", Some("1.1.1.1"), "1.1.1.1");
        check("127.0.0.1", Some("6.6.6.6, 1.1.1.1, 10.2.3.4"), "1.1.1.1");
        check("127.0.0.1", Some("6.6.6.6, unknown, 10.2.3.4"), "10.2.3.4");
        check("127.0.0.1", Some("a\u{1b}b"), "127.0.0.1");
    }
}
