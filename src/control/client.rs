//! Asks the daemon of a home: one request a connection, HTTP/1.0, every answer bounded.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::SOCKET;
use super::jobs::JobView;
use crate::disk::home::Home;
use crate::mirror::command::Command;
use crate::mirror::failure::{Exit, Failure};
use crate::mirror::monitor::Monitor;
use crate::mirror::report::Report;

/// How long the daemon may take for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long one question for progress waits at the daemon.
const PROGRESS_TIME: Duration = Duration::from_millis(150);
/// Bytes of one answer.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

/// What the daemon answers: the value, or why not.
enum Answer<T> {
    Ok(T),
    Refused(Failure),
}

/// Whether a daemon answers at the socket of `home`.
#[must_use]
pub fn answers(home: &Home) -> bool {
    matches!(ask::<serde_json::Value>(home, "GET", "/v1/health", &[]), Ok(Answer::Ok(_)))
}

/// Has the daemon carry out `command`, and passes on to `monitor` what it tells meanwhile.
///
/// # Errors
/// [`Failure`]: the command's own, or that the daemon is gone.
pub fn carry_out(home: &Home, command: &Command, monitor: &dyn Monitor) -> Result<Report, Failure> {
    #[derive(Deserialize)]
    struct Started {
        job: u64,
    }
    let body = match command {
        Command::Status => return obtain(home, "GET", "/v1/status", &[]),
        Command::Share(share) => serde_json::to_vec(share),
        Command::Publish(publish) => serde_json::to_vec(publish),
        Command::Sync(sync) => serde_json::to_vec(sync),
        Command::Unshare(leave) | Command::Unsync(leave) => serde_json::to_vec(leave),
        Command::Pause(which) | Command::Resume(which) => serde_json::to_vec(which),
    };
    let body = body.map_err(|e| {
        let fix = "use a path of UTF-8 text, or stop the daemon first";
        Failure::new(Exit::Usage, "the command cannot be given to the daemon", e.to_string(), fix)
    })?;
    let started: Started = obtain(home, "POST", &format!("/v1/{}", command.word()), &body)?;
    let mut told = Told::default();
    let mut cancelled = false;
    loop {
        if monitor.cancelled() && !cancelled {
            cancelled = true;
            obtain::<serde_json::Value>(home, "DELETE", &format!("/v1/jobs/{}", started.job), &[])?;
        }
        let wait = PROGRESS_TIME.as_millis();
        let view: JobView = obtain(home, "GET", &format!("/v1/jobs/{}?wait_ms={wait}", started.job), &[])?;
        told.pass_on(&view, monitor);
        match (view.report, view.failure) {
            (Some(report), _) => return Ok(report),
            (None, Some(failure)) => return Err(failure),
            (None, None) => {}
        }
    }
}

/// What a monitor has been told of a job so far.
#[derive(Default)]
struct Told {
    step: u64,
    totals: (u64, u64),
    done: (u64, u64),
    notes: usize,
}

impl Told {
    fn pass_on(&mut self, view: &JobView, monitor: &dyn Monitor) {
        let progress = &view.progress;
        if progress.step != self.step {
            *self = Self { step: progress.step, notes: self.notes, ..Self::default() };
            monitor.phase(progress.phase);
        }
        let totals = (progress.files_total, progress.bytes_total);
        if totals != self.totals {
            self.totals = totals;
            monitor.total(totals.0, totals.1);
        }
        let more = (progress.files.saturating_sub(self.done.0), progress.bytes.saturating_sub(self.done.1));
        if more != (0, 0) {
            self.done = (progress.files, progress.bytes);
            monitor.advance(more.0, more.1);
        }
        view.notes.iter().skip(self.notes).for_each(|note| monitor.note(note));
        self.notes = self.notes.max(view.notes.len());
    }
}

fn obtain<T: DeserializeOwned>(home: &Home, method: &str, path: &str, body: &[u8]) -> Result<T, Failure> {
    match ask(home, method, path, body) {
        Ok(Answer::Ok(value)) => Ok(value),
        Ok(Answer::Refused(failure)) => Err(failure),
        Err(e) => {
            let fix = "look at its output; then run the command again";
            Err(Failure::new(Exit::Other, "the daemon does not answer", e.to_string(), fix))
        }
    }
}

fn ask<T: DeserializeOwned>(home: &Home, method: &str, path: &str, body: &[u8]) -> io::Result<Answer<T>> {
    let mut stream = UnixStream::connect(home.inner().reach(SOCKET))?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.set_write_timeout(Some(ANSWER_TIME))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: mirra\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    // To HTTP/1.0 the answer ends with the connection; its length is checked all the same.
    let mut bytes = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut bytes)?;
    read_answer(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its answer is broken off or no HTTP"))
}

fn read_answer<T: DeserializeOwned>(bytes: &[u8]) -> Option<Answer<T>> {
    #[derive(Deserialize)]
    struct Refused {
        failure: Failure,
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (bytes.get(..end)?, bytes.get(end + 4..)?);
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse::<u16>().ok()?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, value)| value.trim().parse::<usize>().ok());
    if length.is_some_and(|length| length != body.len()) {
        return None;
    }
    if (200..300).contains(&status) {
        return Some(Answer::Ok(serde_json::from_slice(body).ok()?));
    }
    Some(Answer::Refused(serde_json::from_slice::<Refused>(body).ok()?.failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_answers_are_read() {
        let read = |text: &str| match read_answer::<Vec<u8>>(text.as_bytes()) {
            Some(Answer::Ok(value)) => Some(value),
            _ => None,
        };
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[7]"), Some(vec![7]));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n[7]"), Some(vec![7]));
        for text in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n[7]", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n[7]"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
