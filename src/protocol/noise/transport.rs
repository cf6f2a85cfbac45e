//! The cipher of one direction, and the pair that a finished handshake gives.

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use zeroize::Zeroizing;

use super::symmetric::HashBytes;
use super::{NoiseError, PublicKey};
use crate::protocol::limits::{RECORDS_MAX, REKEY_RECORDS, TAG_LEN};

/// The nonce that only REKEY may use.
const NONCE_REKEY: u64 = u64::MAX;

/// A key with its counter: the CipherState of the Noise text.
///
/// Invariant: no nonce is used twice under one key for sealing, and a failure moves nothing.
/// The cipher wipes its key when dropped.
pub(super) struct CipherState {
    cipher: ChaCha20Poly1305,
    nonce: u64,
}

impl CipherState {
    /// Takes the first 32 bytes of a hash output as the key.
    pub(super) fn from_hash(hash: &HashBytes) -> Self {
        let (key, _) = hash.split_first_chunk::<32>().expect("a hash output has 64 bytes");
        Self { cipher: ChaCha20Poly1305::new(key.into()), nonce: 0 }
    }

    pub(super) fn seal(&mut self, ad: &[u8], body: &mut [u8]) -> Result<[u8; TAG_LEN], NoiseError> {
        let next = self.next_nonce()?;
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce_bytes(self.nonce).into(), ad, body.into())
            .map_err(|_| NoiseError::Exhausted)?;
        self.nonce = next;
        Ok(tag.into())
    }

    pub(super) fn open(&mut self, ad: &[u8], body: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), NoiseError> {
        let next = self.next_nonce()?;
        self.cipher
            .decrypt_inout_detached(&nonce_bytes(self.nonce).into(), ad, body.into(), tag.into())
            .map_err(|_| NoiseError::Tampered)?;
        self.nonce = next;
        Ok(())
    }

    /// REKEY of the Noise text: a new key from the old one; the counter runs on.
    fn rekey(&mut self) -> Result<(), NoiseError> {
        let mut key = Zeroizing::new([0u8; 32]);
        self.cipher
            .encrypt_inout_detached(&nonce_bytes(NONCE_REKEY).into(), &[], (&mut key[..]).into())
            .map_err(|_| NoiseError::Exhausted)?;
        self.cipher = ChaCha20Poly1305::new((&*key).into());
        Ok(())
    }

    fn next_nonce(&self) -> Result<u64, NoiseError> {
        match self.nonce {
            NONCE_REKEY => Err(NoiseError::Exhausted),
            nonce => Ok(nonce + 1),
        }
    }

    #[cfg(test)]
    pub(super) fn at(mut self, nonce: u64) -> Self {
        self.nonce = nonce;
        self
    }

    #[cfg(test)]
    pub(super) fn nonce(&self) -> u64 {
        self.nonce
    }
}

/// Four zero bytes, then the counter in little-endian order.
fn nonce_bytes(nonce: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    if let Some(counter) = bytes.last_chunk_mut() {
        *counter = nonce.to_le_bytes();
    }
    bytes
}

/// What both directions count alike: records, REKEYs, and the end of the road.
struct Direction(CipherState);

impl Direction {
    fn check(&self) -> Result<(), NoiseError> {
        if self.0.nonce < RECORDS_MAX { Ok(()) } else { Err(NoiseError::Exhausted) }
    }

    fn advance(&mut self) -> Result<(), NoiseError> {
        if self.0.nonce.is_multiple_of(REKEY_RECORDS) { self.0.rekey() } else { Ok(()) }
    }
}

/// Seals the records of the sending direction.
pub struct Sealer(Direction);

impl Sealer {
    /// Encrypts `body` where it lies and gives the tag that must follow it.
    pub fn seal(&mut self, body: &mut [u8]) -> Result<[u8; TAG_LEN], NoiseError> {
        self.0.check()?;
        let tag = self.0.0.seal(&[], body)?;
        self.0.advance()?;
        Ok(tag)
    }

    /// Records that may still be sealed.
    pub fn records_left(&self) -> u64 {
        RECORDS_MAX.saturating_sub(self.0.0.nonce)
    }
}

/// Opens the records of the receiving direction.
pub struct Opener(Direction);

impl Opener {
    /// Decrypts `body` where it lies, if `tag` proves it; else leaves it and the counter alone.
    pub fn open(&mut self, body: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), NoiseError> {
        self.0.check()?;
        self.0.0.open(&[], body, tag)?;
        self.0.advance()
    }
}

/// A finished handshake: two directions, its hash, and whom it was made with.
pub struct Transport {
    /// The direction to the peer.
    pub sealer: Sealer,
    /// The direction from the peer.
    pub opener: Opener,
    /// The hash over all of the handshake, the same at both ends and unique to it.
    pub handshake_hash: Vec<u8>,
    /// The peer's static key, proved in the handshake.
    pub remote_key: PublicKey,
}

impl Transport {
    pub(super) fn new(
        sending: CipherState,
        receiving: CipherState,
        handshake_hash: Vec<u8>,
        remote_key: PublicKey,
    ) -> Self {
        let (sealer, opener) = (Sealer(Direction(sending)), Opener(Direction(receiving)));
        Self { sealer, opener, handshake_hash, remote_key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(nonce: u64) -> CipherState {
        CipherState::from_hash(&[7; 64]).at(nonce)
    }

    #[test]
    fn last_nonce_is_never_used() {
        let mut last = state(u64::MAX - 1);
        assert!(last.seal(&[], &mut [1, 2]).is_ok());
        assert_eq!(last.seal(&[], &mut [1, 2]), Err(NoiseError::Exhausted));
        assert_eq!(last.open(&[], &mut [1, 2], &[0; 16]), Err(NoiseError::Exhausted));
        assert_eq!(last.nonce(), u64::MAX);
    }

    #[test]
    fn record_limit_ends_both_directions() {
        let mut sealer = Sealer(Direction(state(RECORDS_MAX - 1)));
        let mut opener = Opener(Direction(state(RECORDS_MAX - 1)));
        let mut body = *b"last";
        let tag = sealer.seal(&mut body).unwrap();
        opener.open(&mut body, &tag).unwrap();
        assert_eq!(&body, b"last");
        assert_eq!(sealer.seal(&mut body), Err(NoiseError::Exhausted));
        assert_eq!(opener.open(&mut body, &tag), Err(NoiseError::Exhausted));
        assert_eq!(sealer.records_left(), 0);
    }

    #[test]
    fn failed_open_changes_neither_counter_nor_bytes() {
        let mut sealer = Sealer(Direction(state(0)));
        let mut opener = Opener(Direction(state(0)));
        let mut body = *b"bytes";
        let tag = sealer.seal(&mut body).unwrap();
        let mut wrong = body;
        wrong[2] ^= 1;
        let before = wrong;
        assert_eq!(opener.open(&mut wrong, &tag), Err(NoiseError::Tampered));
        assert_eq!(wrong, before);
        opener.open(&mut body, &tag).unwrap();
        assert_eq!(&body, b"bytes");
    }

    #[test]
    fn rekey_comes_after_its_records_on_both_sides() {
        let mut sealer = Sealer(Direction(state(REKEY_RECORDS - 2)));
        let mut opener = Opener(Direction(state(REKEY_RECORDS - 2)));
        let mut unkeyed = state(REKEY_RECORDS);
        for turn in 0..4 {
            let mut body = [turn; 9];
            let tag = sealer.seal(&mut body).unwrap();
            if turn == 2 {
                let mut copy = body;
                assert_eq!(unkeyed.open(&[], &mut copy, &tag), Err(NoiseError::Tampered));
            }
            opener.open(&mut body, &tag).unwrap();
            assert_eq!(body, [turn; 9]);
        }
    }

    #[test]
    fn keys_are_wiped_on_drop() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        wiped::<ChaCha20Poly1305>();
        wiped::<x25519_dalek::StaticSecret>();
        wiped::<x25519_dalek::SharedSecret>();
    }
}
