//! [What is watched](super::watched) over TCP, for programs on this machine that cannot use the socket.
//!
//! Only addresses of this machine itself are taken, so nobody else hears of it, and it only reads. It has a thread and a
//! runtime of its own, so that it answers while the web is full.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Notify, Semaphore};

use super::watched::{PATHS, Page, page};
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::status::Status;
use crate::net::{attach, bind};

/// Connections at one time; more are closed at once.
pub const CONNECTIONS_MAX: usize = 32;
/// How long a head may take, and a connection may last.
const HEAD_TIME: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Bytes of a head.
const HEAD_MAX: usize = 8 * 1024;
/// Pause after an error of accept.
const AGAIN: Duration = Duration::from_millis(100);

/// Looks how the daemon is.
pub type Look = Arc<dyn Fn() -> Result<Status, Failure> + Send + Sync>;

/// A listener that was bound; dropping the [`Watch`] made of it ends it.
pub struct Loopback {
    listener: TcpListener,
}

/// One that answers.
pub struct Watch {
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Loopback {
    /// Takes `address`.
    ///
    /// # Errors
    /// [`Failure`] when it is not one of this machine alone, or cannot be had.
    pub fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let what = || format!("cannot show metrics at {address}");
        if !address.ip().to_canonical().is_loopback() {
            let why = "others would see how this mirra is, and metrics have no password";
            let fix = "take an address of this machine, such as 127.0.0.1:9607, and a proxy that knows who may read it";
            return Err(Failure::new(Exit::Config, what(), why, fix));
        }
        bind(address).map(|listener| Self { listener }).map_err(|e| {
            let fix = "name another: --metrics-listen 127.0.0.1:PORT, or metrics_listen in .mirra/Mirra.toml";
            Failure::new(Exit::Config, what(), e.to_string(), fix)
        })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers from here on by what `look` finds.
    ///
    /// # Errors
    /// [`Failure`] when there is no thread for it.
    pub fn start(self, look: Look) -> Result<Watch, Failure> {
        let failed = |e: std::io::Error| Failure::local("cannot show metrics", &e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
        let runtime = runtime.map_err(failed)?;
        let socket = attach(self.listener, runtime.handle()).map_err(failed)?;
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = stopped.notified() => {}
                    () = accept(socket, look) => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("metrics".into()).spawn(serve).map_err(failed)?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell: a panic in it was printed when it happened.
            let _ = thread.join();
        }
    }
}

async fn accept(socket: tokio::net::TcpListener, look: Look) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let look = look.clone();
        tokio::spawn(async move {
            let serve = service_fn(move |request| answer(request, look.clone()));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(HEAD_MAX);
            let served = http.serve_connection(TokioIo::new(stream), serve);
            // Whether it ended well is the client's matter.
            let _ = tokio::time::timeout(CONNECTION_TIME, served).await;
            drop(place);
        });
    }
}

type Answer = Response<String>;

async fn answer(request: Request<Incoming>, look: Look) -> Result<Answer, Infallible> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "it can only be read\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    if !is_of_this_machine(&request) {
        return Ok(plain(StatusCode::FORBIDDEN, "ask for it by an address of this machine\n"));
    }
    let path = request.uri().path().to_owned();
    // The look may wait for the index.
    let found = tokio::task::spawn_blocking(move || page(&path, || look())).await;
    Ok(match found {
        Ok(Some(Page { status, kind, body })) => {
            let mut answer = Response::new(String::from_utf8(body).unwrap_or_default());
            *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            answer
        }
        Ok(None) => plain(StatusCode::NOT_FOUND, &format!("here are {}\n", PATHS.join(", "))),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "an error in mirra itself\n"),
    })
}

/// Whether it was asked for by a name that only this machine has. A page elsewhere can lead a browser here under a name of
/// its own, and would then read what it gets.
fn is_of_this_machine(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST) else { return true };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(text.to_owned());
    *answer.status_mut() = status;
    answer
}
