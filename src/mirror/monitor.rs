//! What an operation says while it runs, and how it is told to stop.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// What an operation is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for the home or for a free hand.
    Waiting,
    /// Calls the other end.
    Connecting,
    /// Reads the tree here.
    Indexing,
    /// Learns what differs.
    Comparing,
    /// Takes content.
    Fetching,
    /// Makes the snapshot the visible one.
    Publishing,
}

/// Hears of progress. An operation calls it from any thread, often; it must not block.
pub trait Monitor: Send + Sync {
    /// Something else begins; what was counted starts anew.
    fn phase(&self, phase: Phase);

    /// How much there is to do in this phase, as far as known; may be said again with better figures.
    fn total(&self, files: u64, bytes: u64);

    /// So much more is done.
    fn advance(&self, files: u64, bytes: u64);

    /// Something a person should know, in one line.
    fn note(&self, text: &str);

    /// Whether the operator wants it to stop; asked often, answered fast.
    fn cancelled(&self) -> bool;
}

/// The wish to stop, shared by all who have to know.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    /// Nobody wishes it yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wishes it.
    pub fn request(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it is wished.
    #[must_use]
    pub fn requested(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is wished.
    pub fn wait_on(&self) {
        let flag = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.1.wait_while(flag, |wished| !*wished));
    }

    /// Waits until it is wished, or for `time` at most; says whether it is.
    pub fn wait(&self, time: std::time::Duration) -> bool {
        let flag = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(flag, time, |wished| !*wished);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
