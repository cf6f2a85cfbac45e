//! How many connections there may be: in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections.
#[derive(Debug)]
pub struct Caps {
    all_max: usize,
    each_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

impl Caps {
    /// Allows `all_max` in all, and `each_max` from one address.
    #[must_use]
    pub fn new(all_max: usize, each_max: usize) -> Self {
        Self { all_max, each_max, open: Mutex::default() }
    }

    /// A place for a connection from `peer`; `None` when there is none. `trusted` peers speak for many.
    #[must_use]
    pub fn enter(self: &Arc<Self>, peer: IpAddr, trusted: bool) -> Option<Place> {
        let peer = network(peer);
        let mut open = self.open();
        if open.all >= self.all_max {
            return None;
        }
        if !trusted {
            let each = open.each.entry(peer).or_default();
            if *each >= self.each_max {
                return None;
            }
            *each += 1;
        }
        open.all += 1;
        Some(Place { caps: self.clone(), peer: (!trusted).then_some(peer) })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Place {
    caps: Arc<Caps>,
    peer: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.caps.open();
        open.all = open.all.saturating_sub(1);
        let Some(peer) = self.peer else { return };
        if let Some(each) = open.each.get_mut(&peer) {
            *each = each.saturating_sub(1);
            if *each == 0 {
                open.each.remove(&peer);
            }
        }
    }
}

/// Whom an address counts for: of IPv6 whoever has the /64 has all of it.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_and_given_back() {
        let caps = Arc::new(Caps::new(4, 2));
        let enter = |peer: &str, trusted| caps.enter(peer.parse().unwrap(), trusted);
        let first = [enter("2001:db8::1", false), enter("2001:db8::2", false)];
        assert!(first.iter().all(Option::is_some));
        assert!(enter("2001:db8::3", false).is_none(), "the same /64");
        let other = enter("2001:db8:0:1::1", false);
        assert!(other.is_some());
        let v4 = enter("::ffff:10.0.0.1", false);
        assert!(v4.is_some() && enter("10.0.0.2", false).is_none(), "all are taken");
        drop(first);
        let proxied = [enter("10.0.0.9", true), enter("10.0.0.9", true)];
        assert!(proxied.iter().all(Option::is_some) && enter("10.0.0.9", true).is_none());
        drop((proxied, other, v4));
        let open = caps.open();
        assert_eq!((open.all, open.each.len()), (0, 0));
    }
}
