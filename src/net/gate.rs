//! Whom the listener lets in: counts and rates, per address and in all.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::protocol::bucket::Bucket;
use crate::protocol::limits::{
    ACCEPT_BURST, ACCEPT_PER_SECOND, ADDRESSES_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, HANDSHAKES_MAX,
    HANDSHAKES_PER_ADDRESS_MAX,
};

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("too many connections")]
    Connections,
    #[error("too many handshakes")]
    Handshakes,
    #[error("too many connections of this address")]
    AddressConnections,
    #[error("too many handshakes of this address")]
    AddressHandshakes,
    #[error("too many new connections of this address in a short time")]
    AddressRate,
    #[error("too many addresses")]
    Addresses,
}

/// What counts as one address: IPv4 /32, IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// The counts of everything that is open.
#[derive(Default)]
pub(super) struct Gate {
    connections: usize,
    handshakes: usize,
    origins: HashMap<Origin, Counts>,
}

struct Counts {
    connections: usize,
    handshakes: usize,
    rate: Bucket,
}

impl Origin {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Origin::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Origin::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl Gate {
    /// Lets a new connection in, in its handshake, or says why not. Refusals cost their address
    /// a token too, so that trying harder does not help.
    pub(super) fn admit(&mut self, origin: Origin, now_ms: u64) -> Result<(), Refusal> {
        if self.connections >= CONNECTIONS_MAX {
            return Err(Refusal::Connections);
        }
        if self.handshakes >= HANDSHAKES_MAX {
            return Err(Refusal::Handshakes);
        }
        self.make_room(origin, now_ms)?;
        let counts = self.origins.entry(origin).or_insert_with(|| Counts::new(now_ms));
        if !counts.rate.take(now_ms) {
            return Err(Refusal::AddressRate);
        }
        if counts.connections >= CONNECTIONS_PER_ADDRESS_MAX {
            return Err(Refusal::AddressConnections);
        }
        if counts.handshakes >= HANDSHAKES_PER_ADDRESS_MAX {
            return Err(Refusal::AddressHandshakes);
        }
        counts.connections += 1;
        counts.handshakes += 1;
        self.connections += 1;
        self.handshakes += 1;
        Ok(())
    }

    /// Counts a handshake out; its connection stays.
    pub(super) fn handshake_done(&mut self, origin: Origin) {
        self.handshakes = self.handshakes.saturating_sub(1);
        if let Some(counts) = self.origins.get_mut(&origin) {
            counts.handshakes = counts.handshakes.saturating_sub(1);
        }
    }

    /// Counts a connection out.
    pub(super) fn closed(&mut self, origin: Origin) {
        self.connections = self.connections.saturating_sub(1);
        if let Some(counts) = self.origins.get_mut(&origin) {
            counts.connections = counts.connections.saturating_sub(1);
        }
    }

    /// Forgets addresses that are as good as new, once the table is full of them.
    fn make_room(&mut self, origin: Origin, now_ms: u64) -> Result<(), Refusal> {
        if self.origins.len() < ADDRESSES_MAX || self.origins.contains_key(&origin) {
            return Ok(());
        }
        self.origins.retain(|_, counts| counts.connections > 0 || !counts.rate.is_full(now_ms));
        if self.origins.len() < ADDRESSES_MAX { Ok(()) } else { Err(Refusal::Addresses) }
    }
}

impl Counts {
    fn new(now_ms: u64) -> Self {
        let rate = Bucket::per_second(ACCEPT_BURST, ACCEPT_PER_SECOND, now_ms);
        Self { connections: 0, handshakes: 0, rate }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: usize) -> Origin {
        Origin::V4(u32::try_from(n).unwrap().to_be_bytes())
    }

    #[test]
    fn one_address_is_held_to_its_handshakes_rate_and_connections() {
        let mut gate = Gate::default();
        for _ in 0..HANDSHAKES_PER_ADDRESS_MAX {
            gate.admit(v4(1), 0).unwrap();
        }
        assert_eq!(gate.admit(v4(1), 0), Err(Refusal::AddressHandshakes));
        assert_eq!(gate.admit(v4(2), 0), Ok(()));
        let mut now_ms = 0;
        for _ in HANDSHAKES_PER_ADDRESS_MAX..CONNECTIONS_PER_ADDRESS_MAX {
            gate.handshake_done(v4(1));
            now_ms += 1000;
            gate.admit(v4(1), now_ms).unwrap();
        }
        gate.handshake_done(v4(1));
        assert_eq!(gate.admit(v4(1), now_ms), Err(Refusal::AddressConnections));
        gate.closed(v4(1));
        assert_eq!(gate.admit(v4(1), now_ms), Ok(()));
    }

    #[test]
    fn burst_of_short_connections_is_cut_to_the_rate() {
        let mut gate = Gate::default();
        let mut admitted = 0;
        for _ in 0..1000 {
            if gate.admit(v4(7), 0).is_ok() {
                gate.handshake_done(v4(7));
                gate.closed(v4(7));
                admitted += 1;
            }
        }
        assert_eq!(admitted, ACCEPT_BURST);
        assert_eq!(gate.admit(v4(7), 10), Err(Refusal::AddressRate));
        assert_eq!(gate.admit(v4(7), 1000), Ok(()));
    }

    #[test]
    fn totals_hold_over_all_addresses() {
        let mut gate = Gate::default();
        for n in 0..HANDSHAKES_MAX {
            gate.admit(v4(n), 0).unwrap();
        }
        assert_eq!(gate.admit(v4(9999), 0), Err(Refusal::Handshakes));
        for n in 0..CONNECTIONS_MAX - HANDSHAKES_MAX {
            gate.handshake_done(v4(n));
            gate.admit(v4(n + HANDSHAKES_MAX), 0).unwrap();
        }
        assert_eq!(gate.admit(v4(1 << 20), 0), Err(Refusal::Connections));
    }

    #[test]
    fn table_of_addresses_does_not_grow_beyond_its_bound() {
        let mut gate = Gate::default();
        for n in 0..ADDRESSES_MAX {
            gate.admit(v4(n), 0).unwrap();
            gate.handshake_done(v4(n));
            gate.closed(v4(n));
        }
        assert_eq!(gate.admit(v4(1 << 24), 0), Err(Refusal::Addresses));
        assert_eq!(gate.admit(v4(1 << 24), 60_000), Ok(()));
        assert_eq!(gate.origins.len(), 1);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let parse = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(parse("2001:db8::1"), parse("2001:db8::ffff:1"));
        assert_ne!(parse("2001:db8::1"), parse("2001:db8:0:1::1"));
        assert_eq!(parse("::ffff:192.0.2.1"), parse("192.0.2.1"));
    }
}
