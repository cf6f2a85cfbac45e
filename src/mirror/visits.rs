//! What visitors of the web have asked for and got since this process began: counted there, read by the operator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::status::WebStatus;

/// Milliseconds that are counted together.
const SPAN_MS: u64 = 3_600_000;
/// Spans that are kept of a module: a week.
const SPANS_MAX: usize = 7 * 24;

/// A figure at a point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The bytes of content of one module.
#[derive(Debug, Default)]
struct Taken {
    sum: u64,
    /// By hours, ascending.
    spans: VecDeque<Point>,
}

impl Taken {
    fn add(&mut self, bytes: u64, now_ms: u64) {
        self.sum = self.sum.saturating_add(bytes);
        let at_ms = now_ms / SPAN_MS * SPAN_MS;
        match self.spans.back_mut() {
            // A clock that was set back does not tear the order.
            Some(last) if last.at_ms >= at_ms => last.bytes = last.bytes.saturating_add(bytes),
            _ => self.spans.push_back(Point { at_ms, bytes }),
        }
        if self.spans.len() > SPANS_MAX {
            self.spans.pop_front();
        }
    }
}

/// The counters. They only grow, but for the connections.
#[derive(Debug, Default)]
pub struct Visits {
    connections: AtomicU64,
    turned_away: AtomicU64,
    /// Answers by the first digit of their status: 2, 3, 4 and 5.
    answers: [AtomicU64; 4],
    /// By module.
    taken: Mutex<BTreeMap<String, Taken>>,
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

    /// `bytes` of content of `module` were read for a visitor at `now_ms`, in Unix milliseconds. There are as many names as
    /// modules.
    pub fn took(&self, module: &str, bytes: u64, now_ms: u64) {
        let mut all = self.taken();
        if !all.contains_key(module) {
            all.insert(module.to_owned(), Taken::default());
        }
        if let Some(taken) = all.get_mut(module) {
            taken.add(bytes, now_ms);
        }
    }

    /// Bytes of content of `module` so far.
    #[must_use]
    pub fn bytes(&self, module: &str) -> u64 {
        self.taken().get(module).map_or(0, |taken| taken.sum)
    }

    /// Those of the last week, by hours.
    #[must_use]
    pub fn by_hours(&self, module: &str) -> Vec<Point> {
        self.taken().get(module).into_iter().flat_map(|taken| &taken.spans).copied().collect()
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<String, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
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
        visits.took("m", 5, 0);
        visits.took("m", u64::MAX, 0);
        let WebStatus { connections, turned_away, found, redirected, refused, failed } = visits.status();
        assert_eq!((connections, turned_away), (1, 1));
        assert_eq!((found, redirected, refused, failed), (2, 1, 3, 2));
        assert_eq!((visits.bytes("m"), visits.bytes("other")), (u64::MAX, 0));
    }

    #[test]
    fn content_is_counted_by_hours_and_a_week_is_kept() {
        let visits = Visits::default();
        assert!(visits.by_hours("m").is_empty());
        for hour in 0..SPANS_MAX as u64 + 5 {
            visits.took("m", hour, hour * SPAN_MS + 7);
            visits.took("m", 1, hour * SPAN_MS + 9);
        }
        visits.took("other", u64::MAX, 0);
        visits.took("other", 1, 1);
        let kept = visits.by_hours("m");
        assert_eq!(kept.len(), SPANS_MAX);
        assert_eq!(kept.first(), Some(&Point { at_ms: 5 * SPAN_MS, bytes: 6 }));
        visits.took("m", 10, 0);
        assert_eq!(visits.by_hours("m").last().unwrap().bytes, SPANS_MAX as u64 + 4 + 1 + 10);
        assert_eq!(visits.by_hours("other"), [Point { at_ms: 0, bytes: u64::MAX }]);
    }
}
