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

use super::limits::{CHUNK_MAX, CHUNK_MIN, FAST};

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

/// A stream with at most one chunk in memory for a slow reader, and two for a fast one.
pub struct Streamed {
    state: State,
    reads: Arc<Semaphore>,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    chunk: usize,
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
    /// Streams `source`, which gives exactly `len` bytes if that is known. `reads` bounds what is read at the same time.
    #[must_use]
    pub fn new(source: Box<dyn Source>, len: Option<u64>, reads: Arc<Semaphore>) -> Self {
        Self { state: State::Idle(source), reads, left: len, chunk: CHUNK_MIN, given: None }
    }

    /// Starts the next read while the last is on its way, if there is a hand free.
    fn read_ahead(&mut self, source: Box<dyn Source>) {
        self.state = match self.reads.clone().try_acquire_owned() {
            Ok(place) if self.chunk == CHUNK_MAX => {
                let reading = spawn_blocking(read(source, self.chunk, place));
                State::Reading(Box::pin(async { reading.await.map_err(io::Error::other) }))
            }
            _ => State::Idle(source),
        };
    }

    /// Reads more at once for who comes back soon.
    fn adapt(&mut self) {
        if let Some(given) = self.given.take() {
            let fast = given.elapsed() < FAST;
            self.chunk = if fast { (self.chunk * 2).min(CHUNK_MAX) } else { (self.chunk / 2).max(CHUNK_MIN) };
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.adapt();
        let mut reading = match std::mem::replace(&mut self.state, State::Over) {
            State::Over => return Poll::Ready(None),
            State::Reading(reading) => reading,
            State::Idle(source) => {
                let (reads, chunk) = (self.reads.clone(), self.chunk);
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
