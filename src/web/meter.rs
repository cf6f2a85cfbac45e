//! A connection that is given up when its reader takes too little: so many bytes in the time for which it was waited for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What a reader has to take at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time of waiting after which it is asked.
    pub time: Duration,
    /// Bytes a second.
    pub bytes: u64,
}

/// What a reader has taken since it was last asked.
#[derive(Debug)]
struct Account {
    rate: Rate,
    /// For how long it was waited for; the time in which nothing had to be taken does not count.
    waited: Duration,
    since: Option<Instant>,
    taken: u64,
}

impl Account {
    /// It takes nothing at the moment. Gives the time at which it will have been waited for long enough.
    fn wait(&mut self, now: Instant) -> Instant {
        *self.since.get_or_insert(now) + self.rate.time.saturating_sub(self.waited)
    }

    /// It took `bytes`: what goes into the system's own room without waiting is not taken by anybody yet.
    fn take(&mut self, now: Instant, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
            self.taken = self.taken.saturating_add(bytes);
        }
    }

    /// Whether it takes too little; if not, and it was waited for long enough, the count begins anew.
    fn is_short(&mut self, now: Instant) -> bool {
        let waited = self.waited + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if waited < self.rate.time {
            return false;
        }
        let wanted = self.rate.bytes.saturating_mul(self.rate.time.as_secs().max(1));
        let short = self.taken < wanted;
        (self.waited, self.taken) = (Duration::ZERO, 0);
        self.since = self.since.map(|_| now);
        short
    }
}

/// A connection whose reader is watched.
#[derive(Debug)]
pub struct Metered<S> {
    stream: S,
    account: Account,
    alarm: Option<Pin<Box<Sleep>>>,
    /// Is told that it is given up.
    given_up: fn(&S),
}

impl<S> Metered<S> {
    /// Watches the reader of `stream`; `given_up` is called before the error that says so.
    pub fn new(stream: S, rate: Rate, given_up: fn(&S)) -> Self {
        let account = Account { rate, waited: Duration::ZERO, since: None, taken: 0 };
        Self { stream, account, alarm: None, given_up }
    }

    /// Makes the end of the connection one that its reader can tell from an orderly one.
    pub fn give_up(&self) {
        (self.given_up)(&self.stream);
    }

    fn slow(&self) -> Poll<io::Result<usize>> {
        self.give_up();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes too little")))
    }

    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.account.take(now, bytes as u64);
                self.alarm = None;
                // A reader that takes a byte whenever it is about to be asked is waited for all the same.
                if self.account.is_short(now) { self.slow() } else { Poll::Ready(Ok(bytes)) }
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => loop {
                let until = self.account.wait(now);
                let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
                ready!(alarm.as_mut().poll(cx));
                self.alarm = None;
                if self.account.is_short(Instant::now()) {
                    return self.slow();
                }
            },
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A reader that takes `bytes` after each `every` milliseconds of waiting, for 200 s; whether it is given up.
    fn is_cut(bytes: u64, every: u64) -> bool {
        let rate = Rate { time: Duration::from_secs(60), bytes: 1024 };
        let mut account = Account { rate, waited: Duration::ZERO, since: None, taken: 0 };
        let mut now = Instant::now();
        let end = now + Duration::from_secs(200);
        while now < end {
            account.wait(now);
            now += Duration::from_millis(every);
            account.take(now, bytes);
            if account.is_short(now) {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_reader_keeps_up_or_is_cut() {
        for (bytes, every, expected) in [
            (0, 1_000, true),
            (1, 59_000, true),
            (900, 1_000, true),
            (1_100, 1_000, false),
            (16_384, 15_000, false),
            (1 << 20, 10, false),
        ] {
            assert_eq!(is_cut(bytes, every), expected, "{bytes} bytes every {every} ms");
        }
    }

    #[test]
    fn time_in_which_nothing_waits_does_not_count() {
        let rate = Rate { time: Duration::from_secs(60), bytes: 1024 };
        let mut account = Account { rate, waited: Duration::ZERO, since: None, taken: 0 };
        let now = Instant::now();
        account.take(now, 10);
        let later = now + Duration::from_secs(3_600);
        assert!(!account.is_short(later));
        assert_eq!(account.wait(later), later + rate.time);
    }

    #[test]
    fn what_the_system_takes_at_once_does_not_count() {
        let rate = Rate { time: Duration::from_secs(60), bytes: 1024 };
        let mut account = Account { rate, waited: Duration::ZERO, since: None, taken: 0 };
        let now = Instant::now();
        account.take(now, 6 << 20);
        account.wait(now);
        assert!(!account.is_short(now + Duration::from_secs(59)));
        assert!(account.is_short(now + Duration::from_secs(60)));
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_given_up() {
        let rate = Rate { time: Duration::from_millis(20), bytes: 1024 };
        let (mine, other) = tokio::io::duplex(1_000);
        let error = Metered::new(mine, rate, |_| {}).write_all(&[0; 100_000]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(other);
    }

    #[tokio::test]
    async fn a_reader_that_takes_all_gets_all() {
        let rate = Rate { time: Duration::from_secs(60), bytes: 1024 };
        let (mine, mut other) = tokio::io::duplex(1_000);
        let write = async move { Metered::new(mine, rate, |_| {}).write_all(&[7; 100_000]).await };
        let mut all = Vec::new();
        let (written, read) = tokio::join!(write, other.read_to_end(&mut all));
        assert_eq!((written.is_ok(), read.unwrap(), all), (true, 100_000, vec![7; 100_000]));
    }
}
