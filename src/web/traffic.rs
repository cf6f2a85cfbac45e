//! How many bytes of content went to visitors, by module and hour, since this process began.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::body::Source;
use super::pages::model::Point;
use crate::mirror::clock::now_ms;
use crate::mirror::visits::Visits;

/// Milliseconds that are counted together.
const SPAN_MS: u64 = 3_600_000;
/// Spans that are kept of a module: a week.
const SPANS_MAX: usize = 7 * 24;

/// The bytes of each module in each span, ascending.
#[derive(Default)]
pub struct Traffic(Mutex<HashMap<String, VecDeque<Point>>>);

impl Traffic {
    /// Notes that `bytes` of `module` went out at `now`, in Unix milliseconds. There are as many names as modules.
    pub fn add(&self, module: &str, bytes: u64, now: u64) {
        let mut all = self.locked();
        if !all.contains_key(module) {
            all.insert(module.to_owned(), VecDeque::new());
        }
        let Some(spans) = all.get_mut(module) else { return };
        let at_ms = now / SPAN_MS * SPAN_MS;
        match spans.back_mut() {
            // A clock that was set back does not tear the order.
            Some(last) if last.at_ms >= at_ms => last.bytes = last.bytes.saturating_add(bytes),
            _ => spans.push_back(Point { at_ms, bytes }),
        }
        if spans.len() > SPANS_MAX {
            spans.pop_front();
        }
    }

    /// What went out of `module`, by spans.
    #[must_use]
    pub fn of(&self, module: &str) -> Vec<Point> {
        self.locked().get(module).into_iter().flatten().copied().collect()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Point>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that is counted as it is read.
pub struct Counted<S> {
    /// What is read.
    pub source: S,
    /// Whose content it is.
    pub module: String,
    /// Where it is counted.
    pub traffic: Arc<Traffic>,
    /// As `traffic`, for the operator.
    pub visits: Arc<Visits>,
}

impl<S: Source> Source for Counted<S> {
    fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>> {
        let next = self.source.next(want)?;
        if let Some(bytes) = &next {
            self.traffic.add(&self.module, bytes.len() as u64, now_ms());
            self.visits.took(&self.module, bytes.len() as u64);
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_by_hours_and_a_week_is_kept() {
        let traffic = Traffic::default();
        assert!(traffic.of("m").is_empty());
        for hour in 0..SPANS_MAX as u64 + 5 {
            traffic.add("m", hour, hour * SPAN_MS + 7);
            traffic.add("m", 1, hour * SPAN_MS + 9);
        }
        traffic.add("other", u64::MAX, 0);
        traffic.add("other", 1, 1);
        let kept = traffic.of("m");
        assert_eq!(kept.len(), SPANS_MAX);
        assert_eq!(kept.first(), Some(&Point { at_ms: 5 * SPAN_MS, bytes: 6 }));
        traffic.add("m", 10, 0);
        assert_eq!(traffic.of("m").last().unwrap().bytes, SPANS_MAX as u64 + 4 + 1 + 10);
        assert_eq!(traffic.of("other"), [Point { at_ms: 0, bytes: u64::MAX }]);
    }
}
