//! The temporary place of a demonstration, and the processes that work in it.
#![allow(clippy::disallowed_methods, reason = "every path here lies in a private directory that this process made")]

use std::fs::{DirBuilder, File};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mirra::report::Report;
use mirra::{Exit, Failure, Stop};
use rustix::process::{Pid, Signal, kill_process};

/// Names tried before the temporary directory counts as unusable.
const TRIES: u32 = 100;
/// How often a process is asked whether it has ended.
const TICK: Duration = Duration::from_millis(2);
/// How long a daemon may take to listen, and to end.
const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(10);
/// What a daemon says when it is ready, before its address.
const READY: &str = " listens on ";

/// A private directory with the processes that work in it; gone with all of them when dropped.
pub(super) struct Place {
    path: PathBuf,
    program: PathBuf,
    daemons: Vec<Child>,
    stop: Stop,
}

impl Place {
    pub(super) fn new(stop: &Stop) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::local("cannot find this program", &e))?;
        let base = std::env::temp_dir();
        let mut last = None;
        for turn in 0..TRIES {
            let path = base.join(format!("mirra-demo-{}-{turn}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path, program, daemons: Vec::new(), stop: stop.clone() }),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => last = Some(e),
                Err(e) => return Err(Failure::local(format!("cannot make {}", path.display()), &e)),
            }
        }
        let source = last.unwrap_or_else(|| std::io::ErrorKind::AlreadyExists.into());
        Err(Failure::local(format!("cannot make a directory in {}", base.display()), &source))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Runs this program for the home in `home` and gives what it printed.
    pub(super) fn mirra(&self, home: &Path, args: &[&str]) -> Result<String, Failure> {
        let (output, talk) = (self.path.join("stdout"), self.path.join("stderr"));
        let mut child = Running(self.spawn(home, args, &output, &talk)?);
        let status = loop {
            match child.0.try_wait().map_err(|e| Failure::local("cannot wait for a process", &e))? {
                Some(status) => break status,
                None if self.stop.wait(TICK) => return Err(Failure::interrupted()),
                None => {}
            }
        };
        let text = read(&output)?;
        if status.success() {
            return Ok(text);
        }
        Err(failure(args, &text, &read(&talk)?, &status.to_string()))
    }

    /// As [`mirra`](Self::mirra), for a command with `--json`.
    pub(super) fn report(&self, home: &Path, args: &[&str]) -> Result<Report, Failure> {
        let text = self.mirra(home, args)?;
        serde_json::from_str(&text).map_err(|e| failure(args, &text, "", &e.to_string()))
    }

    /// Starts a daemon for the home in `home` on a free port of this machine alone.
    pub(super) fn daemon(&mut self, home: &Path, name: &str) -> Result<SocketAddr, Failure> {
        let args = ["run", "--listen", "127.0.0.1:0"];
        let log = self.path.join(format!("{name}.log"));
        let child = self.spawn(home, &args, &self.path.join("stdout"), &log)?;
        self.daemons.push(child);
        let begun = Instant::now();
        while begun.elapsed() < START {
            let text = read(&log)?;
            let after = text.split_once(READY).and_then(|(_, rest)| rest.split_once(';'));
            if let Some(address) = after.and_then(|(address, _)| address.parse().ok()) {
                return Ok(address);
            }
            let ended = self.daemons.last_mut().and_then(|child| child.try_wait().ok().flatten());
            if let Some(status) = ended {
                return Err(failure(&args, "", &text, &status.to_string()));
            }
            if self.stop.wait(TICK) {
                return Err(Failure::interrupted());
            }
        }
        Err(failure(&args, "", "", "it did not listen in time"))
    }

    fn spawn(&self, home: &Path, args: &[&str], output: &Path, talk: &Path) -> Result<Child, Failure> {
        let file =
            |path: &Path| File::create(path).map_err(|e| Failure::local(format!("cannot make {}", path.display()), &e));
        let mut command = Command::new(&self.program);
        command.arg("-C").arg(home).args(args).stdin(Stdio::null()).stdout(file(output)?).stderr(file(talk)?);
        // What the caller's shell sets for its own use must not change what is shown.
        command.env_remove("MIRRA_LOG");
        command.spawn().map_err(|e| Failure::local(format!("cannot start {}", self.program.display()), &e))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for child in &self.daemons {
            end(child);
        }
        for child in &mut self.daemons {
            reap(child);
        }
        if let Err(e) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), error = %e, "the temporary place is still there");
        }
    }
}

/// A process that does not outlive the wait for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            end(&self.0);
            reap(&mut self.0);
        }
    }
}

/// Asks a process to end. One that has ended already cannot be asked, and need not be.
fn end(child: &Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
}

/// Waits until a process has ended, and makes it end after a while.
fn reap(child: &mut Child) {
    let begun = Instant::now();
    while begun.elapsed() < END {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        std::thread::sleep(TICK);
    }
    drop(child.kill());
    drop(child.wait());
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|e| Failure::local(format!("cannot read {}", path.display()), &e))
}

/// The failure that a process printed: as JSON, or as its last three lines.
fn failure(args: &[&str], output: &str, talk: &str, status: &str) -> Failure {
    let json = serde_json::from_str::<serde_json::Value>(output).ok();
    let said = json.and_then(|json| serde_json::from_value(json.get("failure")?.clone()).ok());
    said.unwrap_or_else(|| {
        let what = format!("mirra {} did not work", args.join(" "));
        let why = talk.lines().rev().find_map(|line| line.trim_start().strip_prefix("why: ")).unwrap_or(status);
        Failure::new(Exit::Other, what, why, "run it with -vv to see more")
    })
}
