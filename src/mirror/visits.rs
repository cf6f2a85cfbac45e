//! What visitors of the web have asked for and got since this process began: counted there, read by the operator.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::status::WebStatus;

/// The counters. They only grow, but for the connections.
#[derive(Debug, Default)]
pub struct Visits {
    connections: AtomicU64,
    turned_away: AtomicU64,
    /// Answers by the first digit of their status: 2, 3, 4 and 5.
    answers: [AtomicU64; 4],
    /// Bytes of content, by module.
    bytes: Mutex<BTreeMap<String, u64>>,
}

impl Visits {
    /// A connection was opened.
    pub fn opened(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that was opened has ended.
    pub fn closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// There was no place for a connection.
    pub fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered with the HTTP status `status`.
    pub fn answered(&self, status: u16) {
        let class = usize::from(status / 100).checked_sub(2);
        if let Some(count) = class.and_then(|class| self.answers.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `bytes` of content of `module` were read for a visitor. There are as many names as modules.
    pub fn took(&self, module: &str, bytes: u64) {
        let mut all = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(module) {
            Some(sum) => *sum = sum.saturating_add(bytes),
            None => drop(all.insert(module.to_owned(), bytes)),
        }
    }

    /// Bytes of content of `module` so far.
    #[must_use]
    pub fn bytes(&self, module: &str) -> u64 {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).get(module).copied().unwrap_or(0)
    }

    /// All but the bytes.
    #[must_use]
    pub fn status(&self) -> WebStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [found, redirected, refused, failed] = &self.answers;
        WebStatus {
            connections: count(&self.connections),
            turned_away: count(&self.turned_away),
            found: count(found),
            redirected: count(redirected),
            refused: count(refused),
            failed: count(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_counted_in_its_class_and_bytes_by_module() {
        let visits = Visits::default();
        for status in [200, 206, 304, 404, 416, 429, 500, 503, 0, 100, 199, 600, u16::MAX] {
            visits.answered(status);
        }
        visits.opened();
        visits.opened();
        visits.closed();
        visits.turned_away();
        visits.took("m", 5);
        visits.took("m", u64::MAX);
        let WebStatus { connections, turned_away, found, redirected, refused, failed } = visits.status();
        assert_eq!((connections, turned_away), (1, 1));
        assert_eq!((found, redirected, refused, failed), (2, 1, 3, 2));
        assert_eq!((visits.bytes("m"), visits.bytes("other")), (u64::MAX, 0));
    }
}
