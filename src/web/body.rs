//! What an answer carries: nothing, some bytes, or a stream that is read from the disk as fast as it is taken.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::limits::{CHUNK_MAX, CHUNK_MIN, FAST, FAST_MAX, PROVEN, READS_MAX};

/// Where a stream comes from. It is read on threads that may wait for the disk.
pub trait Source: Send + 'static {
    /// The next bytes, about `want` of them; `None` at the end. An error ends the connection, so that nobody takes what
    /// came for the whole.
    ///
    /// # Errors
    /// Whatever keeps it from going on.
    fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>>;
}

/// The body of an answer.
pub enum Body {
    /// Nothing.
    Empty,
    /// Bytes that are here.
    Bytes(Bytes),
    /// Bytes that are not.
    Stream(Streamed),
}

/// What all streams share.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// What is read at the same time.
    reads: Arc<Semaphore>,
    /// Those that are read for by more than the smallest chunk.
    fast: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        let [reads, fast] = [READS_MAX, FAST_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Self { reads, fast }
    }
}

/// A stream with at most one small chunk in memory for a slow reader, and two large ones for a fast one.
pub struct Streamed {
    state: State,
    lanes: Lanes,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    chunk: usize,
    /// Bytes that were given.
    taken: u64,
    /// Its place among the fast ones, as long as it reads more than the least.
    lane: Option<OwnedSemaphorePermit>,
    given: Option<Instant>,
}

enum State {
    Idle(Box<dyn Source>),
    Reading(Reading),
    Over,
}

type Read = (Box<dyn Source>, io::Result<Option<Vec<u8>>>);
type Reading = Pin<Box<dyn Future<Output = io::Result<Read>> + Send>>;

impl Streamed {
    /// Streams `source`, which gives exactly `len` bytes if that is known.
    #[must_use]
    pub fn new(source: Box<dyn Source>, len: Option<u64>, lanes: Lanes) -> Self {
        Self { state: State::Idle(source), lanes, left: len, chunk: CHUNK_MIN, taken: 0, lane: None, given: None }
    }

    /// Starts the next read while the last is on its way, if there is a hand free.
    fn read_ahead(&mut self, source: Box<dyn Source>) {
        self.state = match self.lanes.reads.clone().try_acquire_owned() {
            Ok(place) if self.chunk == CHUNK_MAX => {
                let reading = spawn_blocking(read(source, self.chunk, place));
                State::Reading(Box::pin(async { reading.await.map_err(io::Error::other) }))
            }
            _ => State::Idle(source),
        };
    }

    /// Reads more at once for who comes back soon, if there is a place among those.
    fn adapt(&mut self) {
        let Some(given) = self.given.take() else { return };
        if given.elapsed() >= FAST {
            self.chunk = (self.chunk / 2).max(CHUNK_MIN);
            self.lane = self.lane.take().filter(|_| self.chunk > CHUNK_MIN);
            return;
        }
        if self.taken < PROVEN {
            return;
        }
        self.lane = self.lane.take().or_else(|| self.lanes.fast.clone().try_acquire_owned().ok());
        if self.lane.is_some() {
            self.chunk = (self.chunk * 2).min(CHUNK_MAX);
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.adapt();
        let mut reading = match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return Poll::Ready(None),
            State::Reading(reading) => reading,
            State::Idle(source) => {
                let (reads, chunk) = (self.lanes.reads.clone(), self.chunk);
                Box::pin(async move {
                    let place = reads.acquire_owned().await.map_err(io::Error::other)?;
                    spawn_blocking(read(source, chunk, place)).await.map_err(io::Error::other)
                })
            }
        };
        let Poll::Ready(done) = reading.as_mut().poll(cx) else {
            self.state = State::Reading(reading);
            return Poll::Pending;
        };
        let bytes = match done {
            Ok((source, Ok(Some(bytes)))) => {
                self.taken = self.taken.saturating_add(bytes.len() as u64);
                self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                if self.left != Some(0) {
                    self.read_ahead(source);
                }
                Some(Ok(Bytes::from(bytes)))
            }
            Ok((_, Ok(None))) if self.left.is_none_or(|left| left == 0) => None,
            Ok((_, Ok(None))) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok((_, Err(error))) | Err(error) => Some(Err(error)),
        };
        self.given = Some(Instant::now());
        Poll::Ready(bytes)
    }
}

fn read(mut source: Box<dyn Source>, want: usize, place: OwnedSemaphorePermit) -> impl FnOnce() -> Read {
    move || {
        let read = source.next(want);
        drop(place);
        (source, read)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => {
                let next = ready!(stream.poll_next(cx));
                if let Some(Err(error)) = &next {
                    tracing::info!(%error, "an answer is broken off");
                }
                Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Stream(stream) => stream.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    struct Endless;

    impl Source for Endless {
        fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>> {
            Ok(Some(vec![0; want]))
        }
    }

    /// The length of what comes at the `times`-th asking without a pause.
    async fn chunk_after(times: usize, stream: &mut Streamed) -> usize {
        let mut len = 0;
        for _ in 0..times {
            len = poll_fn(|cx| stream.poll_next(cx)).await.unwrap().unwrap().len();
        }
        len
    }

    #[tokio::test]
    async fn so_many_readers_are_fast_and_no_more() {
        let lanes = Lanes::default();
        let new = || Streamed::new(Box::new(Endless), None, lanes.clone());
        let mut fast: Vec<Streamed> = (0..FAST_MAX).map(|_| new()).collect();
        for stream in &mut fast {
            assert_eq!(chunk_after(32, stream).await, CHUNK_MAX);
        }
        let mut late = new();
        assert_eq!(chunk_after(32, &mut late).await, CHUNK_MIN);
        // Those who went, or became slow, leave their places.
        fast.pop();
        assert_eq!(chunk_after(32, &mut late).await, CHUNK_MAX);
        let mut last = new();
        assert_eq!(chunk_after(32, &mut last).await, CHUNK_MIN);
        for _ in 0..8 {
            late.given = Instant::now().checked_sub(FAST);
            late.adapt();
        }
        assert_eq!(chunk_after(32, &mut last).await, CHUNK_MAX);
    }
}
