//! What only time brings about.

use super::*;

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
