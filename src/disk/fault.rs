//! A call to the operating system that failed, and where.

use std::fmt::Display;
use std::io;

use rustix::io::Errno;

/// A failed call: what was attempted, on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub struct Fault {
    /// What was attempted, as it stands after "cannot".
    pub operation: &'static str,
    /// The path, escaped for a terminal.
    pub path: String,
    /// What the system answered.
    #[source]
    pub source: io::Error,
}

impl Fault {
    /// For `map_err`: wraps what the system answered.
    pub fn at(operation: &'static str, path: &impl Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, path: path.to_string(), source }
    }

    /// Whether the filesystem or a quota is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        is_full(&self.source)
    }
}

/// Whether an error says that the filesystem or a quota is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Whether an error is `errno`.
pub(super) fn is(error: &io::Error, errno: Errno) -> bool {
    Errno::from_io_error(error) == Some(errno)
}
