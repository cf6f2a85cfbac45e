//! The first run: a home, its keys, and last its config, so that what broke off is begun again.

use std::path::Path;

use super::config::Server;
use super::config_file::ConfigFile;
use super::failure::{Exit, Failure};
use super::keys::Keys;
use crate::disk::home::{Home, HomeError};
use crate::tree::hash::{Authority, authority_text};
use crate::tree::signed::PublicKey;

/// The public halves of a home's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeys {
    /// Who speaks for the modules of this home: behind `#` in their addresses.
    pub authority: Authority,
    /// Who this mirra is on a connection: what others allow.
    pub identity: PublicKey,
}

impl PublicKeys {
    /// The authority as it stands in addresses.
    #[must_use]
    pub fn authority_text(&self) -> String {
        authority_text(&self.authority)
    }
}

/// Whether `base` holds a complete home.
///
/// # Errors
/// [`Failure`] when there is one that is not safe to use.
pub fn is_ready(base: &Path) -> Result<bool, Failure> {
    match Home::open(base) {
        Ok(home) => ConfigFile::exists(&home),
        Err(HomeError::Missing(_)) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// Makes a home in `base`: keys that nobody else can read, and a config that says `server`.
///
/// # Errors
/// [`Failure`] when there is one already, or it cannot be made.
pub fn init(base: &Path, server: &Server) -> Result<PublicKeys, Failure> {
    let home = Home::create(base)?;
    let _lock = home.lock()?;
    if ConfigFile::exists(&home)? {
        let what = format!("{} is a mirra already", home.base().display());
        let fix = "change its settings in .mirra/Mirra.toml, or choose another directory with -C";
        return Err(Failure::new(Exit::Config, what, "its .mirra holds a config", fix));
    }
    let keys = public_keys(&Keys::create(&home)?);
    ConfigFile::create(&home, server)?.save(&home)?;
    Ok(keys)
}

/// The public keys of the home in `base`.
///
/// # Errors
/// [`Failure`].
pub fn show_keys(base: &Path) -> Result<PublicKeys, Failure> {
    Ok(public_keys(&Keys::open(&Home::open(base)?)?))
}

fn public_keys(keys: &Keys) -> PublicKeys {
    PublicKeys { authority: *keys.authority(), identity: keys.identity() }
}
