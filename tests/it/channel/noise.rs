//! The handshake against published vectors and against another implementation.

use mirra::protocol::limits::{REKEY_RECORDS, TAG_LEN};
use mirra::protocol::noise::{Blake2b, Blake2s, Initiator, NoiseHash, Responder, SecretKey, Transport};
use mirra::protocol::preface::PREFACE;
use serde_json::Value;

use super::Dice;

const NAME: &str = "Noise_XX_25519_ChaChaPoly_BLAKE2b";

fn hex(value: &Value, field: &str) -> Vec<u8> {
    let text = value[field].as_str().unwrap_or_else(|| panic!("no {field}"));
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

fn key(value: &Value, field: &str) -> [u8; 32] {
    hex(value, field).try_into().unwrap()
}

fn seal(transport: &mut Transport, plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    let tag = transport.sealer.seal(&mut sealed).unwrap();
    sealed.extend_from_slice(&tag);
    sealed
}

fn open(transport: &mut Transport, sealed: &[u8]) -> Option<Vec<u8>> {
    let (body, tag) = sealed.split_last_chunk::<TAG_LEN>()?;
    let mut plain = body.to_vec();
    transport.opener.open(&mut plain, tag).ok()?;
    Some(plain)
}

fn check_vector<H: NoiseHash>(vector: &Value) {
    let messages: Vec<(Vec<u8>, Vec<u8>)> = vector["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| (hex(message, "payload"), hex(message, "ciphertext")))
        .collect();
    let secret = |field| SecretKey::from_bytes(key(vector, field));
    let initiator =
        Initiator::<_, H>::new(&hex(vector, "init_prologue"), secret("init_static"), key(vector, "init_ephemeral"));
    let responder =
        Responder::<_, H>::new(&hex(vector, "resp_prologue"), secret("resp_static"), key(vector, "resp_ephemeral"));
    let [first, second, third, rest @ ..] = &messages[..] else { panic!("too few messages") };

    let mut wire = Vec::new();
    let initiator = initiator.write_first(&first.0, &mut wire).unwrap();
    assert_eq!(wire, first.1);
    let (responder, payload) = responder.read_first(&wire).unwrap();
    assert_eq!(payload, first.0);

    wire.clear();
    let responder = responder.write_second(&second.0, &mut wire).unwrap();
    assert_eq!(wire, second.1);
    let (initiator, payload) = initiator.read_second(&wire).unwrap();
    assert_eq!(payload, second.0);
    assert_eq!(*initiator.remote_key(), secret("resp_static").public());

    wire.clear();
    let mut ours = initiator.write_third(&third.0, &mut wire).unwrap();
    assert_eq!(wire, third.1);
    let (mut theirs, payload) = responder.read_third(&wire).unwrap();
    assert_eq!(payload, third.0);
    assert_eq!(theirs.remote_key, secret("init_static").public());
    assert_eq!(ours.handshake_hash, theirs.handshake_hash);
    if vector["handshake_hash"].is_string() {
        assert_eq!(ours.handshake_hash, hex(vector, "handshake_hash"));
    }

    // The vectors go on in turns; the fourth message is the responder's.
    for (index, (payload, sealed)) in rest.iter().enumerate() {
        let (from, to) = if index % 2 == 0 { (&mut theirs, &mut ours) } else { (&mut ours, &mut theirs) };
        assert_eq!(seal(from, payload), *sealed);
        assert_eq!(open(to, sealed).as_ref(), Some(payload));
    }
}

#[test]
fn published_vectors_are_met_byte_for_byte() {
    let file: Value = serde_json::from_str(include_str!("../../vectors/noise-xx.json")).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    let mut seen = [0, 0];
    for vector in vectors {
        if vector["protocol_name"] == Blake2b::NAME {
            check_vector::<Blake2b>(vector);
            seen[0] += 1;
        } else if vector["protocol_name"] == Blake2s::NAME {
            check_vector::<Blake2s>(vector);
            seen[1] += 1;
        }
    }
    assert_eq!(seen, [2, 2]);
}

fn foreign(secret: &[u8; 32]) -> snow::Builder<'_> {
    let builder = snow::Builder::new(NAME.parse().unwrap());
    builder.prologue(&PREFACE).unwrap().local_private_key(secret).unwrap()
}

fn read_foreign(state: &mut snow::HandshakeState, message: &[u8]) -> Option<Vec<u8>> {
    let mut payload = vec![0; 65_535];
    let count = state.read_message(message, &mut payload).ok()?;
    payload.truncate(count);
    Some(payload)
}

fn write_foreign(state: &mut snow::HandshakeState, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 65_535];
    let count = state.write_message(payload, &mut message).unwrap();
    message.truncate(count);
    message
}

/// Our initiator with a foreign responder.
fn dial_foreign(dice: &mut Dice) -> (Transport, snow::TransportState) {
    let [ours, theirs] = [[dice.next() as u8; 32], [dice.next() as u8; 32]];
    let ephemeral = dice.bytes(32).try_into().unwrap();
    let (size, other) = (dice.below(900), dice.below(1900));
    let (payload_2, payload_3) = (dice.bytes(other), dice.bytes(size));
    let mut peer = foreign(&theirs).build_responder().unwrap();
    let own = <Initiator<_>>::new(&PREFACE, SecretKey::from_bytes(ours), ephemeral);
    let mut wire = Vec::new();
    let own = own.write_first(&[], &mut wire).unwrap();
    assert_eq!(wire.len(), 32);
    assert_eq!(read_foreign(&mut peer, &wire), Some(Vec::new()));
    let second = write_foreign(&mut peer, &payload_2);
    let (own, payload) = own.read_second(&second).unwrap();
    assert_eq!(payload, payload_2);
    assert_eq!(*own.remote_key(), SecretKey::from_bytes(theirs).public());
    wire.clear();
    let transport = own.write_third(&payload_3, &mut wire).unwrap();
    assert_eq!(read_foreign(&mut peer, &wire), Some(payload_3));
    assert_eq!(transport.handshake_hash, peer.get_handshake_hash());
    assert_eq!(peer.get_remote_static(), Some(&SecretKey::from_bytes(ours).public()[..]));
    (transport, peer.into_transport_mode().unwrap())
}

/// Our responder with a foreign initiator.
fn answer_foreign(dice: &mut Dice) -> (Transport, snow::TransportState) {
    let [ours, theirs] = [[dice.next() as u8; 32], [dice.next() as u8; 32]];
    let ephemeral = dice.bytes(32).try_into().unwrap();
    let size = dice.below(900);
    let (payload_2, payload_3) = (dice.bytes(size), dice.bytes(size / 2));
    let mut peer = foreign(&theirs).build_initiator().unwrap();
    let own = <Responder<_>>::new(&PREFACE, SecretKey::from_bytes(ours), ephemeral);
    let first = write_foreign(&mut peer, &[]);
    let (own, _) = own.read_first(&first).unwrap();
    let mut wire = Vec::new();
    let own = own.write_second(&payload_2, &mut wire).unwrap();
    assert_eq!(read_foreign(&mut peer, &wire), Some(payload_2));
    let third = write_foreign(&mut peer, &payload_3);
    let (transport, payload) = own.read_third(&third).unwrap();
    assert_eq!(payload, payload_3);
    assert_eq!(transport.handshake_hash, peer.get_handshake_hash());
    (transport, peer.into_transport_mode().unwrap())
}

fn check_session(transport: &mut Transport, peer: &mut snow::TransportState, dice: &mut Dice) {
    let mut buffer = vec![0; 65_535];
    for _ in 0..20 {
        let size = dice.below(65_519);
        let plain = dice.bytes(size);
        let sealed = seal(transport, &plain);
        let count = peer.read_message(&sealed, &mut buffer).unwrap();
        assert_eq!(buffer[..count], plain);
        let count = peer.write_message(&plain, &mut buffer).unwrap();
        assert_eq!(open(transport, &buffer[..count]), Some(plain));
    }
}

#[test]
fn sessions_with_a_foreign_implementation_work_in_both_roles() {
    for seed in 0..10 {
        let mut dice = Dice(seed);
        let (mut transport, mut peer) = dial_foreign(&mut dice);
        check_session(&mut transport, &mut peer, &mut dice);
        let (mut transport, mut peer) = answer_foreign(&mut dice);
        check_session(&mut transport, &mut peer, &mut dice);
    }
}

#[test]
fn rekeying_agrees_with_a_foreign_implementation() {
    let mut dice = Dice(99);
    let (mut transport, mut peer) = dial_foreign(&mut dice);
    let mut buffer = [0; 64];
    for round in 0..2 {
        for turn in 0..REKEY_RECORDS {
            let sealed = seal(&mut transport, &turn.to_be_bytes());
            assert_eq!(peer.read_message(&sealed, &mut buffer), Ok(8), "{round} {turn}");
            let count = peer.write_message(b"back", &mut buffer).unwrap();
            assert!(open(&mut transport, &buffer[..count]).is_some(), "{round} {turn}");
        }
        peer.rekey_incoming();
        peer.rekey_outgoing();
    }
    check_session(&mut transport, &mut peer, &mut dice);
}

#[test]
fn every_changed_handshake_bit_is_refused_by_both_implementations() {
    let (ours, theirs) = ([5; 32], [6; 32]);
    let start = || {
        let own = <Initiator<_>>::new(&PREFACE, SecretKey::from_bytes(ours), [7; 32]);
        own.write_first(&[], &mut Vec::new()).unwrap()
    };
    let foreign_start = || {
        let builder = foreign(&ours).fixed_ephemeral_key_for_testing_only(&[7; 32]);
        let mut state = builder.build_initiator().unwrap();
        write_foreign(&mut state, &[]);
        state
    };
    let mut first = Vec::new();
    let own = <Initiator<_>>::new(&PREFACE, SecretKey::from_bytes(ours), [7; 32]);
    let _ = own.write_first(&[], &mut first).unwrap();
    let responder = <Responder<_>>::new(&PREFACE, SecretKey::from_bytes(theirs), [8; 32]);
    let mut second = Vec::new();
    let (responder, _) = responder.read_first(&first).unwrap();
    let _ = responder.write_second(b"hello", &mut second).unwrap();
    assert!(start().read_second(&second).is_ok());
    assert!(read_foreign(&mut foreign_start(), &second).is_some());
    for bit in 0..second.len() * 8 {
        // X25519 ignores the top bit of the ephemeral key, but the hash does not.
        let mut changed = second.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(start().read_second(&changed).is_err(), "bit {bit}");
        assert!(read_foreign(&mut foreign_start(), &changed).is_none(), "bit {bit}");
    }
}

#[test]
fn other_prologue_fails_the_handshake() {
    let mut other = PREFACE;
    other[5] ^= 1;
    let own = <Initiator<_>>::new(&PREFACE, SecretKey::from_bytes([1; 32]), [2; 32]);
    let peer = <Responder<_>>::new(&other, SecretKey::from_bytes([3; 32]), [4; 32]);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let own = own.write_first(&[], &mut first).unwrap();
    let (peer, _) = peer.read_first(&first).unwrap();
    let _ = peer.write_second(&[], &mut second).unwrap();
    assert!(own.read_second(&second).is_err());
}
