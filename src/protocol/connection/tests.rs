//! One honest end against hand-made records, and two honest ends against each other.

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
fn held_messages_stop_credit_and_one_byte_more_ends() {
    let mut bench = Bench::new();
    let body = vec![0; 32 * 1024 - MESSAGE_HEADER_LEN];
    for _ in 0..8 {
        bench.message(1, 1, &body).unwrap();
    }
    assert_eq!(bench.heard(), []);
    let result = bench.data(1, false, &[1]);
    check_ends(&mut bench, result, Rule::CreditExceeded);
}

#[test]
fn released_messages_bring_credit_worth_a_record() {
    let mut bench = Bench::new();
    let body = vec![0; 32 * 1024 - MESSAGE_HEADER_LEN];
    for _ in 0..8 {
        bench.message(1, 1, &body).unwrap();
    }
    for _ in 0..3 {
        bench.honest.release(1, body.len());
        assert_eq!(bench.heard(), []);
    }
    bench.honest.release(1, body.len());
    let seen = bench.heard();
    let [Seen::Credit(1, amount)] = seen[..] else { panic!("{seen:?}") };
    assert!(amount >= CREDIT_INITIAL / 2);
    assert_eq!(bench.honest.committed, u64::from(amount) + 4 * 32 * 1024);
}

#[test]
fn message_longer_than_any_window_is_assembled() {
    let mut bench = Bench::new();
    let body = vec![7; 8 * MIB + 64];
    let mut bytes = vec![1];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&body);
    let (mut credit, mut sent) = (CREDIT_INITIAL as usize, 0);
    while sent < bytes.len() {
        let part = (bytes.len() - sent).min(credit).min(RECORD_BODY_MAX);
        assert!(part > 0, "stands still at {sent}");
        bench.data(1, false, &bytes[sent..sent + part]).unwrap();
        (sent, credit) = (sent + part, credit - part);
        for seen in bench.heard() {
            let Seen::Credit(1, amount) = seen else { panic!("{seen:?}") };
            credit += amount as usize;
        }
    }
    assert!(credit <= STREAM_WINDOW_MAX as usize);
    assert!(matches!(&events(&mut bench.honest)[..],
        [Event::Opened(1), Event::Message { body: got, .. }] if *got == body));
}

#[test]
fn many_half_messages_stay_within_the_connection_bound_and_one_always_moves() {
    let mut bench = Bench::new();
    let total = 4 * MIB;
    let mut header = vec![1];
    header.extend_from_slice(&u32::try_from(total).unwrap().to_be_bytes());
    let ids: Vec<u32> = (0..STREAMS_MAX as u32).map(|n| 2 * n + 1).collect();
    let mut credit: BTreeMap<u32, usize> = BTreeMap::new();
    let mut left: BTreeMap<u32, usize> = BTreeMap::new();
    for id in &ids {
        bench.data(*id, false, &header).unwrap();
        credit.insert(*id, CREDIT_INITIAL as usize - MESSAGE_HEADER_LEN);
        left.insert(*id, total);
    }
    let scrap = vec![0; RECORD_BODY_MAX];
    while left.values().any(|left| *left > 0) {
        let mut moved = 0;
        for id in &ids {
            let part = left[id].min(credit[id]).min(scrap.len());
            if part > 0 {
                bench.data(*id, false, &scrap[..part]).unwrap();
                moved += part;
                *left.get_mut(id).unwrap() -= part;
                *credit.get_mut(id).unwrap() -= part;
            }
        }
        assert!(moved > 0, "stands still with {left:?}");
        let bound = CONNECTION_WINDOW_MAX + (total + MIB) as u64;
        assert!(bench.honest.committed <= bound);
        for event in events(&mut bench.honest) {
            if let Event::Message { stream, body, .. } = event {
                bench.honest.release(stream, body.len());
            }
        }
        for seen in bench.heard() {
            let Seen::Credit(id, amount) = seen else { panic!("{seen:?}") };
            *credit.get_mut(&id).unwrap() += amount as usize;
        }
    }
}

#[test]
fn credit_is_obeyed_by_the_sender() {
    let mut bench = Bench::new();
    bench.message(1, 1, b"go").unwrap();
    bench.honest.send(1, 1, vec![5; MIB]).unwrap();
    let sent =
        |seen: Vec<Seen>| -> usize { seen.iter().map(|s| if let Seen::Data(_, _, b) = s { b.len() } else { 0 }).sum() };
    assert_eq!(sent(bench.heard()), CREDIT_INITIAL as usize);
    assert_eq!(bench.honest.pending(1), MIB + MESSAGE_HEADER_LEN - CREDIT_INITIAL as usize);
    bench.say(Record::Credit { stream: 1, amount: CREDIT_MIN }).unwrap();
    assert_eq!(sent(bench.heard()), CREDIT_MIN as usize);
}

#[test]
fn tiny_grants_end_unless_the_direction_is_ending() {
    for amount in [0, 1, CREDIT_MIN - 1] {
        let mut bench = Bench::new();
        bench.message(1, 1, b"go").unwrap();
        let result = bench.say(Record::Credit { stream: 1, amount });
        check_ends(&mut bench, result, Rule::CreditTiny);
    }
    let mut bench = Bench::new();
    bench.message(1, 1, b"go").unwrap();
    bench.honest.send(1, 1, vec![5; MIB]).unwrap();
    bench.honest.finish(1).unwrap();
    bench.say(Record::Credit { stream: 1, amount: 1 }).unwrap();
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
fn unknown_high_tags_are_skipped_at_the_cost_of_credit_only() {
    let mut bench = Bench::new();
    let mut credit = CREDIT_INITIAL as usize - MESSAGE_HEADER_LEN;
    bench.data(1, false, &[200, 0x00, 0xa0, 0, 0]).unwrap();
    let (mut left, scrap) = (0xa0_0000, vec![0; RECORD_BODY_MAX]);
    while left > 0 {
        let part = credit.min(left).min(scrap.len());
        assert!(part > 0, "stands still with {left}");
        bench.data(1, false, &scrap[..part]).unwrap();
        (left, credit) = (left - part, credit - part);
        for seen in bench.heard() {
            let Seen::Credit(1, amount) = seen else { panic!("{seen:?}") };
            credit += amount as usize;
        }
    }
    bench.message(1, 2, b"after").unwrap();
    let expected = [Event::Opened(1), Event::Message { stream: 1, tag: 2, body: b"after".to_vec() }];
    assert_eq!(events(&mut bench.honest), expected);
}

#[test]
fn data_under_way_to_a_reset_stream_is_dropped_up_to_its_credit() {
    let mut bench = Bench::new();
    bench.message(1, 1, b"go").unwrap();
    bench.honest.reset(1, 77);
    assert_eq!(bench.heard(), [Seen::Reset(1, 77)]);
    let scrap = vec![0; 64 * 1024 - 32];
    for _ in 0..4 {
        bench.data(1, false, &scrap).unwrap();
    }
    bench.data(1, true, &[]).unwrap();
    let result = bench.data(1, false, &scrap);
    check_ends(&mut bench, result, Rule::StreamEnded);
    assert_eq!(events(&mut bench.honest).len(), 2);
}

#[test]
fn too_many_unreleased_messages_close_the_tap() {
    let mut bench = Bench::new();
    let tiny = [1, 0, 0, 0, 0].repeat(MESSAGES_HELD_MAX / 2);
    for part in tiny.chunks(RECORD_BODY_MAX) {
        bench.data(1, false, part).unwrap();
        bench.data(3, false, part).unwrap();
    }
    assert!(!bench.honest.wants_input());
    bench.pass(2 * SILENCE_MS_MAX, false).unwrap();
    for event in events(&mut bench.honest) {
        if let Event::Message { stream, body, .. } = event {
            bench.honest.release(stream, body.len());
        }
    }
    assert!(bench.honest.wants_input());
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
fn own_control_messages_keep_a_pace_that_never_floods_the_peer() {
    let mut bench = Bench::new();
    for _ in 0..2 * CONTROL_BURST {
        bench.honest.send(0, 1, Vec::new()).unwrap();
    }
    let mut heard = bench.heard().len();
    assert_eq!(heard, CONTROL_BURST as usize / 2);
    while heard < 2 * CONTROL_BURST as usize {
        assert!(!bench.honest.has_output());
        let next_ms = bench.honest.next_timeout().unwrap();
        assert!(next_ms > bench.now_ms && next_ms <= bench.now_ms + 40);
        bench.now_ms = next_ms;
        bench.honest.handle_timeout(next_ms).unwrap();
        let more = bench.heard();
        assert!(!more.is_empty());
        heard += more.len();
    }
}

#[test]
fn silence_is_asked_about_then_ends() {
    let mut bench = Bench::new();
    bench.pass(PING_IDLE_MS - 1000, false).unwrap();
    bench.now_ms = PING_IDLE_MS;
    bench.honest.handle_timeout(PING_IDLE_MS).unwrap();
    let seen = bench.heard();
    let [Seen::Ping(token)] = seen[..] else { panic!("{seen:?}") };
    bench.say(Record::Pong { token }).unwrap();
    bench.pass(SILENCE_MS_MAX - 1000, false).unwrap();
    let ended = bench.pass(1000, false);
    assert_eq!(ended, Err(ProtocolError::TimedOut { timer: Timer::Silence }));
    assert_eq!(bench.heard(), [Seen::Close(close::TIMED_OUT)]);

    let mut bench = Bench::new();
    bench.pass(60 * 60 * 1000, true).unwrap();
}

#[test]
fn peer_that_does_not_drain_or_grant_ends() {
    let mut bench = Bench::new();
    bench.honest.send(0, 1, vec![0; 100]).unwrap();
    let mut wire = Vec::new();
    bench.honest.poll_transmit(0, &mut wire, usize::MAX);
    bench.honest.handle_timeout(0).unwrap();
    bench.honest.handle_timeout(DRAIN_SPAN_MS - 1).unwrap();
    let ended = bench.honest.handle_timeout(DRAIN_SPAN_MS);
    assert_eq!(ended, Err(ProtocolError::TimedOut { timer: Timer::Drain }));

    let mut bench = Bench::new();
    bench.message(1, 1, b"go").unwrap();
    bench.honest.send(1, 1, vec![0; MIB]).unwrap();
    bench.heard();
    bench.pass(CREDIT_STALL_MS_MAX, true).unwrap();
    let ended = bench.pass(2000, true);
    assert_eq!(ended, Err(ProtocolError::TimedOut { timer: Timer::Credit }));
}

#[test]
fn old_connection_closes_in_order() {
    let mut bench = Bench::new();
    bench.now_ms = LIFETIME_MS_MAX;
    bench.say(Record::Ping { token: [7; 8] }).unwrap();
    bench.honest.handle_timeout(LIFETIME_MS_MAX).unwrap();
    assert_eq!(bench.heard(), [Seen::Pong([7; 8]), Seen::Close(close::LIFETIME)]);
    assert_eq!(events(&mut bench.honest), [Event::Closed(close::LIFETIME)]);
    assert_eq!(bench.honest.next_timeout(), None);
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
