//! One request: checked, looked up on a thread that may wait for the disk, answered.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header;
use hyper::{Method, Request, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::asked::Asked;
use super::body::{Body, Lanes, Source, Streamed};
use super::condition::one;
use super::digest::{self, Digests, Wanted};
use super::head;
use super::limits::{HASHES_KEPT, LOOKUPS_MAX, STREAMS_MAX};
use super::problem::{BUSY, FAILED};
use super::reply::{Answer, TEXT, full, set};
use super::target::{Refused, Target};
use super::{machine, module};
use crate::mirror::clock::now_ms;
use crate::mirror::front::Front;
use crate::mirror::proxies::{Net, client};
use crate::mirror::visits::Visits;

/// What all requests share.
pub struct Web {
    /// What may be seen.
    pub front: Front,
    /// Hashes of contents.
    pub digests: Arc<Digests>,
    lanes: Lanes,
    lookups: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    trusted: Vec<Net>,
    /// What went to visitors.
    pub visits: Arc<Visits>,
}

/// What looking comes to.
pub enum Outcome {
    /// An answer.
    Ready(Answer),
    /// A hash, which may take long.
    Hash(Wanted),
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Ready(answer)
    }
}

impl Web {
    /// Answers from `front`; `trusted` may say for whom they ask.
    #[must_use]
    pub fn new(front: Front, trusted: Vec<Net>) -> Self {
        let [lookups, streams] = [LOOKUPS_MAX, STREAMS_MAX].map(|max| Arc::new(Semaphore::new(max)));
        let (digests, visits) = (Arc::new(Digests::new(HASHES_KEPT)), front.visits());
        Self { front, digests, lanes: Lanes::default(), lookups, streams, trusted, visits }
    }

    /// A body of content of `module` that is read from `source` as it is taken.
    #[must_use]
    pub fn stream(&self, module: &str, source: impl Source, len: Option<u64>) -> Body {
        let source = Counted { source, module: module.to_owned(), visits: self.visits.clone() };
        Body::Stream(Streamed::new(Box::new(source), len, self.lanes.clone()))
    }

    /// As [`stream`](Self::stream), for a source that goes through a directory; `None` when there are as many as may be.
    #[must_use]
    pub fn long_stream(&self, module: &str, source: impl Source) -> Option<Body> {
        let place = self.streams.clone().try_acquire_owned().ok()?;
        Some(self.stream(module, Held { source, _place: place }, None))
    }

    /// Answers `request` of `peer`.
    ///
    /// # Errors
    /// None: what does not work is answered too.
    pub async fn serve<B>(self: Arc<Self>, peer: SocketAddr, request: Request<B>) -> Result<Answer, Infallible> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let forwarded = one(request.headers(), &FORWARDED).map(str::to_owned);
        let mut answer = match head::check(&request) {
            Ok(()) => self.clone().answer(request).await,
            Err(head::Refused { status, why }) => refuse(status, why),
        };
        if method == Method::HEAD {
            *answer.body_mut() = Body::Empty;
        }
        let client = client(peer.ip(), forwarded.as_deref(), &self.trusted);
        self.visits.answered(answer.status().as_u16());
        tracing::debug!(%client, %method, path = uri.path(), status = answer.status().as_u16(), "asked");
        Ok(answer)
    }

    async fn answer<B>(self: Arc<Self>, request: Request<B>) -> Answer {
        let (parts, _) = request.into_parts();
        let asked = match Target::parse(parts.uri.path(), parts.uri.query()) {
            Ok(target) => Asked::new(target, parts.headers),
            Err(Refused::Long) => return refuse(StatusCode::URI_TOO_LONG, "the path is too long"),
            Err(Refused::Path) => return refuse(StatusCode::BAD_REQUEST, "no module can hold such a path"),
        };
        let Ok(place) = self.lookups.clone().acquire_owned().await else { return broken() };
        let web = self.clone();
        let looked = spawn_blocking(move || {
            let outcome = look(&web, &asked);
            drop(place);
            (outcome, asked)
        });
        match looked.await {
            Ok((Outcome::Ready(answer), _)) => answer,
            Ok((Outcome::Hash(wanted), asked)) => digest::answer(&self, &asked, wanted).await,
            // It has panicked, which was logged.
            Err(_) => broken(),
        }
    }
}

/// Whom a proxy asks for.
const FORWARDED: header::HeaderName = header::HeaderName::from_static("x-forwarded-for");

fn look(web: &Web, asked: &Asked) -> Outcome {
    match asked.target.names.split_first() {
        None => machine::index(web, asked).into(),
        Some((first, rest)) if first == b"-" => machine::own(web, asked, rest).into(),
        Some((first, [])) if !asked.target.slash && machine::is_own(first) => machine::own_file(first).into(),
        Some((name, path)) => module::look(web, asked, name, path).unwrap_or_else(|error| {
            tracing::error!(error = &*error, "a page cannot be made");
            FAILED.answer(&web.front, asked, None).into()
        }),
    }
}

/// A source that counts until it is dropped.
struct Held<S> {
    source: S,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl<S: Source> Source for Held<S> {
    fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>> {
        self.source.next(want)
    }
}

/// A source that is counted as it is read.
struct Counted<S> {
    source: S,
    /// Whose content it is.
    module: String,
    visits: Arc<Visits>,
}

impl<S: Source> Source for Counted<S> {
    fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>> {
        let next = self.source.next(want)?;
        if let Some(bytes) = &next {
            self.visits.took(&self.module, bytes.len() as u64, now_ms());
        }
        Ok(next)
    }
}

/// Refuses a head, and ends the connection: what comes behind it may not be what it seems.
fn refuse(status: StatusCode, why: &str) -> Answer {
    let mut answer = full(status, TEXT, format!("{why}\n"));
    set(&mut answer, header::CONNECTION, "close");
    if status == StatusCode::METHOD_NOT_ALLOWED {
        set(&mut answer, header::ALLOW, "GET, HEAD");
    }
    answer
}

fn broken() -> Answer {
    full(FAILED.status, TEXT, format!("{}: {}\n", FAILED.what, FAILED.why))
}

/// The answer when as much of it is done as may be.
#[must_use]
pub fn busy(web: &Web, asked: &Asked) -> Answer {
    BUSY.answer(&web.front, asked, None)
}

/// The time, as HTTP has it.
#[must_use]
pub fn now() -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_millis(now_ms())
}
