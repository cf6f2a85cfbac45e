//! Credit, from both sides of it.

use super::*;

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
