//! The symmetric half of a handshake: chaining key, handshake hash, and the key in force.

use std::marker::PhantomData;

use blake2::Digest;
use zeroize::{Zeroize, Zeroizing};

use super::NoiseError;
use super::transport::CipherState;
use crate::protocol::limits::TAG_LEN;

/// The longest hash a Noise name here may have, in bytes.
const HASH_LEN_MAX: usize = 64;
/// The longest input block of such a hash, in bytes.
const BLOCK_LEN_MAX: usize = 128;

/// A hash output; only the first `LEN` bytes of its [`NoiseHash`] are in use.
pub(super) type HashBytes = [u8; HASH_LEN_MAX];

/// A hash function of the Noise text, with the protocol name that it makes.
pub trait NoiseHash {
    /// The full protocol name.
    const NAME: &'static str;
    /// Output length in bytes, 64 at most.
    const LEN: usize;
    /// Input block length in bytes, 128 at most.
    const BLOCK: usize;

    /// Hashes the parts as one string into the first `LEN` bytes.
    fn hash(parts: &[&[u8]]) -> HashBytes;
}

/// The hash that mirra uses.
pub struct Blake2b;

/// The hash of the sister vectors, so that they run against the same code.
pub struct Blake2s;

impl NoiseHash for Blake2b {
    const NAME: &'static str = "Noise_XX_25519_ChaChaPoly_BLAKE2b";
    const LEN: usize = 64;
    const BLOCK: usize = 128;

    fn hash(parts: &[&[u8]]) -> HashBytes {
        digest::<blake2::Blake2b512>(parts)
    }
}

impl NoiseHash for Blake2s {
    const NAME: &'static str = "Noise_XX_25519_ChaChaPoly_BLAKE2s";
    const LEN: usize = 32;
    const BLOCK: usize = 64;

    fn hash(parts: &[&[u8]]) -> HashBytes {
        digest::<blake2::Blake2s256>(parts)
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> HashBytes {
    let mut state = D::new();
    for part in parts {
        state.update(part);
    }
    let mut bytes = [0; HASH_LEN_MAX];
    for (to, from) in bytes.iter_mut().zip(state.finalize()) {
        *to = from;
    }
    bytes
}

/// HMAC of RFC 2104 over the hash; `key` is never longer than a block here.
fn hmac<H: NoiseHash>(key: &[u8], parts: [&[u8]; 2]) -> HashBytes {
    let mut inner = Zeroizing::new([0x36u8; BLOCK_LEN_MAX]);
    let mut outer = Zeroizing::new([0x5cu8; BLOCK_LEN_MAX]);
    for ((i, o), k) in inner.iter_mut().zip(outer.iter_mut()).zip(key) {
        *i ^= k;
        *o ^= k;
    }
    let within = Zeroizing::new(H::hash(&[&inner[..H::BLOCK], parts[0], parts[1]]));
    H::hash(&[&outer[..H::BLOCK], &within[..H::LEN]])
}

/// The two outputs of HKDF that every use here needs.
fn hkdf<H: NoiseHash>(chaining: &[u8], input: &[u8]) -> (HashBytes, HashBytes) {
    let temp = Zeroizing::new(hmac::<H>(chaining, [input, &[]]));
    let first = hmac::<H>(&temp[..H::LEN], [&[1], &[]]);
    let second = hmac::<H>(&temp[..H::LEN], [&first[..H::LEN], &[2]]);
    (first, second)
}

/// The SymmetricState of the Noise text.
pub(super) struct Symmetric<H: NoiseHash> {
    chaining: HashBytes,
    hash: HashBytes,
    cipher: Option<CipherState>,
    kind: PhantomData<H>,
}

impl<H: NoiseHash> Symmetric<H> {
    pub(super) fn new() -> Self {
        let name = H::NAME.as_bytes();
        let hash = if name.len() <= H::LEN {
            let mut padded = [0; HASH_LEN_MAX];
            for (to, from) in padded.iter_mut().zip(name) {
                *to = *from;
            }
            padded
        } else {
            H::hash(&[name])
        };
        Self { chaining: hash, hash, cipher: None, kind: PhantomData }
    }

    pub(super) fn mix_hash(&mut self, data: &[u8]) {
        self.hash = H::hash(&[&self.hash[..H::LEN], data]);
    }

    pub(super) fn mix_key(&mut self, input: &[u8]) {
        let (chaining, key) = hkdf::<H>(&self.chaining[..H::LEN], input);
        let key = Zeroizing::new(key);
        self.chaining.zeroize();
        self.chaining = chaining;
        self.cipher = Some(CipherState::from_hash(&key));
    }

    /// Appends `plain`, sealed when a key is in force.
    pub(super) fn encrypt_and_hash(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let start = out.len();
        out.extend_from_slice(plain);
        let (_, body) = out.split_at_mut(start);
        if let Some(cipher) = &mut self.cipher {
            let tag = cipher.seal(&self.hash[..H::LEN], body)?;
            out.extend_from_slice(&tag);
        }
        let (_, sealed) = out.split_at(start);
        self.mix_hash(sealed);
        Ok(())
    }

    /// Gives the plain bytes of what [`Self::encrypt_and_hash`] wrote.
    pub(super) fn decrypt_and_hash(&mut self, sealed: &[u8]) -> Result<Vec<u8>, NoiseError> {
        let plain = match &mut self.cipher {
            None => sealed.to_vec(),
            Some(cipher) => {
                let (body, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(NoiseError::Short)?;
                let mut plain = body.to_vec();
                cipher.open(&self.hash[..H::LEN], &mut plain, tag)?;
                plain
            }
        };
        self.mix_hash(sealed);
        Ok(plain)
    }

    /// The keys of both directions: the initiator's first.
    pub(super) fn split(&self) -> (CipherState, CipherState) {
        let (first, second) = hkdf::<H>(&self.chaining[..H::LEN], &[]);
        let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
        (CipherState::from_hash(&first), CipherState::from_hash(&second))
    }

    pub(super) fn handshake_hash(&self) -> Vec<u8> {
        self.hash[..H::LEN].to_vec()
    }
}

impl<H: NoiseHash> Drop for Symmetric<H> {
    fn drop(&mut self) {
        self.chaining.zeroize();
        self.hash.zeroize();
    }
}
