//! `Noise_XX_25519_ChaChaPoly_BLAKE2b`, exactly, as types that allow one order only.
//!
//! ```text
//! Initiator<SendFirst>  -- message 1: e              ->  Responder<AwaitFirst>
//! Initiator<AwaitSecond> <- message 2: e, ee, s, es --   Responder<SendSecond>
//! Initiator<SendThird>  -- message 3: s, se          ->  Responder<AwaitThird>
//!        Transport                                            Transport
//! ```
//!
//! A payload is `[handshake.payload]`: none in message 1, a hello in messages 2 and 3.
//! Each step takes the state by value, so a failed step leaves nothing to go on with. Random
//! bytes are arguments. Beyond the Noise text one check is made: a Diffie-Hellman result of all
//! zeros, which only points of low order give, is refused.

mod symmetric;
#[cfg(test)]
mod tests;
mod transport;

use std::marker::PhantomData;

use x25519_dalek::{PublicKey as Point, StaticSecret};

pub use symmetric::{Blake2b, Blake2s, NoiseHash};
pub use transport::{Opener, Sealer, Transport};

use super::error::{ProtocolError, Rule};
use super::limits::TAG_LEN;
use symmetric::Symmetric;

/// Length of an X25519 key, public or secret, in bytes.
pub const KEY_LEN: usize = 32;

/// A public X25519 key.
pub type PublicKey = [u8; KEY_LEN];

/// Why a handshake step or a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The message is too short to hold what it must.
    #[error("handshake message too short")]
    Short,
    /// A Diffie-Hellman result is all zeros: a point of low order.
    #[error("point of low order")]
    LowOrderPoint,
    /// The bytes do not open under the key and the nonce that are due.
    #[error("authentication failed")]
    Tampered,
    /// The direction has used up its records.
    #[error("no records left under this handshake")]
    Exhausted,
}

impl From<NoiseError> for ProtocolError {
    fn from(error: NoiseError) -> Self {
        match error {
            NoiseError::Short => Rule::HandshakeLength.into(),
            NoiseError::LowOrderPoint => Rule::LowOrderPoint.into(),
            NoiseError::Tampered => ProtocolError::Tampered,
            NoiseError::Exhausted => ProtocolError::TimedOut { timer: super::error::Timer::Lifetime },
        }
    }
}

/// A secret X25519 key, wiped from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(StaticSecret);

impl SecretKey {
    /// Takes 32 random bytes as a secret key.
    pub fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        Point::from(&self.0).to_bytes()
    }

    fn agree(&self, theirs: &PublicKey) -> Result<x25519_dalek::SharedSecret, NoiseError> {
        let shared = self.0.diffie_hellman(&Point::from(*theirs));
        if shared.was_contributory() { Ok(shared) } else { Err(NoiseError::LowOrderPoint) }
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// The end that dialled, in state `S`.
pub struct Initiator<S, H: NoiseHash = Blake2b> {
    own: Own<H>,
    state: S,
}

/// The end that answers, in state `S`.
pub struct Responder<S, H: NoiseHash = Blake2b> {
    own: Own<H>,
    state: S,
}

/// What both roles hold in every state.
struct Own<H: NoiseHash> {
    symmetric: Symmetric<H>,
    fixed: SecretKey,
    ephemeral: SecretKey,
    hash: PhantomData<H>,
}

/// Message 1 is to be written.
pub struct SendFirst(());
/// Message 2 is awaited.
pub struct AwaitSecond(());
/// Message 2 has been read; its sender may be judged before message 3 is written.
pub struct SendThird {
    remote_ephemeral: PublicKey,
    remote_fixed: PublicKey,
}
/// Message 1 is awaited.
pub struct AwaitFirst(());
/// Message 2 is to be written.
pub struct SendSecond {
    remote_ephemeral: PublicKey,
}
/// Message 3 is awaited.
pub struct AwaitThird(());

impl<H: NoiseHash> Own<H> {
    fn new(prologue: &[u8], fixed: SecretKey, ephemeral: [u8; KEY_LEN]) -> Self {
        let mut symmetric = Symmetric::new();
        symmetric.mix_hash(prologue);
        let ephemeral = SecretKey::from_bytes(ephemeral);
        Self { symmetric, fixed, ephemeral, hash: PhantomData }
    }

    fn write_ephemeral(&mut self, out: &mut Vec<u8>) {
        let public = self.ephemeral.public();
        self.symmetric.mix_hash(&public);
        out.extend_from_slice(&public);
    }

    fn write_fixed(&mut self, out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let public = self.fixed.public();
        self.symmetric.encrypt_and_hash(&public, out)
    }

    fn read_ephemeral<'a>(&mut self, message: &'a [u8]) -> Result<(PublicKey, &'a [u8]), NoiseError> {
        let (key, rest) = message.split_first_chunk().ok_or(NoiseError::Short)?;
        self.symmetric.mix_hash(key);
        Ok((*key, rest))
    }

    fn read_fixed<'a>(&mut self, message: &'a [u8]) -> Result<(PublicKey, &'a [u8]), NoiseError> {
        let (sealed, rest) = message.split_first_chunk::<{ KEY_LEN + TAG_LEN }>().ok_or(NoiseError::Short)?;
        let key = self.symmetric.decrypt_and_hash(sealed)?;
        Ok((*key.first_chunk().ok_or(NoiseError::Short)?, rest))
    }

    /// Mixes the result of one of our secrets with one of their points.
    fn mix(&mut self, secret: Secret, theirs: &PublicKey) -> Result<(), NoiseError> {
        let shared = match secret {
            Secret::Fixed => self.fixed.agree(theirs),
            Secret::Ephemeral => self.ephemeral.agree(theirs),
        }?;
        self.symmetric.mix_key(shared.as_bytes());
        Ok(())
    }
}

enum Secret {
    Fixed,
    Ephemeral,
}

impl<H: NoiseHash> Initiator<SendFirst, H> {
    /// Begins a handshake; `ephemeral` must be fresh random bytes.
    pub fn new(prologue: &[u8], fixed: SecretKey, ephemeral: [u8; KEY_LEN]) -> Self {
        Self { own: Own::new(prologue, fixed, ephemeral), state: SendFirst(()) }
    }

    /// Appends message 1 to `out`. Its payload travels in the clear.
    pub fn write_first(mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Initiator<AwaitSecond, H>, NoiseError> {
        self.own.write_ephemeral(out);
        self.own.symmetric.encrypt_and_hash(payload, out)?;
        Ok(Initiator { own: self.own, state: AwaitSecond(()) })
    }
}

impl<H: NoiseHash> Initiator<AwaitSecond, H> {
    /// Reads message 2 and gives its payload.
    pub fn read_second(mut self, message: &[u8]) -> Result<(Initiator<SendThird, H>, Vec<u8>), NoiseError> {
        let AwaitSecond(()) = self.state;
        let (remote_ephemeral, rest) = self.own.read_ephemeral(message)?;
        self.own.mix(Secret::Ephemeral, &remote_ephemeral)?;
        let (remote_fixed, rest) = self.own.read_fixed(rest)?;
        self.own.mix(Secret::Ephemeral, &remote_fixed)?;
        let payload = self.own.symmetric.decrypt_and_hash(rest)?;
        let state = SendThird { remote_ephemeral, remote_fixed };
        Ok((Initiator { own: self.own, state }, payload))
    }
}

impl<H: NoiseHash> Initiator<SendThird, H> {
    /// The static key the responder has proved to hold.
    pub fn remote_key(&self) -> &PublicKey {
        &self.state.remote_fixed
    }

    /// Appends message 3 to `out` and gives the transport.
    pub fn write_third(mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Transport, NoiseError> {
        self.own.write_fixed(out)?;
        self.own.mix(Secret::Fixed, &self.state.remote_ephemeral)?;
        self.own.symmetric.encrypt_and_hash(payload, out)?;
        let (forth, back) = self.own.symmetric.split();
        let hash = self.own.symmetric.handshake_hash();
        Ok(Transport::new(forth, back, hash, self.state.remote_fixed))
    }
}

impl<H: NoiseHash> Responder<AwaitFirst, H> {
    /// Begins the answering side; `ephemeral` must be fresh random bytes.
    pub fn new(prologue: &[u8], fixed: SecretKey, ephemeral: [u8; KEY_LEN]) -> Self {
        Self { own: Own::new(prologue, fixed, ephemeral), state: AwaitFirst(()) }
    }

    /// Reads message 1 and gives its payload.
    pub fn read_first(mut self, message: &[u8]) -> Result<(Responder<SendSecond, H>, Vec<u8>), NoiseError> {
        let AwaitFirst(()) = self.state;
        let (remote_ephemeral, rest) = self.own.read_ephemeral(message)?;
        let payload = self.own.symmetric.decrypt_and_hash(rest)?;
        Ok((Responder { own: self.own, state: SendSecond { remote_ephemeral } }, payload))
    }
}

impl<H: NoiseHash> Responder<SendSecond, H> {
    /// Appends message 2 to `out`. Anyone may read its payload by dialling.
    pub fn write_second(mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Responder<AwaitThird, H>, NoiseError> {
        let theirs = self.state.remote_ephemeral;
        self.own.write_ephemeral(out);
        self.own.mix(Secret::Ephemeral, &theirs)?;
        self.own.write_fixed(out)?;
        self.own.mix(Secret::Fixed, &theirs)?;
        self.own.symmetric.encrypt_and_hash(payload, out)?;
        Ok(Responder { own: self.own, state: AwaitThird(()) })
    }
}

impl<H: NoiseHash> Responder<AwaitThird, H> {
    /// Reads message 3; gives the transport and the payload.
    pub fn read_third(mut self, message: &[u8]) -> Result<(Transport, Vec<u8>), NoiseError> {
        let AwaitThird(()) = self.state;
        let (remote_fixed, rest) = self.own.read_fixed(message)?;
        self.own.mix(Secret::Ephemeral, &remote_fixed)?;
        let payload = self.own.symmetric.decrypt_and_hash(rest)?;
        let (forth, back) = self.own.symmetric.split();
        let hash = self.own.symmetric.handshake_hash();
        Ok((Transport::new(back, forth, hash, remote_fixed), payload))
    }
}
