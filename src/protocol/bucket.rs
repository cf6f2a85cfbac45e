//! A token bucket on a clock that is an argument.

/// Allows a burst at once and a rate in the long run.
///
/// The level is kept as time: one token is worth the time in which it grows back.
#[derive(Debug, Clone)]
pub struct Bucket {
    token_us: u64,
    full_us: u64,
    level_us: u64,
    filled_ms: u64,
}

impl Bucket {
    /// A full bucket of `burst` tokens, each of which comes back after `token_us` microseconds.
    pub fn new(burst: u32, token_us: u64, now_ms: u64) -> Self {
        let full_us = u64::from(burst).saturating_mul(token_us);
        Self { token_us, full_us, level_us: full_us, filled_ms: now_ms }
    }

    /// A full bucket of `burst` tokens that refills at `per_second`, which is not zero.
    pub fn per_second(burst: u32, per_second: u32, now_ms: u64) -> Self {
        Self::new(burst, 1_000_000 / u64::from(per_second.max(1)), now_ms)
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now_ms: u64) -> bool {
        self.fill(now_ms);
        match self.level_us.checked_sub(self.token_us) {
            Some(rest) => {
                self.level_us = rest;
                true
            }
            None => false,
        }
    }

    /// Milliseconds from its last use until a token is there; zero when one is.
    pub fn wait_ms(&self) -> u64 {
        self.token_us.saturating_sub(self.level_us).div_ceil(1000)
    }

    /// When a token will be there, at the earliest.
    pub fn ready_ms(&self) -> u64 {
        self.filled_ms.saturating_add(self.wait_ms())
    }

    /// Says whether the bucket is as good as new.
    pub fn is_full(&mut self, now_ms: u64) -> bool {
        self.fill(now_ms);
        self.level_us == self.full_us
    }

    fn fill(&mut self, now_ms: u64) {
        let passed_us = now_ms.saturating_sub(self.filled_ms).saturating_mul(1000);
        self.level_us = self.level_us.saturating_add(passed_us).min(self.full_us);
        self.filled_ms = self.filled_ms.max(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut bucket = Bucket::per_second(3, 10, 1_000);
        assert!((0..3).all(|_| bucket.take(1_000)));
        assert!(!bucket.take(1_099));
        assert_eq!(bucket.ready_ms(), 1_100);
        assert!(bucket.take(1_100));
        assert!(!bucket.take(1_100));
        assert!(bucket.is_full(u64::MAX));
    }

    #[test]
    fn clock_running_backwards_gives_nothing() {
        let mut bucket = Bucket::per_second(1, 1, 5_000);
        assert!(bucket.take(5_000));
        assert!(!bucket.take(0));
        assert!(!bucket.take(5_999));
        assert!(bucket.take(6_000));
    }
}
