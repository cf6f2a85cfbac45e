//! The channel from outside: foreign vectors, a foreign implementation, trouble on the way.

mod noise;
mod pair;
mod socket;
mod tamper;

use mirra::protocol::connection::{Connection, Role};
use mirra::protocol::noise::{Initiator, Responder, SecretKey, Transport};
use mirra::protocol::preface::PREFACE;

/// Tags below this are known in these tests.
const KNOWN_TAGS: u8 = 10;

fn max_body(tag: u8) -> Option<u32> {
    (tag < KNOWN_TAGS).then_some(9 * 1024 * 1024)
}

/// Two ends of one handshake; the same keys each time, so that a session can be told again.
pub(crate) fn transports() -> (Transport, Transport) {
    let key = |byte| SecretKey::from_bytes([byte; 32]);
    let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    let initiator = <Initiator<_>>::new(&PREFACE, key(1), [2; 32]);
    let responder = <Responder<_>>::new(&PREFACE, key(3), [4; 32]);
    let initiator = initiator.write_first(&[], &mut first).unwrap();
    let (responder, _) = responder.read_first(&first).unwrap();
    let responder = responder.write_second(&[], &mut second).unwrap();
    let (initiator, _) = initiator.read_second(&second).unwrap();
    let ours = initiator.write_third(&[], &mut third).unwrap();
    let (theirs, _) = responder.read_third(&third).unwrap();
    (ours, theirs)
}

fn connections() -> (Connection, Connection) {
    let (ours, theirs) = transports();
    (
        Connection::new(Role::Initiator, ours.sealer, ours.opener, max_body, 0),
        Connection::new(Role::Responder, theirs.sealer, theirs.opener, max_body, 0),
    )
}

/// A small random generator, so that a failing seed tells the whole story.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = count.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}
