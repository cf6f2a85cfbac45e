//! Who vouches for a tree: root file, head, beat and certificate in their signed envelope.
//!
//! Ed25519 (RFC 8032) over `"mirra/<kind>/v1\0"` and the payload bytes as received; ids cover payloads only, so that
//! a further signature changes no name. Verification is strict: no small-order keys, no second form of a signature.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::codec::{Malformed, bounded, decode_canonical, encode};
use super::entry::{MODE_MASK, Meta, Mtime};
use super::hash::{Authority, HeadId, ModuleId, SnapshotId};
use super::limits::{ENTRIES_MAX, ENVELOPE_MAX, KEYS_MAX, MODULE_NAME_MAX, SIGNATURES_MAX, SIGNED_PAYLOAD_MAX};

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// Why a signed object is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// It does not decode.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Fewer valid signatures of the right keys than the threshold.
    #[error("the {what} has {valid} valid signatures of keys in charge, {needed} are needed")]
    Unsigned {
        /// The object.
        what: &'static str,
        /// Valid ones.
        valid: usize,
        /// The threshold.
        needed: usize,
    },
    /// It speaks of another module than the one that was asked for.
    #[error("the {what} is of another module")]
    OtherModule {
        /// The object.
        what: &'static str,
    },
    /// The root file does not hash to the pinned authority.
    #[error("the authority is not the one that is pinned: the address or the pin names another owner")]
    OtherAuthority,
    /// It does not follow the version, epoch or head that is known.
    #[error("the {what} {why}")]
    Chain {
        /// The object.
        what: &'static str,
        /// What breaks the chain.
        why: &'static str,
    },
    /// Its time is over, or has not come.
    #[error("the {what} is outside its time of validity")]
    Expired {
        /// The object.
        what: &'static str,
    },
}

/// What can be signed: its domain and its rules.
pub trait Payload: Serialize + serde::de::DeserializeOwned {
    /// Name of the kind in the signed domain and in errors.
    const KIND: &'static str;

    /// Checks what the types do not hold.
    ///
    /// # Errors
    /// [`Malformed`] with the broken rule.
    fn check(&self) -> Result<(), Malformed>;
}

/// A payload and its signatures, kept and passed on as the very bytes that were signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// `[envelope.payload]`
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
    /// `[envelope.signatures]`: by ascending key.
    signatures: Vec<(PublicKey, SignatureBytes)>,
}

/// The 64 bytes of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SignatureBytes(#[serde(with = "serde_bytes")] [u8; 64]);

fn message(kind: &str, payload: &[u8]) -> Vec<u8> {
    [b"mirra/", kind.as_bytes(), b"/v1\0", payload].concat()
}

impl Envelope {
    /// Signs `value` with every key.
    #[must_use]
    pub fn sign<T: Payload>(value: &T, keys: &[&SigningKey]) -> Self {
        let payload = encode(value);
        let text = message(T::KIND, &payload);
        let mut signatures: Vec<_> = keys
            .iter()
            .map(|key| (PublicKey(key.verifying_key().to_bytes()), SignatureBytes(key.sign(&text).to_bytes())))
            .collect();
        signatures.sort_by_key(|(key, _)| *key);
        signatures.dedup_by_key(|(key, _)| *key);
        Self { payload, signatures }
    }

    /// Decodes the bytes of an envelope.
    ///
    /// # Errors
    /// [`Malformed`] when they are too many, not canonical, or the keys do not ascend.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        bounded("signed envelope", bytes.len() as u64, ENVELOPE_MAX as u64)?;
        let envelope: Self = decode_canonical("signed envelope", bytes)?;
        bounded("signed payload", envelope.payload.len() as u64, SIGNED_PAYLOAD_MAX as u64)?;
        bounded("signatures", envelope.signatures.len() as u64, SIGNATURES_MAX as u64)?;
        if !envelope.signatures.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Malformed::Rule { what: "signed envelope", rule: "its keys do not ascend" });
        }
        Ok(envelope)
    }

    /// The envelope's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// The payload's bytes, believed or not.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Decodes the payload without believing it: to learn which keys would have to sign.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn unverified<T: Payload>(&self) -> Result<T, Malformed> {
        let value: T = decode_canonical(T::KIND, &self.payload)?;
        value.check()?;
        Ok(value)
    }

    /// Decodes the payload if at least `threshold` of `keys` have signed it.
    ///
    /// # Errors
    /// [`TrustError::Unsigned`] or [`TrustError::Malformed`].
    pub fn verify<T: Payload>(&self, keys: &[PublicKey], threshold: usize) -> Result<T, TrustError> {
        let text = message(T::KIND, &self.payload);
        let valid = self
            .signatures
            .iter()
            .filter(|(key, _)| keys.contains(key))
            .filter(|(key, signature)| {
                VerifyingKey::from_bytes(&key.0)
                    .is_ok_and(|key| key.verify_strict(&text, &Signature::from_bytes(&signature.0)).is_ok())
            })
            .count();
        if valid < threshold.max(1) {
            return Err(TrustError::Unsigned { what: T::KIND, valid, needed: threshold.max(1) });
        }
        Ok(self.unverified()?)
    }
}

/// Who may speak for the modules of a root. Its version 1 is their authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFile {
    /// `[root.version]`: 1, 2, ... without gaps.
    pub version: u64,
    /// `[root.epoch]`: raised to make clients forget sequences that a stolen key has spent.
    pub epoch: u64,
    /// `[root.threshold]`: how many root keys must sign a root file.
    pub threshold: u8,
    /// `[root.keys]`: the root keys, ascending.
    pub root_keys: Vec<PublicKey>,
    /// `[root.head-keys]`: the keys that sign heads and beats, ascending; one signature is enough.
    pub head_keys: Vec<PublicKey>,
    /// `[root.expires]`: Unix milliseconds, or never.
    pub expires: Option<u64>,
}

impl Payload for RootFile {
    const KIND: &'static str = "root";

    fn check(&self) -> Result<(), Malformed> {
        let rule = |rule| Err(Malformed::Rule { what: "root file", rule });
        for keys in [&self.root_keys, &self.head_keys] {
            bounded("keys", keys.len() as u64, KEYS_MAX as u64)?;
            if keys.is_empty() || !keys.is_sorted_by(|a, b| a < b) {
                return rule("its keys are missing or do not ascend");
            }
        }
        if self.version == 0 || self.threshold == 0 || usize::from(self.threshold) > self.root_keys.len() {
            return rule("its version or threshold is out of range");
        }
        Ok(())
    }
}

impl RootFile {
    /// Believes a first root file because it hashes to the pinned authority and has signed itself.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn verify_first(envelope: &Envelope, pinned: &Authority) -> Result<Self, TrustError> {
        if Authority::of(envelope.payload()) != *pinned {
            return Err(TrustError::OtherAuthority);
        }
        let file: Self = envelope.unverified()?;
        if file.version != 1 {
            return Err(TrustError::Chain { what: "root file", why: "is not version 1" });
        }
        envelope.verify(&file.root_keys, usize::from(file.threshold))
    }

    /// Believes the root file after this one: both must have signed it.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn verify_next(&self, envelope: &Envelope) -> Result<Self, TrustError> {
        let next: Self = envelope.verify(&self.root_keys, usize::from(self.threshold))?;
        envelope.verify::<Self>(&next.root_keys, usize::from(next.threshold))?;
        if next.version != self.version + 1 || next.epoch < self.epoch {
            return Err(TrustError::Chain { what: "root file", why: "does not follow the one before it" });
        }
        Ok(next)
    }
}

/// How content and pages are cut, so that a reader with other rules notices before it starts.
pub const FORMAT: u32 = 1;

/// "Module M is at snapshot S, sequence n, at time t."
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `[head.module]`
    pub module: ModuleId,
    /// `[head.name]`: the module's name, 1 to 64 bytes of UTF-8.
    pub name: String,
    /// `[head.epoch]`: that of the root file it was signed under.
    pub epoch: u64,
    /// `[head.sequence]`: max(previous + 1, Unix milliseconds); has gaps.
    pub sequence: u64,
    /// `[head.snapshot]`: the top directory.
    pub snapshot: SnapshotId,
    /// `[head.entries]`: entries below the top directory.
    pub entries: u64,
    /// `[head.bytes]`: bytes of all files.
    pub bytes: u64,
    /// `[head.mode]`: of the top directory.
    pub mode: u16,
    /// `[head.seconds]`: mtime of the top directory.
    pub mtime_seconds: i64,
    /// `[head.nanos]`
    pub mtime_nanos: u32,
    /// `[head.format]`: [`FORMAT`].
    pub format: u32,
    /// `[head.created]`: Unix milliseconds.
    pub created: u64,
    /// `[head.previous]`: the head before this one.
    pub previous: Option<HeadId>,
    /// `[head.allow-delete]`: the owner means the deletions that lead here.
    pub allow_delete: bool,
}

impl Payload for Head {
    const KIND: &'static str = "head";

    fn check(&self) -> Result<(), Malformed> {
        let rule = |rule| Err(Malformed::Rule { what: "head", rule });
        check_module_name(&self.name)?;
        bounded("entries of a tree", self.entries, ENTRIES_MAX)?;
        if self.mode & !MODE_MASK != 0 || self.mtime_nanos >= 1_000_000_000 {
            return rule("its mode or mtime is out of range");
        }
        if self.format != FORMAT {
            return rule("its format is unknown: update mirra");
        }
        Ok(())
    }
}

impl Head {
    /// Mode and mtime of the top directory.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta { mode: self.mode, mtime: Mtime { seconds: self.mtime_seconds, nanos: self.mtime_nanos } }
    }

    /// Checks this head against the newest one known of its module: no way back, and one head for one sequence.
    ///
    /// # Errors
    /// [`TrustError::Chain`] for a rollback or an equivocation.
    pub fn check_follows(&self, id: &HeadId, known: (u64, u64, &HeadId)) -> Result<(), TrustError> {
        let (epoch, sequence, known_id) = known;
        match (self.epoch, self.sequence).cmp(&(epoch, sequence)) {
            std::cmp::Ordering::Less => {
                Err(TrustError::Chain { what: "head", why: "is older than one seen before: a rollback" })
            }
            std::cmp::Ordering::Equal if id != known_id => Err(TrustError::Chain {
                what: "head",
                why: "is another than the one seen with its sequence: the root contradicts itself",
            }),
            _ => Ok(()),
        }
    }
}

/// Checks a module's name: 1 to 64 bytes of ASCII letters, digits, `.`, `_` and `-`, not starting with a dot or dash.
///
/// # Errors
/// [`Malformed::Rule`].
pub fn check_module_name(name: &str) -> Result<(), Malformed> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if name.is_empty() || name.len() > MODULE_NAME_MAX || !plain || name.starts_with(['.', '-']) {
        let rule = "a module's name is 1 to 64 letters, digits, dots, underscores or dashes, and starts with none of the last two but an underscore";
        return Err(Malformed::Rule { what: "module name", rule });
    }
    Ok(())
}

/// "Head n is still the newest", for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// `[beat.module]`
    pub module: ModuleId,
    /// `[beat.epoch]`
    pub epoch: u64,
    /// `[beat.sequence]`: that of the head.
    pub sequence: u64,
    /// `[beat.head]`
    pub head: HeadId,
    /// `[beat.issued]`: Unix milliseconds.
    pub issued: u64,
    /// `[beat.expires]`: Unix milliseconds.
    pub expires: u64,
}

impl Payload for Beat {
    const KIND: &'static str = "beat";

    fn check(&self) -> Result<(), Malformed> {
        if self.expires <= self.issued {
            return Err(Malformed::Rule { what: "beat", rule: "it expires before it is issued" });
        }
        Ok(())
    }
}

/// An identity's word that a channel key is its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// `[certificate.identity]`: the Ed25519 key that signs this certificate.
    pub identity: PublicKey,
    /// `[certificate.channel]`: the X25519 key of the Noise handshake.
    #[serde(with = "serde_bytes")]
    pub channel: [u8; 32],
    /// `[certificate.not-before]`: Unix milliseconds.
    pub not_before: u64,
    /// `[certificate.not-after]`: Unix milliseconds.
    pub not_after: u64,
}

impl Payload for Certificate {
    const KIND: &'static str = "certificate";

    fn check(&self) -> Result<(), Malformed> {
        if self.not_after <= self.not_before {
            return Err(Malformed::Rule { what: "certificate", rule: "it ends before it begins" });
        }
        Ok(())
    }
}

impl Certificate {
    /// The identity behind `channel` at time `now` (Unix milliseconds).
    ///
    /// # Errors
    /// [`TrustError`] when it is not signed by its identity, is of another channel key, or out of time.
    pub fn verify(envelope: &Envelope, channel: &[u8; 32], now: u64) -> Result<PublicKey, TrustError> {
        let claimed: Self = envelope.unverified()?;
        let certificate: Self = envelope.verify(&[claimed.identity], 1)?;
        if certificate.channel != *channel {
            return Err(TrustError::Chain { what: "certificate", why: "is of another channel key" });
        }
        if now < certificate.not_before || now >= certificate.not_after {
            return Err(TrustError::Expired { what: "certificate" });
        }
        Ok(certificate.identity)
    }
}
