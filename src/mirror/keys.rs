//! Who this mirra is: its four secret keys, the root file they make, and the word of one for another.
//!
//! `keys/root` and `keys/head` sign what modules say (who may speak; what is newest), `keys/identity` vouches for
//! `keys/channel`, which the Noise handshake uses. Each file holds 32 bytes. `keys/root-1` is the first root file, whose
//! hash is the authority that every address of a module of this home names.

use std::sync::{Mutex, PoisonError};

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use crate::disk::home::{Home, PrivateDir};
use crate::protocol::message::RouteTag;
use crate::tree::hash::Authority;
use crate::tree::limits::ENVELOPE_MAX;
use crate::tree::signed::{Certificate, Envelope, PublicKey, RootFile};

const DIR: &str = "keys";
const ROOT: &str = "root";
const HEAD: &str = "head";
const IDENTITY: &str = "identity";
const CHANNEL: &str = "channel";
const ROOT_FILE: &str = "root-1";

/// How long a certificate is good, in milliseconds; it is made anew when half of that is over.
const CERTIFICATE_MS: u64 = 365 * 86_400_000;
/// How far back a certificate begins, for peers whose clocks are slow.
const CERTIFICATE_EARLY_MS: u64 = 86_400_000;

/// The keys of a home. Nothing here is ever printed; dropping wipes the secrets.
pub struct Keys {
    root: SigningKey,
    head: SigningKey,
    identity: SigningKey,
    channel: Zeroizing<[u8; 32]>,
    root_file: Envelope,
    authority: Authority,
    certificate: Mutex<Option<(u64, Envelope)>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Keys {
    /// Makes the keys that `home` does not have yet, and opens them.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be made or written, or those that are there are not safe.
    pub fn create(home: &Home) -> Result<Self, Failure> {
        let dir = home.inner().sub(DIR)?;
        for name in [ROOT, HEAD, IDENTITY, CHANNEL] {
            if dir.read_secret(name)?.is_none() {
                let mut secret = Zeroizing::new([0; 32]);
                getrandom::fill(secret.as_mut()).map_err(|e| {
                    let fix = "run it on a system that has getrandom(2)";
                    Failure::new(Exit::Other, "cannot make keys", e.to_string(), fix)
                })?;
                dir.write(name, secret.as_ref())?;
            }
        }
        if dir.read(ROOT_FILE, ENVELOPE_MAX)?.is_none() {
            let (root, head) = (signing(&dir, ROOT)?, signing(&dir, HEAD)?);
            let file = RootFile {
                version: 1,
                epoch: 0,
                threshold: 1,
                root_keys: vec![public(&root)],
                head_keys: vec![public(&head)],
                expires: None,
            };
            dir.write(ROOT_FILE, &Envelope::sign(&file, &[&root]).encode())?;
        }
        Self::open(home)
    }

    /// Opens the keys of `home`.
    ///
    /// # Errors
    /// [`Failure`] when one is missing, damaged, or others than the owner can read it.
    pub fn open(home: &Home) -> Result<Self, Failure> {
        let dir = home.inner().sub(DIR)?;
        let (root, head, identity) = (signing(&dir, ROOT)?, signing(&dir, HEAD)?, signing(&dir, IDENTITY)?);
        let channel = secret(&dir, CHANNEL)?;
        let damaged = |why: String| {
            let what = format!("{} cannot be used", dir.path().join(ROOT_FILE).display());
            Failure::new(Exit::Config, what, why, "restore the keys directory from a backup")
        };
        let bytes = dir.read(ROOT_FILE, ENVELOPE_MAX)?.ok_or_else(|| damaged("it is missing".into()))?;
        let root_file = Envelope::decode(&bytes).map_err(|e| damaged(e.to_string()))?;
        let authority = Authority::of(root_file.payload());
        let file = RootFile::verify_first(&root_file, &authority).map_err(|e| damaged(e.to_string()))?;
        if !file.root_keys.contains(&public(&root)) || !file.head_keys.contains(&public(&head)) {
            return Err(damaged("it names other keys than those beside it".into()));
        }
        Ok(Self { root, head, identity, channel, root_file, authority, certificate: Mutex::new(None) })
    }

    /// The authority of all modules of this home.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The signed first root file, whose hash is the authority.
    #[must_use]
    pub fn root_file(&self) -> &Envelope {
        &self.root_file
    }

    /// Signs root files.
    #[must_use]
    pub fn root(&self) -> &SigningKey {
        &self.root
    }

    /// Signs heads and beats.
    #[must_use]
    pub fn head(&self) -> &SigningKey {
        &self.head
    }

    /// The identity that others pin and allow.
    #[must_use]
    pub fn identity(&self) -> PublicKey {
        public(&self.identity)
    }

    /// The secret X25519 key of the Noise handshake.
    #[must_use]
    pub fn channel_secret(&self) -> &[u8; 32] {
        &self.channel
    }

    /// What this mirra is called on the way of news; it tells nothing of the keys, and stays the same.
    #[must_use]
    pub fn route_tag(&self) -> RouteTag {
        let derived = blake3::derive_key("mirra 2026 route tag", &*self.channel);
        derived.first_chunk().copied().unwrap_or_default()
    }

    /// The public X25519 key of the Noise handshake.
    #[must_use]
    pub fn channel_public(&self) -> [u8; 32] {
        x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(*self.channel)).to_bytes()
    }

    /// The identity's signed word for the channel key, good at `now` (Unix milliseconds) and for half its time after.
    #[must_use]
    pub fn certificate(&self, now: u64) -> Envelope {
        let mut kept = self.certificate.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            // A clock that was set back must not be met with a certificate from its future.
            Some((made, envelope)) if (*made..made.saturating_add(CERTIFICATE_MS / 2)).contains(&now) => {
                envelope.clone()
            }
            _ => {
                let certificate = Certificate {
                    identity: self.identity(),
                    channel: self.channel_public(),
                    not_before: now.saturating_sub(CERTIFICATE_EARLY_MS),
                    not_after: now.saturating_add(CERTIFICATE_MS),
                };
                let envelope = Envelope::sign(&certificate, &[&self.identity]);
                *kept = Some((now, envelope.clone()));
                envelope
            }
        }
    }
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

fn signing(dir: &PrivateDir, name: &str) -> Result<SigningKey, Failure> {
    let bytes = secret(dir, name)?;
    Ok(SigningKey::from_bytes(&bytes))
}

fn secret(dir: &PrivateDir, name: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let wrong = |why| {
        let what = format!("the key {} cannot be used", dir.path().join(name).display());
        Failure::new(Exit::Config, what, why, "restore the keys directory from a backup")
    };
    let bytes = dir.read_secret(name)?.ok_or_else(|| wrong("it is missing"))?;
    if bytes.len() != 32 {
        return Err(wrong("it does not hold 32 bytes"));
    }
    // Filled in place: an array on its way through the stack would not be wiped.
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(&bytes);
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_the_same_and_vouch_for_each_other() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::create(place.path()).unwrap();
        let keys = Keys::create(&home).unwrap();
        let again = Keys::create(&home).unwrap();
        assert_eq!((keys.authority(), keys.identity()), (again.authority(), again.identity()));
        RootFile::verify_first(keys.root_file(), keys.authority()).unwrap();
        let seen = format!("{keys:?}");
        assert!(seen.starts_with("Keys { authority: Authority(") && seen.len() < 60, "{seen}");

        let (now, channel) = (10 * CERTIFICATE_MS, keys.channel_public());
        let first = keys.certificate(now);
        assert_eq!(Certificate::verify(&first, &channel, now), Ok(keys.identity()));
        assert_eq!(keys.certificate(now + CERTIFICATE_MS / 2 - 1), first);
        let later = keys.certificate(now + CERTIFICATE_MS / 2);
        assert!(later != first && Certificate::verify(&later, &channel, now + CERTIFICATE_MS).is_ok());
        assert!(Certificate::verify(&keys.certificate(now), &channel, now).is_ok());
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::create(place.path()).unwrap();
        Keys::create(&home).unwrap();
        let dir = home.inner().sub(DIR).unwrap();
        dir.write(HEAD, &[1; 31]).unwrap();
        assert!(Keys::open(&home).unwrap_err().why.contains("32 bytes"));
        dir.write(HEAD, &[1; 32]).unwrap();
        assert!(Keys::open(&home).unwrap_err().why.contains("other keys"));
        dir.write(ROOT_FILE, b"x").unwrap();
        assert_eq!(Keys::open(&home).unwrap_err().exit, Exit::Config);
    }
}
