//! Points of low order in every place where a peer can put one.

use super::*;

/// Every string that X25519 reads as a point of low order: seven, each with and without the top
/// bit, which it ignores.
fn low_order_points() -> Vec<PublicKey> {
    let hex = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let bytes = |hex: &str| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
    let low = hex.map(|hex| PublicKey::try_from(bytes(hex)).unwrap());
    let high = low.map(|mut point| {
        point[31] |= 0x80;
        point
    });
    [low, high].concat()
}

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes([byte; KEY_LEN])
}

fn initiator() -> Initiator<SendFirst> {
    Initiator::new(b"p", key(1), [2; KEY_LEN])
}

fn responder() -> Responder<AwaitFirst> {
    Responder::new(b"p", key(3), [4; KEY_LEN])
}

/// Writes `point` in the place of an ephemeral key.
fn put_ephemeral(own: &mut Own<Blake2b>, point: &PublicKey, out: &mut Vec<u8>) {
    own.symmetric.mix_hash(point);
    out.extend_from_slice(point);
}

#[test]
fn low_order_ephemeral_in_message_1_is_refused() {
    for point in low_order_points() {
        let (ready, _) = responder().read_first(&point).unwrap();
        let error = ready.write_second(&[], &mut Vec::new()).err();
        assert_eq!(error, Some(NoiseError::LowOrderPoint), "{point:?}");
    }
}

#[test]
fn low_order_ephemeral_in_message_2_is_refused() {
    for point in low_order_points() {
        let waiting = initiator().write_first(&[], &mut Vec::new()).unwrap();
        let mut second = point.to_vec();
        second.extend_from_slice(&[0; 64]);
        assert_eq!(waiting.read_second(&second).err(), Some(NoiseError::LowOrderPoint));
    }
}

#[test]
fn low_order_static_in_message_2_is_refused() {
    for point in low_order_points() {
        let mut first = Vec::new();
        let waiting = initiator().write_first(&[], &mut first).unwrap();
        let (mut liar, _) = responder().read_first(&first).unwrap();
        let theirs = liar.state.remote_ephemeral;
        let mut second = Vec::new();
        liar.own.write_ephemeral(&mut second);
        liar.own.mix(Secret::Ephemeral, &theirs).unwrap();
        liar.own.symmetric.encrypt_and_hash(&point, &mut second).unwrap();
        liar.own.symmetric.mix_key(&[0; 32]);
        liar.own.symmetric.encrypt_and_hash(&[], &mut second).unwrap();
        assert_eq!(waiting.read_second(&second).err(), Some(NoiseError::LowOrderPoint));
    }
}

#[test]
fn low_order_static_in_message_3_is_refused() {
    for point in low_order_points() {
        let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
        let waiting = initiator().write_first(&[], &mut first).unwrap();
        let (ready, _) = responder().read_first(&first).unwrap();
        let expecting = ready.write_second(&[], &mut second).unwrap();
        let (mut liar, _) = waiting.read_second(&second).unwrap();
        liar.own.symmetric.encrypt_and_hash(&point, &mut third).unwrap();
        liar.own.symmetric.mix_key(&[0; 32]);
        liar.own.symmetric.encrypt_and_hash(&[], &mut third).unwrap();
        assert_eq!(expecting.read_third(&third).err(), Some(NoiseError::LowOrderPoint));
    }
}

#[test]
fn crafted_messages_are_right_but_for_the_point() {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut start = initiator();
    let honest = start.own.ephemeral.public();
    put_ephemeral(&mut start.own, &honest, &mut first);
    start.own.symmetric.encrypt_and_hash(&[], &mut first).unwrap();
    let waiting = Initiator { own: start.own, state: AwaitSecond(()) };
    let (ready, _) = responder().read_first(&first).unwrap();
    ready.write_second(b"x", &mut second).unwrap();
    assert_eq!(waiting.read_second(&second).unwrap().1, b"x");
}

#[test]
fn short_messages_are_refused_not_read_beyond() {
    for length in 0..32 {
        assert_eq!(responder().read_first(&vec![9; length]).err(), Some(NoiseError::Short));
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let _ = initiator().write_first(&[], &mut first).unwrap();
    let (ready, _) = responder().read_first(&first).unwrap();
    ready.write_second(&[], &mut second).unwrap();
    for length in 0..second.len() {
        let waiting = initiator().write_first(&[], &mut Vec::new()).unwrap();
        assert!(waiting.read_second(&second[..length]).is_err());
    }
}
