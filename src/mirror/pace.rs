//! How fast something goes, smoothed, so that what is left of it does not jump with every burst.

use std::time::{Duration, Instant};

/// How far back the rate looks: what happened this long ago counts a third.
const MEMORY: Duration = Duration::from_secs(10);
/// Steps below this are gathered: one burst alone says nothing of the rate.
const STEP: Duration = Duration::from_millis(100);

/// Bytes a second of late. The clock is an argument; time that goes back counts as none.
#[derive(Debug, Clone)]
pub struct Pace {
    began: Instant,
    /// Up to where bytes are part of `smooth`.
    seen: Instant,
    /// Bytes since then.
    waiting: u64,
    /// The mean of all steps, older ones with less weight; the beginning counts as a rate of 0.
    smooth: f64,
}

impl Pace {
    /// Nothing has been done yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { began: now, seen: now, waiting: 0, smooth: 0.0 }
    }

    /// So much more is done.
    pub fn advance(&mut self, now: Instant, bytes: u64) {
        self.waiting = self.waiting.saturating_add(bytes);
        self.step(now);
    }

    /// Bytes a second; 0 at the beginning.
    #[must_use]
    pub fn rate(&mut self, now: Instant) -> u64 {
        self.step(now);
        // What the beginning took from the mean is given back, so that the first seconds are a plain mean.
        let weight = 1.0 - fade(self.seen.saturating_duration_since(self.began));
        if weight > 0.0 { (self.smooth / weight) as u64 } else { 0 }
    }

    /// How long `bytes` more will take; `None` while that cannot be said.
    #[must_use]
    pub fn left(&mut self, now: Instant, bytes: u64) -> Option<Duration> {
        let rate = self.rate(now);
        bytes.checked_div(rate).map(Duration::from_secs)
    }

    fn step(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.seen);
        if time < STEP {
            return;
        }
        let (keep, rate) = (fade(time), self.waiting as f64 / time.as_secs_f64());
        self.smooth = self.smooth * keep + rate * (1.0 - keep);
        (self.seen, self.waiting) = (now, 0);
    }
}

fn fade(time: Duration) -> f64 {
    (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_steady_rate_is_told_from_the_first_second_on() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!((pace.rate(now), pace.left(now, 1)), (0, None));
        for i in 0..60_000 {
            now += MILLI;
            pace.advance(now, 1_000);
            if i > 200 {
                assert!((950_000..=1_050_000).contains(&pace.rate(now)), "{i}: {}", pace.rate(now));
            }
        }
        let left = pace.left(now, 10_000_000).unwrap();
        assert!((9..=11).contains(&left.as_secs()), "{left:?}");
    }

    #[test]
    fn bursts_are_smoothed_and_a_halt_fades() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut all = Vec::new();
        for i in 0..60_000 {
            now += MILLI;
            // 8 MB at once, every two seconds.
            pace.advance(now, if i % 2_000 == 0 { 8_000_000 } else { 0 });
            if i > 20_000 {
                all.push(pace.rate(now));
            }
        }
        assert!(all.iter().all(|rate| (3_000_000..=5_000_000).contains(rate)), "{:?}", all.iter().max());
        let halted = pace.rate(now + 30 * 1_000 * MILLI);
        assert!(halted < 400_000, "{halted}");
        assert_eq!(pace.left(now + Duration::from_secs(3_600), 1), None);
        assert_eq!(pace.rate(now), pace.rate(now));
    }
}
