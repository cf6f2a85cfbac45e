//! One honest end against hand-made records, and two honest ends against each other.

mod clocks;
mod credit;

use super::*;
use crate::protocol::error::{Rule, Timer, close};
use crate::protocol::limits::*;
use crate::protocol::noise::{Initiator, Responder, SecretKey, Transport};
use crate::protocol::record::{Record, check_length};

const MIB: usize = 1024 * 1024;

fn bounds(tag: u8) -> Option<u32> {
    (tag < 10).then_some(8 * 1024 * 1024 + 64)
}

fn transports() -> (Transport, Transport) {
    let key = |byte| SecretKey::from_bytes([byte; 32]);
    let initiator = <Initiator<_>>::new(b"p", key(1), [2; 32]);
    let responder = <Responder<_>>::new(b"p", key(3), [4; 32]);
    let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    let initiator = initiator.write_first(&[], &mut first).unwrap();
    let (responder, _) = responder.read_first(&first).unwrap();
    let responder = responder.write_second(&[], &mut second).unwrap();
    let (initiator, _) = initiator.read_second(&second).unwrap();
    let ours = initiator.write_third(&[], &mut third).unwrap();
    let (theirs, _) = responder.read_third(&third).unwrap();
    (ours, theirs)
}

/// An honest responder and the hands of whoever dialled it.
struct Bench {
    honest: Connection,
    sealer: Sealer,
    opener: Opener,
    now_ms: u64,
}

/// A record with its bytes, as the other side sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Data(u32, bool, Vec<u8>),
    Credit(u32, u32),
    Reset(u32, u16),
    Ping(PingToken),
    Pong(PingToken),
    Close(u16),
    Error(u16),
}

impl Bench {
    fn new() -> Self {
        let (ours, theirs) = transports();
        let honest = Connection::new(Role::Responder, theirs.sealer, theirs.opener, bounds, 0);
        Self { honest, sealer: ours.sealer, opener: ours.opener, now_ms: 0 }
    }

    fn say(&mut self, record: Record<'_>) -> Result<(), ProtocolError> {
        let mut wire = Vec::new();
        record.write(&mut self.sealer, &mut wire).unwrap();
        self.honest.handle_input(self.now_ms, &mut wire)
    }

    fn data(&mut self, stream: u32, last: bool, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.say(Record::Data { stream, last, bytes })
    }

    /// Sends a whole message in records of any number.
    fn message(&mut self, stream: u32, tag: u8, body: &[u8]) -> Result<(), ProtocolError> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(body);
        bytes.chunks(RECORD_BODY_MAX).try_for_each(|part| self.data(stream, false, part))
    }

    fn heard(&mut self) -> Vec<Seen> {
        let mut wire = Vec::new();
        self.honest.poll_transmit(self.now_ms, &mut wire, usize::MAX);
        self.honest.transmitted(self.now_ms, wire.len());
        let (mut rest, mut seen) = (&mut wire[..], Vec::new());
        while let Some((field, tail)) = rest.split_first_chunk_mut::<2>() {
            let (sealed, tail) = tail.split_at_mut(check_length(*field).unwrap());
            let (body, tag) = sealed.split_last_chunk_mut().unwrap();
            self.opener.open(body, tag).unwrap();
            seen.push(match Record::parse(body).unwrap() {
                Record::Data { stream, last, bytes } => Seen::Data(stream, last, bytes.to_vec()),
                Record::Credit { stream, amount } => Seen::Credit(stream, amount),
                Record::Reset { stream, code } => Seen::Reset(stream, code),
                Record::Ping { token } => Seen::Ping(token),
                Record::Pong { token } => Seen::Pong(token),
                Record::Close { code } => Seen::Close(code),
                Record::Error { code } => Seen::Error(code),
            });
            rest = tail;
        }
        seen
    }

    /// Lets time pass in steps, answering PINGs if asked to.
    fn pass(&mut self, ms: u64, answering: bool) -> Result<(), ProtocolError> {
        for _ in 0..ms / 1000 {
            self.now_ms += 1000;
            self.honest.handle_timeout(self.now_ms)?;
            for seen in self.heard() {
                if let (Seen::Ping(token), true) = (seen, answering) {
                    self.say(Record::Pong { token })?;
                }
            }
        }
        Ok(())
    }
}

/// Checks that the last thing said ends the connection with `rule`, and that only its bare code
/// is told.
fn check_ends(bench: &mut Bench, result: Result<(), ProtocolError>, rule: Rule) {
    assert_eq!(result, Err(rule.into()));
    let said = bench.heard();
    assert_eq!(said.last(), Some(&Seen::Error(rule.code())));
    assert_eq!(bench.heard(), []);
    assert_eq!(bench.data(1, false, b"x"), Err(rule.into()));
    assert_eq!(bench.honest.send(0, 1, Vec::new()), Err(SendError::Closed));
}

fn events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

#[test]
fn request_and_answer_cross_and_both_ends_forget_the_stream() {
    let mut bench = Bench::new();
    bench.message(1, 3, b"ask").unwrap();
    bench.data(1, true, &[]).unwrap();
    let expected = [Event::Opened(1), Event::Message { stream: 1, tag: 3, body: b"ask".to_vec() }, Event::Finished(1)];
    assert_eq!(events(&mut bench.honest), expected);
    bench.honest.send(1, 4, b"answer".to_vec()).unwrap();
    bench.honest.finish(1).unwrap();
    assert_eq!(bench.heard(), [Seen::Data(1, true, b"\x04\0\0\0\x06answer".to_vec())]);
    bench.honest.release(1, 3);
    assert_eq!((bench.honest.streams.len(), bench.honest.remote_open), (0, 0));
    assert_eq!(bench.honest.committed, 0);
}

#[test]
fn floods_of_small_records_end() {
    let mut bench = Bench::new();
    let result = (0..=PING_BURST).try_for_each(|_| bench.say(Record::Ping { token: [1; 8] }));
    check_ends(&mut bench, result, Rule::FloodPing);

    let mut bench = Bench::new();
    let result = bench.say(Record::Pong { token: [0; 8] });
    check_ends(&mut bench, result, Rule::FloodPing);

    let mut bench = Bench::new();
    let result = (0..=CONTROL_BURST).try_for_each(|_| bench.message(0, 1, b""));
    check_ends(&mut bench, result, Rule::FloodControl);

    let mut bench = Bench::new();
    bench.message(1, 1, b"go").unwrap();
    let result =
        (0..=CREDIT_RECORDS_SPARE).try_for_each(|_| bench.say(Record::Credit { stream: 1, amount: CREDIT_MIN }));
    check_ends(&mut bench, result, Rule::FloodCredit);

    let mut bench = Bench::new();
    let result = (0..=RESET_BURST).try_for_each(|n| {
        bench.message(2 * n + 1, 1, b"go")?;
        bench.say(Record::Reset { stream: 2 * n + 1, code: 1 })
    });
    check_ends(&mut bench, result, Rule::FloodReset);

    let mut bench = Bench::new();
    let id = bench.honest.open(Priority::Live, 1, b"go".to_vec()).unwrap();
    bench.heard();
    bench.say(Record::Reset { stream: id, code: 1 }).unwrap();
    let result = bench.say(Record::Reset { stream: id, code: 1 });
    check_ends(&mut bench, result, Rule::FloodReset);
}

#[test]
fn wrong_streams_end() {
    let check = |stream: u32, rule: Rule| {
        let mut bench = Bench::new();
        bench.message(5, 1, b"go").unwrap();
        let result = bench.message(stream, 1, b"go");
        check_ends(&mut bench, result, rule);
    };
    check(2, Rule::StreamId);
    check(4, Rule::StreamId);
    check(3, Rule::StreamEnded);
    let mut bench = Bench::new();
    let result = (0..=STREAMS_MAX as u32).try_for_each(|n| bench.message(2 * n + 1, 1, b"go"));
    check_ends(&mut bench, result, Rule::StreamCount);

    for record in [
        Record::Credit { stream: 1, amount: CREDIT_MIN },
        Record::Reset { stream: 1, code: 0 },
        Record::Credit { stream: 2, amount: CREDIT_MIN },
        Record::Reset { stream: 2, code: 0 },
    ] {
        let mut bench = Bench::new();
        bench.honest.open(Priority::Bulk, 1, Vec::new()).unwrap();
        let result = bench.say(record);
        check_ends(&mut bench, result, Rule::StreamId);
    }
}

#[test]
fn ends_of_directions_are_kept_to() {
    let mut bench = Bench::new();
    let result = bench.data(1, true, &[]);
    check_ends(&mut bench, result, Rule::RecordBody);

    let mut bench = Bench::new();
    let result = bench.data(1, true, &[1, 0, 0, 0]);
    check_ends(&mut bench, result, Rule::MessageCut);

    let mut bench = Bench::new();
    let result = bench.data(1, true, &[1, 0, 0, 0, 2, 9]);
    check_ends(&mut bench, result, Rule::MessageCut);

    let mut bench = Bench::new();
    bench.data(1, true, &[1, 0, 0, 0, 0]).unwrap();
    let result = bench.data(1, true, &[]);
    check_ends(&mut bench, result, Rule::StreamEnded);
}

#[test]
fn tags_and_lengths_are_judged() {
    let mut bench = Bench::new();
    let result = bench.data(1, false, &[10, 0, 0, 0, 1]);
    check_ends(&mut bench, result, Rule::MessageTag);

    let mut bench = Bench::new();
    let result = bench.data(1, false, &[1, 0xff, 0, 0, 0]);
    check_ends(&mut bench, result, Rule::MessageLength);

    let mut bench = Bench::new();
    let result = bench.data(0, false, &[1, 0, 0, 0x10, 1]);
    check_ends(&mut bench, result, Rule::MessageLength);

    let mut bench = Bench::new();
    bench.data(0, false, &[1, 0, 0, 0x10, 0]).unwrap();
}

#[test]
fn control_comes_before_live_before_bulk_and_streams_take_turns() {
    let mut bench = Bench::new();
    for id in [1, 3, 5] {
        bench.message(id, 1, b"go").unwrap();
    }
    bench.honest.set_record_size(RECORD_BODY_FLOOR);
    bench.honest.set_priority(5, Priority::Live);
    for id in [1, 3, 5] {
        bench.honest.send(id, 1, vec![0; 2 * RECORD_BODY_FLOOR]).unwrap();
    }
    bench.honest.send(0, 2, vec![9]).unwrap();
    let order: Vec<u32> =
        bench.heard().iter().map(|seen| if let Seen::Data(id, ..) = seen { *id } else { panic!("{seen:?}") }).collect();
    assert_eq!(order, [0, 5, 5, 5, 1, 3, 1, 3, 1, 3]);
}

#[test]
fn new_streams_reach_the_wire_in_the_order_of_their_ids() {
    let mut bench = Bench::new();
    let ids = [Priority::Bulk, Priority::Live, Priority::Bulk]
        .map(|priority| bench.honest.open(priority, 1, vec![1, 2]).unwrap());
    assert_eq!(ids, [2, 4, 6]);
    bench.honest.reset(4, 1);
    let seen = bench.heard();
    assert!(matches!(seen[..], [Seen::Data(2, ..), Seen::Data(6, ..)]), "{seen:?}");
    let opened = (0..).map_while(|_| bench.honest.open(Priority::Bulk, 1, vec![]).ok()).count();
    assert_eq!(opened, STREAMS_MAX - 2);
    let refused = bench.honest.open(Priority::Bulk, 1, vec![]);
    assert_eq!(refused, Err(SendError::TooManyStreams));
}

#[test]
fn only_a_close_makes_the_end_of_bytes_an_orderly_one() {
    let mut bench = Bench::new();
    assert_eq!(bench.honest.handle_eof(), Err(ProtocolError::Truncated));
    assert_eq!(bench.heard(), []);

    let mut bench = Bench::new();
    bench.say(Record::Close { code: 9 }).unwrap();
    assert_eq!(bench.honest.handle_eof(), Ok(()));
    assert_eq!(events(&mut bench.honest), [Event::Closed(9)]);

    let mut bench = Bench::new();
    bench.honest.close(close::DONE);
    assert_eq!(bench.heard(), [Seen::Close(close::DONE)]);
    assert_eq!(bench.honest.handle_eof(), Ok(()));

    let mut bench = Bench::new();
    let result = bench.say(Record::Error { code: 0x0301 });
    assert_eq!(result, Err(ProtocolError::PeerClosed { code: 0x0301 }));
    assert_eq!(bench.heard(), []);
}

#[test]
fn short_length_fields_end_before_anything_is_kept() {
    for length in 0..RECORD_LEN_MIN as u16 {
        let mut bench = Bench::new();
        let mut wire = length.to_be_bytes();
        let result = bench.honest.handle_input(0, &mut wire);
        assert_eq!(result, Err(Rule::RecordLength.into()));
        assert_eq!(bench.heard(), [Seen::Error(Rule::RecordLength.code())]);
        assert!(bench.honest.partial.is_empty());
    }
}

#[test]
fn idle_connection_keeps_no_large_buffer() {
    let mut bench = Bench::new();
    let mut wire = Vec::new();
    let bytes = [1, 0, 0, 0xff, 0].iter().chain(&[0; 0xff00]).copied().collect::<Vec<u8>>();
    let record = Record::Data { stream: 1, last: false, bytes: &bytes };
    record.write(&mut bench.sealer, &mut wire).unwrap();
    let (head, tail) = wire.split_at_mut(40_000);
    bench.honest.handle_input(0, head).unwrap();
    assert_eq!(bench.honest.partial.len(), 40_000);
    bench.honest.handle_input(0, tail).unwrap();
    assert_eq!(bench.honest.partial.capacity(), 0);
    assert_eq!(events(&mut bench.honest).len(), 2);
}
