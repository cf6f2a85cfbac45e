//! The control interface with a made-up executor: jobs, refusals, and which process does the work.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mirra::command::{Command, Execute, Leave, Publish, Share, Sync, Which};
use mirra::control::client;
use mirra::control::jobs::{FINISHED_MAX, Jobs, RUNNING_MAX};
use mirra::control::perform::perform;
use mirra::control::server::Server;
use mirra::disk::home::{Home, Lock};
use mirra::report::{Paused, Published, PublishedAll, Removed, Report, Role, Status};
use mirra::{Exit, Failure, Monitor, Phase, Stop};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// Long enough for anything that is not broken.
const LONG: Duration = Duration::from_secs(20);

/// `share` runs until it is released or cancelled; `publish` of `panic` panics, of `none` fails.
#[derive(Default)]
struct Fake {
    release: Stop,
}

impl Execute for Fake {
    fn execute(&self, command: &Command, monitor: &dyn Monitor) -> Result<Report, Failure> {
        match command {
            Command::Status => Ok(Report::Status(Status { name: "fake".into(), ..Status::default() })),
            Command::Share(share) => {
                monitor.phase(Phase::Indexing);
                monitor.total(2, 10);
                monitor.advance(1, 4);
                monitor.note("half way");
                while !self.release.wait(Duration::from_millis(1)) {
                    if monitor.cancelled() {
                        return Err(Failure::interrupted());
                    }
                }
                monitor.advance(1, 6);
                let path = share.dir.display().to_string();
                Ok(Report::Shared(Published { module: "m".into(), path, ..Published::default() }))
            }
            Command::Publish(Publish { module: Some(name), .. }) if name == "panic" => panic!("as it was asked to"),
            Command::Publish(Publish { module: Some(_), .. }) => Err(Failure::new(Exit::NoModule, "a", "b", "c")),
            Command::Publish(_) => Ok(Report::Published(PublishedAll::default())),
            Command::Sync(_) => Err(Failure::new(Exit::Connect, "a", "b", "c")),
            Command::Unshare(leave) => Ok(left(Role::Root, leave)),
            Command::Unsync(leave) => Ok(left(Role::Node, leave)),
            Command::Pause(which) => Ok(rest(which, true)),
            Command::Resume(which) => Ok(rest(which, false)),
        }
    }
}

fn left(role: Role, leave: &Leave) -> Report {
    let (module, data_deleted) = (leave.module.clone(), leave.delete_data);
    Report::Removed(Removed { module, role, data_deleted, path: "/somewhere".into() })
}

fn rest(which: &Which, paused: bool) -> Report {
    Report::Paused(Paused { modules: which.module.iter().cloned().collect(), paused })
}

/// Remembers what it is told; cancels when told so.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<String>>,
    cancel_at_note: bool,
    cancelled: AtomicBool,
    release_at_note: Option<Stop>,
}

impl Ear {
    fn hear(&self, text: String) {
        self.heard.lock().unwrap().push(text);
    }
}

impl Monitor for Ear {
    fn phase(&self, phase: Phase) {
        self.hear(format!("{phase:?}"));
    }
    fn total(&self, files: u64, bytes: u64) {
        self.hear(format!("total {files} {bytes}"));
    }
    fn advance(&self, files: u64, bytes: u64) {
        self.hear(format!("advance {files} {bytes}"));
    }
    fn note(&self, text: &str) {
        self.hear(text.to_owned());
        self.cancelled.store(self.cancel_at_note, Ordering::Relaxed);
        self.release_at_note.iter().for_each(Stop::request);
    }
    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

struct Place {
    _dir: TempDir,
    home: Arc<Home>,
}

fn place(below: &str) -> Place {
    let dir = tempdir().unwrap();
    let home = Arc::new(Home::create(&dir.path().join(below)).unwrap());
    Place { _dir: dir, home }
}

fn daemon(home: &Arc<Home>, release: &Stop) -> (Lock, Server) {
    let lock = home.lock().unwrap();
    let server = Server::start(home, &lock, Arc::new(Fake { release: release.clone() })).unwrap();
    (lock, server)
}

fn share() -> Command {
    let dir = "/somewhere".into();
    Command::Share(Share { dir, name: None, publish: None, exclude: Vec::new(), title: None })
}

fn publish(module: Option<&str>) -> Command {
    // As it comes over the socket, so that a field with a default need not be named.
    Command::Publish(serde_json::from_value(serde_json::json!({ "module": module })).unwrap())
}

fn here(_: Arc<Home>) -> Result<Fake, Failure> {
    let release = Stop::new();
    release.request();
    Ok(Fake { release })
}

/// Sends `request` as it is, and gives the status and the JSON that come back.
fn raw(home: &Home, request: &[u8]) -> (u16, Value) {
    let mut stream = UnixStream::connect(home.inner().reach("control.sock")).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    // What the server leaves unread resets the connection behind the answer.
    stream.read_to_string(&mut answer).or_else(|e| if answer.is_empty() { Err(e) } else { Ok(0) }).unwrap();
    // An interim answer may come first.
    let last = answer.rsplit_once("HTTP/1.").unwrap().1;
    let (head, body) = last.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn ask(home: &Home, method: &str, path: &str, body: &str) -> (u16, Value) {
    raw(home, format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

#[test]
fn a_job_is_started_asked_for_and_ended() {
    let (place, release) = (place(""), Stop::new());
    let _daemon = daemon(&place.home, &release);
    let ask = |method, path, body| ask(&place.home, method, path, body);
    assert_eq!(ask("GET", "/v1/health", "").1["pid"], std::process::id());
    assert_eq!(ask("GET", "/v1/status", "").1["name"], "fake");

    let (status, started) = ask("POST", "/v1/share", r#"{"dir":"/x"}"#);
    assert_eq!((status, &started["job"]), (202, &Value::from(1)));
    let running = ask("GET", "/v1/jobs/1", "").1;
    assert_eq!((&running["finished"], &running["command"]), (&Value::from(false), &Value::from("share")));
    release.request();
    let ended = ask("GET", "/v1/jobs/1?wait_ms=9000", "").1;
    assert_eq!((&ended["finished"], &ended["exit"]), (&Value::from(true), &Value::from(0)));
    assert_eq!((&ended["report"]["path"], &ended["progress"]["bytes"]), (&Value::from("/x"), &Value::from(10)));
    assert_eq!(ask("GET", "/v1/jobs/1", "").1, ended);

    ask("POST", "/v1/publish", r#"{"module":"none"}"#);
    let failed = ask("GET", "/v1/jobs/2?wait_ms=9000", "").1;
    assert_eq!((&failed["exit"], &failed["failure"]["what"]), (&Value::from(6), &Value::from("a")));
}

#[test]
fn wrong_requests_get_clean_answers() {
    let place = place("");
    let _daemon = daemon(&place.home, &Stop::new());
    let check = |method, path, body: &str, expected| {
        let (status, answer) = ask(&place.home, method, path, body);
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert!(answer["failure"]["fix"].is_string(), "{answer}");
    };
    check("GET", "/", "", 404);
    check("GET", "/v1/", "", 404);
    check("GET", "/v1/jobs/7", "", 404);
    check("GET", "/v1/jobs/x", "", 404);
    check("DELETE", "/v1/jobs/7", "", 404);
    check("GET", "/v1/share", "", 405);
    check("POST", "/v1/status", "", 405);
    check("POST", "/v1/share", "", 400);
    check("POST", "/v1/share", "{", 400);
    check("POST", "/v1/share", r#"{"dir":"/x","colour":1}"#, 400);
    check("POST", "/v1/share", r#"{"dir":"x"}"#, 400);
    check("POST", "/v1/share", r#"{"dir":"/x","publish":"now"}"#, 400);
    check("POST", "/v1/sync", r#"{"address":"h/m","into":"x"}"#, 400);
    check("POST", "/v1/unshare", "", 400);
    check("POST", "/v1/unsync", r#"{"module":"m","delete_data":"yes"}"#, 400);
    check("POST", "/v1/pause", r#"{"modules":[]}"#, 400);
    check("GET", "/v1/resume", "", 405);
    check("POST", "/v1/share", &"x".repeat(64 * 1024 + 1), 413);
}

#[test]
fn a_length_out_of_thin_air_is_refused_and_harms_nothing() {
    let place = place("");
    let _daemon = daemon(&place.home, &Stop::new());
    for length in ["70368744177664", "18446744073709551615"] {
        let mut stream = UnixStream::connect(place.home.inner().reach("control.sock")).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        write!(stream, "POST /v1/share HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("}}\n") {
            let mut piece = [0; 1024];
            match stream.read(&mut piece).unwrap() {
                0 => break,
                n => answer.extend_from_slice(&piece[..n]),
            }
        }
        assert!(String::from_utf8_lossy(&answer).contains("HTTP/1.1 413 "), "{length}");
    }
    let chunked =
        format!("POST /v1/share HTTP/1.1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", 1 << 20);
    let body = vec![b'x'; 80 * 1024];
    let (status, _) = raw(&place.home, &[chunked.as_bytes(), &body].concat());
    assert_eq!(status, 413);
    assert!(client::answers(&place.home));
}

#[test]
fn a_command_gives_the_same_with_and_without_a_daemon() {
    let (place, wait) = (place(""), Duration::ZERO);
    let all = |expected_open: bool| {
        let mut results = Vec::new();
        let (leave, which) = (Leave { module: "m".into(), delete_data: true }, Which::default());
        let mut commands = vec![publish(None), publish(Some("none")), Command::Status];
        commands.extend([Command::Unshare(leave.clone()), Command::Unsync(leave)]);
        commands.extend([Command::Pause(which.clone()), Command::Resume(which)]);
        for command in commands {
            let mut opened = false;
            let open = |home| {
                opened = true;
                here(home)
            };
            results.push(perform(&place.home, &command, wait, &Ear::default(), open));
            assert_eq!(opened, expected_open);
        }
        results
    };
    let alone = all(true);
    let release = Stop::new();
    let _daemon = daemon(&place.home, &release);
    assert_eq!(all(false), alone);

    let ear = Ear { release_at_note: Some(release), ..Ear::default() };
    let Ok(Report::Shared(shared)) = perform(&place.home, &share(), wait, &ear, here) else { panic!() };
    assert_eq!(shared.path, "/somewhere");
    let heard = ear.heard.lock().unwrap();
    assert_eq!(heard.as_slice(), ["Indexing", "total 2 10", "advance 1 4", "half way", "advance 1 6"]);
}

#[test]
fn ctrl_c_at_the_client_ends_the_job() {
    let place = place("");
    let _daemon = daemon(&place.home, &Stop::new());
    let ear = Ear { cancel_at_note: true, ..Ear::default() };
    let failure = perform(&place.home, &share(), Duration::ZERO, &ear, here).unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted);
}

#[test]
fn once_goes_to_the_daemon_and_waits_for_a_busy_home() {
    let place = place("");
    let once = Command::Sync(Sync {
        address: "h/m".into(),
        into: None,
        adopt: false,
        once: true,
        seeds: Vec::new(),
        filter: None,
        delete_excluded: false,
        timeout_ms: 1,
    });
    let run = |command: &Command| perform(&place.home, command, Duration::from_millis(30), &Ear::default(), here);
    assert_eq!(run(&once).unwrap_err().exit, Exit::Connect);
    let (lock, server) = daemon(&place.home, &Stop::new());
    let unheard = |_| -> Result<Fake, Failure> { panic!("a daemon has the home") };
    let asked = perform(&place.home, &once, Duration::ZERO, &Ear::default(), unheard);
    assert_eq!(asked.unwrap_err().exit, Exit::Connect);
    drop(server);
    let failure = run(&once).unwrap_err();
    assert!(failure.exit == Exit::Busy && failure.why.contains("in use by process"), "{failure}");
    drop(lock);
    assert_eq!(run(&once).unwrap_err().exit, Exit::Connect);
}

#[test]
fn a_dead_daemons_socket_gives_way_and_a_live_ones_is_private() {
    let place = place("");
    let socket = place.home.inner().path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists() && !client::answers(&place.home));
    assert!(perform(&place.home, &publish(None), Duration::ZERO, &Ear::default(), here).is_ok());
    let (lock, server) = daemon(&place.home, &Stop::new());
    assert!(client::answers(&place.home));
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    drop((server, lock));
    assert!(!Path::new(&socket).exists());
}

#[test]
fn a_long_path_is_no_hindrance() {
    let place = place(&"long-name/".repeat(30));
    assert!(place.home.inner().path().as_os_str().len() > 300);
    let _daemon = daemon(&place.home, &Stop::new());
    assert!(perform(&place.home, &publish(None), Duration::ZERO, &Ear::default(), here).is_ok());
}

#[test]
fn jobs_are_bounded_and_a_panic_ends_its_own() {
    let release = Stop::new();
    let jobs = Jobs::new(Arc::new(Fake { release: release.clone() }));
    let id = jobs.start(publish(Some("panic"))).unwrap();
    let view = jobs.view(id, LONG).unwrap();
    assert_eq!((view.finished, view.exit), (true, Some(Exit::Other)));

    let running: Vec<_> = (0..RUNNING_MAX).map(|_| jobs.start(share()).unwrap()).collect();
    assert_eq!(jobs.start(publish(None)).unwrap_err().exit, Exit::Busy);
    release.request();
    assert!(running.iter().all(|id| jobs.view(*id, LONG).unwrap().finished));
    for _ in 0..FINISHED_MAX {
        let id = jobs.start(publish(None)).unwrap();
        assert!(jobs.view(id, LONG).unwrap().finished);
    }
    assert!(jobs.view(id, Duration::ZERO).is_none());
}

#[test]
fn closing_ends_what_runs() {
    let jobs = Jobs::new(Arc::new(Fake::default()));
    let id = jobs.start(share()).unwrap();
    jobs.close(LONG);
    assert_eq!(jobs.view(id, Duration::ZERO).unwrap().exit, Some(Exit::Interrupted));
    assert_eq!(jobs.start(publish(None)).unwrap_err().exit, Exit::Busy);
}
