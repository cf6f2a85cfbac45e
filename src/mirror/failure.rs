//! How a command ends: an exit code that scripts can rely on and, when it did not work, three lines for a person.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::disk::home::HomeError;

/// The exit codes of the program; they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Exit {
    /// Done; also when there was nothing to do.
    Ok = 0,
    /// An error that no other code names.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The config, the keys or the home are wrong.
    Config = 3,
    /// The other end cannot be reached or does not speak as it should; trying again will not help.
    Connect = 5,
    /// The other end has no such module.
    NoModule = 6,
    /// A signature, a key or a sequence is not the one that is trusted.
    Trust = 7,
    /// Another process owns the home.
    Busy = 8,
    /// The network failed on the way; trying again may help.
    Network = 10,
    /// The local filesystem refused.
    LocalFile = 11,
    /// A module is older than it should be.
    Stale = 12,
    /// The disk has no room.
    NoSpace = 13,
    /// Stopped by the operator.
    Interrupted = 20,
    /// Done, except for what could not be read or written.
    Partial = 23,
    /// Stopped by a guard against losing data.
    Guard = 25,
    /// Took longer than allowed.
    Timeout = 30,
}

impl Exit {
    /// Every code, ascending.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::Other,
        Self::Usage,
        Self::Config,
        Self::Connect,
        Self::NoModule,
        Self::Trust,
        Self::Busy,
        Self::Network,
        Self::LocalFile,
        Self::Stale,
        Self::NoSpace,
        Self::Interrupted,
        Self::Partial,
        Self::Guard,
        Self::Timeout,
    ];

    /// The number that the shell sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        exit.code()
    }
}

impl TryFrom<u8> for Exit {
    type Error = String;
    fn try_from(code: u8) -> Result<Self, Self::Error> {
        Self::ALL.into_iter().find(|exit| exit.code() == code).ok_or_else(|| format!("{code} is no exit code of mirra"))
    }
}

/// Why a command did not work: what, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The code that the program ends with.
    pub exit: Exit,
    /// What did not work.
    pub what: String,
    /// Why.
    pub why: String,
    /// What mends it.
    pub fix: String,
}

impl Failure {
    /// Puts the three together.
    pub fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: why.into(), fix: fix.into() }
    }

    /// The operator stopped it.
    #[must_use]
    pub fn interrupted() -> Self {
        let fix = "run the same command again: it goes on where it stopped";
        Self::new(Exit::Interrupted, "stopped", "it was interrupted", fix)
    }

    /// A local file or directory could not be used.
    #[must_use]
    pub fn local(what: impl Into<String>, source: &io::Error) -> Self {
        let (exit, fix) = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Exit::NoSpace, "make room and try again"),
            io::ErrorKind::NotFound => (Exit::LocalFile, "check how the path is spelled"),
            io::ErrorKind::PermissionDenied => (Exit::LocalFile, "run as a user who may, or change its rights"),
            io::ErrorKind::ReadOnlyFilesystem => (Exit::LocalFile, "choose a place that can be written to"),
            _ => (Exit::LocalFile, "check the path and the disk it is on"),
        };
        Self::new(exit, what, source.to_string(), fix)
    }
}

impl fmt::Display for Failure {
    /// Three lines, whatever the parts hold: other people's text cannot add a line or move the cursor.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n  why: {}\n  fix: {}", Line(&self.what), Line(&self.why), Line(&self.fix))
    }
}

impl std::error::Error for Failure {}

/// Text as one line without control characters.
struct Line<'a>(&'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reorders = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        self.0.chars().try_for_each(|c| match c {
            '\n' | '\t' => f.write_str(" "),
            c if c.is_control() || reorders(c) => write!(f, "{}", c.escape_unicode()),
            c => write!(f, "{c}"),
        })
    }
}

impl From<HomeError> for Failure {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Missing(base) => Self::new(
                Exit::Config,
                "there is no mirra here",
                format!("{} holds no .mirra", base.display()),
                "run mirra init, or name the directory that holds .mirra with -C",
            ),
            HomeError::Unsafe { ref fix, .. } => {
                let fix = fix.clone();
                Self::new(Exit::Config, "the home is not safe to use", error.to_string(), fix)
            }
            HomeError::Busy { .. } => Self::new(
                Exit::Busy,
                "the home is busy",
                error.to_string(),
                "wait until it is done (--timeout makes sync wait longer), or use another home with -C",
            ),
            HomeError::Io { ref source, .. } => Self::local(error.to_string(), source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_three_lines_whatever_a_peer_wrote() {
        let failure = Failure::new(Exit::Trust, "a\nb", "c\x1b[2J", "d\u{202e}");
        assert_eq!(failure.to_string(), "error: a b\n  why: c\\u{1b}[2J\n  fix: d\\u{202e}");
    }

    #[test]
    fn codes_are_stable_and_come_back() {
        let codes: Vec<_> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 20, 23, 25, 30]);
        let json = serde_json::to_string(&Exit::ALL).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Exit>>(&json).unwrap(), Exit::ALL);
        assert!(serde_json::from_str::<Exit>("4").is_err());
    }
}
