//! The terminal: progress, notes and logs, all on stderr; nothing of progress when that is no terminal.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use mirra::{Exit, Failure, Monitor, Pace, Phase, Stop};
use tracing_subscriber::fmt::MakeWriter;

use crate::words;

/// How often a moving sign shows that work goes on.
const TICK: Duration = Duration::from_millis(120);

/// What is drawn while the bytes to come are unknown.
const OPEN: &str = "{spinner} {prefix:10} {binary_bytes} {rate} {msg}";
/// What is drawn when they are known.
const FULL: &str = "{spinner} {prefix:10} {bar:20} {binary_bytes}/{binary_total_bytes} {rate} {left} {msg}";

/// Where the program talks.
#[derive(Clone)]
pub(crate) struct Screen {
    /// There while a command draws its progress.
    bar: Arc<Mutex<Option<ProgressBar>>>,
    quiet: bool,
}

impl Screen {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { bar: Arc::default(), quiet }
    }

    /// Says something to people, unless they want quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            self.shout(text);
        }
    }

    /// Says something even so.
    pub(crate) fn shout(&self, text: &str) {
        // Nobody is left to be told when stderr is gone.
        drop(self.write(format!("{text}\n").as_bytes()));
    }

    /// Writes to stdout between two redraws of the progress. Whoever closed it early has what he wants, and asks for no
    /// more.
    pub(crate) fn out(&self, text: &str) -> Result<(), Failure> {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || io::stdout().write_all(text.as_bytes());
        let written = bar.as_ref().map_or_else(write, |bar| bar.suspend(write));
        written.map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Ok, "nobody reads on", e.to_string(), "nothing is wrong"),
            _ => Failure::local("cannot write to stdout", &e),
        })
    }

    /// Writes between two redraws of the progress.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        match bar.as_ref() {
            Some(bar) => bar.suspend(|| io::stderr().write_all(bytes)),
            None => io::stderr().write_all(bytes),
        }
    }

    /// A monitor that draws here.
    pub(crate) fn progress(&self, stop: &Stop) -> Drawing {
        let visible = !self.quiet && io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let counts = Mutex::default();
        let pace = Arc::new(Mutex::new(Pace::new(Instant::now())));
        Drawing { screen: self.clone(), bar, visible, stop: stop.clone(), counts, pace }
    }
}

/// Draws how far a command is.
pub(crate) struct Drawing {
    screen: Screen,
    bar: ProgressBar,
    visible: bool,
    stop: Stop,
    /// Files done, and files in all as far as known.
    counts: Mutex<(u64, u64)>,
    /// How fast the bytes of this phase come.
    pace: Arc<Mutex<Pace>>,
}

impl Drawing {
    fn style(&self, template: &str) -> ProgressStyle {
        let style = ProgressStyle::with_template(template).expect("the templates of this file are valid");
        let pace = self.pace.clone();
        let rate = move |_: &ProgressState, to: &mut dyn fmt::Write| {
            let rate = locked(&pace).rate(Instant::now());
            // The next redraw tells what this one could not.
            let _ = if rate > 0 { write!(to, "{}/s", words::bytes(rate)) } else { Ok(()) };
        };
        let pace = self.pace.clone();
        let left = move |state: &ProgressState, to: &mut dyn fmt::Write| {
            let rest = state.len().unwrap_or(0).saturating_sub(state.pos());
            let left = locked(&pace).left(Instant::now(), rest);
            let _ = left.map_or(Ok(()), |left| write!(to, "{} left", words::span(left)));
        };
        style.with_key("rate", rate).with_key("left", left)
    }

    fn count_files(&self, change: impl FnOnce(&mut (u64, u64))) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        let text = match *counts {
            (0, 0) => String::new(),
            (files, 0) => format!("{} files", words::count(files)),
            (files, total) => format!("{}/{} files", words::count(files), words::count(total)),
        };
        self.bar.set_message(text);
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        let hung = self.screen.bar.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = hung {
            bar.finish_and_clear();
        }
    }
}

impl Monitor for Drawing {
    fn phase(&self, phase: Phase) {
        if !self.visible {
            return;
        }
        let word = match phase {
            Phase::Waiting => "waiting",
            Phase::Connecting => "connecting",
            Phase::Indexing => "indexing",
            Phase::Comparing => "comparing",
            Phase::Fetching => "fetching",
            Phase::Publishing => "publishing",
        };
        *locked(&self.pace) = Pace::new(Instant::now());
        self.bar.set_style(self.style(OPEN));
        self.bar.set_prefix(word);
        self.bar.unset_length();
        self.bar.reset();
        self.count_files(|counts| *counts = (0, 0));
        self.bar.enable_steady_tick(TICK);
        let mut hung = self.screen.bar.lock().unwrap_or_else(PoisonError::into_inner);
        *hung = Some(self.bar.clone());
    }

    fn total(&self, files: u64, bytes: u64) {
        if self.visible {
            if bytes > 0 {
                self.bar.set_style(self.style(FULL));
                self.bar.set_length(bytes);
            }
            self.count_files(|counts| counts.1 = files);
        }
    }

    fn advance(&self, files: u64, bytes: u64) {
        if self.visible {
            self.bar.inc(bytes);
            locked(&self.pace).advance(Instant::now(), bytes);
            if files > 0 {
                self.count_files(|counts| counts.0 = counts.0.saturating_add(files));
            }
        }
    }

    fn note(&self, text: &str) {
        self.screen.say(&format!("note: {}", words::cut(text, 1_000)));
    }

    fn cancelled(&self) -> bool {
        self.stop.requested()
    }
}

fn locked(pace: &Mutex<Pace>) -> MutexGuard<'_, Pace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Log lines go between redraws of the progress, not through them.
impl<'a> MakeWriter<'a> for Screen {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        Log(self.clone())
    }
}

/// Writes whole log lines.
pub(crate) struct Log(Screen);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_valid_and_progress_can_be_told_without_a_terminal() {
        let progress = Screen::new(true).progress(&Stop::new());
        drop((progress.style(OPEN), progress.style(FULL)));
        progress.phase(Phase::Fetching);
        progress.total(1, 2);
        progress.advance(1, 2);
        progress.note("unheard");
        assert!(!progress.cancelled());
    }
}
