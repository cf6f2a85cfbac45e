//! A recorded session with something done to it on the way.

use mirra::protocol::connection::{Connection, Event, Priority};
use mirra::protocol::error::ProtocolError;

use super::{Dice, connections};

/// What one side says in a session: every type of record, in order.
fn record() -> (Vec<Vec<u8>>, Vec<Event>) {
    let (mut ours, mut theirs) = connections();
    let mut dice = Dice(3);
    let mut wire = Vec::new();
    let first = ours.open(Priority::Bulk, 1, dice.bytes(300)).unwrap();
    ours.send(0, 2, b"control".to_vec()).unwrap();
    ours.poll_transmit(0, &mut wire, usize::MAX);
    ours.set_record_size(1024);
    ours.send(first, 3, dice.bytes(3000)).unwrap();
    ours.send(first, 200, dice.bytes(100)).unwrap();
    ours.finish(first).unwrap();
    let second = ours.open(Priority::Live, 4, dice.bytes(10)).unwrap();
    ours.poll_transmit(0, &mut wire, usize::MAX);
    ours.reset(second, 9);
    ours.poll_transmit(0, &mut wire, usize::MAX);
    ours.transmitted(0, wire.len());
    ours.handle_timeout(30_000).unwrap();
    ours.close(1);
    ours.poll_transmit(30_000, &mut wire, usize::MAX);
    let records = split(&wire);
    assert!(records.len() >= 9, "{}", records.len());
    let events = feed(&mut theirs, &mut wire).1;
    (records, events)
}

fn split(mut wire: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while let Some(field) = wire.first_chunk::<2>() {
        let (record, rest) = wire.split_at(2 + usize::from(u16::from_be_bytes(*field)));
        records.push(record.to_vec());
        wire = rest;
    }
    records
}

/// Feeds all bytes and then their end.
fn feed(peer: &mut Connection, wire: &mut [u8]) -> (Result<(), ProtocolError>, Vec<Event>) {
    let result = peer.handle_input(0, wire).and_then(|()| peer.handle_eof());
    (result, std::iter::from_fn(|| peer.poll_event()).collect())
}

/// Checks that a changed session ends with an error and gives nothing but a part of the truth.
fn check(what: &str, records: &[Vec<u8>], truth: &[Event]) {
    let (_, mut peer) = connections();
    let (result, events) = feed(&mut peer, &mut records.concat());
    assert!(
        matches!(
            result,
            Err(ProtocolError::Tampered | ProtocolError::Truncated) | Err(ProtocolError::PeerMisbehaved { .. })
        ),
        "{what}: {result:?}"
    );
    assert!(events.len() < truth.len(), "{what}");
    assert_eq!(events, truth[..events.len()], "{what}");
}

#[test]
fn untouched_session_is_whole() {
    let (records, truth) = record();
    let (_, mut peer) = connections();
    let (result, events) = feed(&mut peer, &mut records.concat());
    assert_eq!((result, events.len()), (Ok(()), truth.len()));
    assert_eq!(truth.last(), Some(&Event::Closed(1)));
}

#[test]
fn flipped_bits_are_noticed_in_every_record() {
    let (records, truth) = record();
    for index in 0..records.len() {
        let length = records[index].len();
        for place in [0, 1, 2, 3, 6, 7, length / 2, length - 17, length - 16, length - 1] {
            for bit in 0..8 {
                let mut changed = records.clone();
                changed[index][place] ^= 1 << bit;
                check(&format!("record {index}, byte {place}, bit {bit}"), &changed, &truth);
            }
        }
    }
}

#[test]
fn cuts_are_noticed_at_every_byte_class_of_every_record() {
    let (records, truth) = record();
    for index in 0..records.len() {
        let length = records[index].len();
        for keep in [0, 1, 2, 3, 7, length / 2, length - 16, length - 1] {
            let mut cut = records[..=index].to_vec();
            cut[index].truncate(keep);
            check(&format!("record {index} cut to {keep}"), &cut, &truth);
            let mut joined = records.clone();
            joined[index].truncate(keep);
            if index + 1 < records.len() {
                check(&format!("record {index} shortened to {keep}"), &joined, &truth);
            }
        }
    }
}

#[test]
fn repeated_swapped_dropped_and_inserted_records_are_noticed() {
    let (records, truth) = record();
    let count = records.len();
    for index in 0..count {
        let mut dropped = records.clone();
        dropped.remove(index);
        check(&format!("record {index} dropped"), &dropped, &truth);
        // What comes after a close is not read at all.
        if index + 1 == count {
            continue;
        }
        let mut repeated = records.clone();
        repeated.insert(index + 1, records[index].clone());
        check(&format!("record {index} repeated"), &repeated, &truth);
        let mut swapped = records.clone();
        swapped.swap(index, index + 1);
        check(&format!("record {index} swapped"), &swapped, &truth);
        let mut inserted = records.clone();
        let mut foreign = vec![0, 30];
        foreign.extend_from_slice(&Dice(index as u64).bytes(30));
        inserted.insert(index, foreign);
        check(&format!("record before {index} inserted"), &inserted, &truth);
    }
}

#[test]
fn records_sent_back_to_their_sender_are_refused() {
    let (records, _) = record();
    let (mut ours, _) = connections();
    assert_eq!(ours.handle_input(0, &mut records.concat()), Err(ProtocolError::Tampered));
}
