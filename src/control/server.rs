//! `.mirra/control.sock`: HTTP and JSON for the owner of a home, whose process alone serves it.
//!
//! The socket is 0600 in a 0700 directory, so whoever connects is the owner. Even so every request is bounded and gets
//! a clean answer. tiny_http stays behind this door: its accept loop ends at the first error (it is started again
//! here), and it makes room for a body as large as the client says (such a request is answered and let go unread).

use std::io::{Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tiny_http::{Header, Method, Request, Response};

use super::SOCKET;
use super::jobs::Jobs;
use super::loopback::Look;
use super::watched::{self, Page};
use crate::disk::home::{Home, Lock};
use crate::mirror::command::{Command, Execute};
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::monitor::Stop;
use crate::mirror::report::Report;

/// Bytes of a request's body.
pub const BODY_MAX: usize = 64 * 1024;
/// Bytes up to which a body that is too large is still read away, so that its client can end in peace.
const DISCARD_MAX: usize = 64 * 1024 * 1024;
/// Requests that are answered at one time.
const REQUESTS_MAX: usize = 64;
/// How long one question for a job's progress may wait for its end.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How long jobs have for their end when the daemon ends: it is to be gone within a second.
const CLOSE_TIME: Duration = Duration::from_millis(700);
/// Pause before listening again after an error.
const AGAIN: Duration = Duration::from_millis(100);

/// A running control interface; dropping it ends it and removes the socket.
pub struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    home: Arc<Home>,
    jobs: Arc<Jobs>,
    stop: Stop,
    answering: AtomicUsize,
    listening: Mutex<Option<Arc<tiny_http::Server>>>,
}

impl Server {
    /// Listens at the socket of `home`; a socket that a dead daemon left behind gives way, as `_lock` shows that it is dead.
    ///
    /// # Errors
    /// [`Failure`] when the socket cannot be made.
    pub fn start(home: &Arc<Home>, _lock: &Lock, execute: Arc<dyn Execute>) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            home: home.clone(),
            jobs: Jobs::new(execute),
            stop: Stop::new(),
            answering: AtomicUsize::new(0),
            listening: Mutex::new(None),
        });
        let first = shared.listen()?;
        let serving = shared.clone();
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || serving.serve(first));
        let thread = thread.map_err(|e| Failure::local("cannot start a thread", &e))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// How others in this process may look at the daemon.
    #[must_use]
    pub fn look(&self) -> Look {
        let jobs = self.shared.jobs.clone();
        Arc::new(move || jobs.status())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.jobs.close(CLOSE_TIME);
        self.shared.stop.request();
        let listening = self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = listening {
            server.unblock();
        }
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell: a panic in it was printed when it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn listen(&self) -> Result<Arc<tiny_http::Server>, Failure> {
        let inner = self.home.inner();
        let failed = |source: &std::io::Error| {
            Failure::local(format!("cannot listen at {}", inner.path().join(SOCKET).display()), source)
        };
        match rustix::fs::unlinkat(inner.dir(), SOCKET, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(failed(&e.into())),
        }
        let server = tiny_http::Server::http_unix(&inner.reach(SOCKET))
            .map_err(|e| failed(&std::io::Error::other(e.to_string())))?;
        rustix::fs::chmodat(inner.dir(), SOCKET, Mode::RUSR | Mode::WUSR, AtFlags::empty())
            .map_err(|e| failed(&e.into()))?;
        let server = Arc::new(server);
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(server.clone());
        Ok(server)
    }

    fn serve(self: &Arc<Self>, first: Arc<tiny_http::Server>) {
        let mut server = Some(first);
        while !self.stop.requested() {
            match server.as_ref().map(|server| server.recv()) {
                Some(Ok(request)) => self.take(request),
                Some(Err(_)) if self.stop.requested() => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "the control socket failed; listening again");
                    // Both handles go before the next one binds: the last to go removes the socket.
                    self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
                    server = None;
                }
                None if self.stop.wait(AGAIN) => {}
                None => {
                    server = self
                        .listen()
                        .inspect_err(|failure| tracing::warn!(why = %failure.why, "no control socket"))
                        .ok()
                }
            }
        }
    }

    /// Answers on a thread of its own: a client that is slow to send its body must not keep others waiting.
    fn take(self: &Arc<Self>, request: Request) {
        let shared = self.clone();
        if self.answering.fetch_add(1, Ordering::Relaxed) >= REQUESTS_MAX {
            self.answering.fetch_sub(1, Ordering::Relaxed);
            let busy = Failure::new(Exit::Busy, "too many requests at one time", "others wait", "try again later");
            return send(request, refusal(503, &busy));
        }
        let spawned = std::thread::Builder::new().name("control-answer".into()).spawn(move || {
            shared.answer(request);
            shared.answering.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_err() {
            self.answering.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn answer(&self, mut request: Request) {
        let answer = match request.body_length() {
            Some(length) if length > DISCARD_MAX => return let_go(request),
            Some(length) if length > BODY_MAX => too_large(),
            _ => {
                let mut body = Vec::new();
                match request.as_reader().take(BODY_MAX as u64 + 1).read_to_end(&mut body) {
                    Ok(length) if length > BODY_MAX => too_large(),
                    Ok(_) => self.route(request.method(), request.url(), &body),
                    Err(e) => bad_request(&e.to_string()),
                }
            }
        };
        send(request, answer);
    }

    fn route(&self, method: &Method, url: &str, body: &[u8]) -> Answer {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        if *method == Method::Get
            && let Some(Page { status, kind, body }) = watched::page(path, || self.jobs.status())
        {
            return Answer { status, kind, body };
        }
        let path = path.strip_prefix("/v1/").unwrap_or("");
        let known: &[Method] = match path {
            "health" | "status" => &[Method::Get],
            "share" | "publish" | "sync" | "unshare" | "unsync" | "pause" | "resume" => &[Method::Post],
            _ if path.starts_with("jobs/") => &[Method::Get, Method::Delete],
            _ => return not_found("no such path"),
        };
        if !known.contains(method) {
            let allowed: Vec<_> = known.iter().map(Method::as_str).collect();
            let failure = Failure::new(Exit::Usage, "wrong method", format!("{method} {url}"), allowed.join(" or "));
            return refusal(405, &failure);
        }
        match path {
            "health" => Answer::new(200, &json!({ "mirra": env!("CARGO_PKG_VERSION"), "pid": std::process::id() })),
            "status" => match self.jobs.status() {
                Ok(status) => Answer::new(200, &Report::Status(status)),
                Err(failure) => refusal(500, &failure),
            },
            "share" => self.start(body, Command::Share),
            "publish" => self.start(body, Command::Publish),
            "sync" => self.start(body, Command::Sync),
            "unshare" => self.start(body, Command::Unshare),
            "unsync" => self.start(body, Command::Unsync),
            "pause" => self.start(body, Command::Pause),
            "resume" => self.start(body, Command::Resume),
            _ => self.job(method, path, query),
        }
    }

    fn start<T: DeserializeOwned>(&self, body: &[u8], command: impl FnOnce(T) -> Command) -> Answer {
        let body = if body.is_empty() { b"{}" } else { body };
        let command = match serde_json::from_slice(body) {
            Ok(value) => command(value),
            Err(e) => return bad_request(&e.to_string()),
        };
        match &command {
            Command::Share(share) if !share.dir.is_absolute() => return bad_request("dir is not absolute"),
            Command::Sync(sync) if sync.into.as_ref().is_some_and(|into| !into.is_absolute()) => {
                return bad_request("into is not absolute");
            }
            _ => {}
        }
        match self.jobs.start(command) {
            Ok(id) => Answer::new(202, &json!({ "job": id })),
            Err(failure) => refusal(503, &failure),
        }
    }

    fn job(&self, method: &Method, path: &str, query: &str) -> Answer {
        let Some(id) = path.strip_prefix("jobs/").and_then(|id| id.parse().ok()) else {
            return not_found("a job is a number");
        };
        if *method == Method::Delete {
            let found = self.jobs.cancel(id);
            return if found { Answer::new(200, &json!({ "job": id })) } else { not_found("no such job") };
        }
        let wait = query.strip_prefix("wait_ms=").and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
        match self.jobs.view(id, wait.unwrap_or_default().min(WAIT_MAX)) {
            Some(view) => Answer::new(200, &view),
            None => not_found("no such job, or it ended long ago"),
        }
    }
}

/// A status and what goes with it.
struct Answer {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(body).unwrap_or_default();
        body.push(b'\n');
        Self { status, kind: "application/json", body }
    }

    fn response(self) -> Response<std::io::Cursor<Vec<u8>>> {
        let kind = Header::from_bytes("Content-Type", self.kind).expect("a constant header is valid");
        Response::from_data(self.body).with_status_code(self.status).with_header(kind)
    }
}

fn refusal(status: u16, failure: &Failure) -> Answer {
    Answer::new(status, &json!({ "failure": failure }))
}

fn bad_request(why: &str) -> Answer {
    let fix = "send one JSON object with the fields of the command";
    refusal(400, &Failure::new(Exit::Usage, "the request is not right", why, fix))
}

fn not_found(why: &str) -> Answer {
    let fix = "GET /v1/health, /v1/status, /v1/jobs/ID, /metrics, /healthz, /readyz, /status.json; POST /v1/share, unshare, publish, sync, unsync, pause, resume";
    refusal(404, &Failure::new(Exit::Usage, "nothing is here", why, fix))
}

fn too_large() -> Answer {
    let why = format!("its body is over {BODY_MAX} bytes");
    refusal(413, &Failure::new(Exit::Usage, "the request is too large", why, "send less"))
}

fn send(request: Request, answer: Answer) {
    if let Err(error) = request.respond(answer.response()) {
        tracing::debug!(%error, "the client of the control socket went away");
    }
}

/// Answers a request whose body is said to be huge, and never drops its reader: tiny_http would then make room for all
/// that is missing of the body, and a length out of thin air would end the daemon. Only the owner can cost himself the
/// descriptors. The way to a bare stream leads through an interim answer, which clients pass over.
fn let_go(request: Request) {
    let answer = too_large();
    let head = format!(
        "HTTP/1.1 {} Payload Too Large\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        answer.status,
        answer.body.len()
    );
    let mut stream = request.upgrade("none", Response::empty(102));
    let sent = stream.write_all(&[head.as_bytes(), &answer.body].concat()).and_then(|()| stream.flush());
    if let Err(error) = sent {
        tracing::debug!(%error, "the client of the control socket went away");
    }
    std::mem::forget(stream);
}
