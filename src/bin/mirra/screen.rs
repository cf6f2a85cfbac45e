//! The terminal: progress, notes and logs, all on stderr; nothing of progress when that is no terminal.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mirra::{Monitor, Phase, Stop};
use tracing_subscriber::fmt::MakeWriter;

use crate::words;

/// How often a moving sign shows that work goes on.
const TICK: Duration = Duration::from_millis(120);

/// Where the program talks.
#[derive(Clone)]
pub(crate) struct Screen {
    bar: ProgressBar,
    quiet: bool,
}

impl Screen {
    pub(crate) fn new(quiet: bool) -> Self {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Self { bar: ProgressBar::with_draw_target(None, target), quiet }
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
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{text}")));
    }

    /// A monitor that draws here.
    pub(crate) fn progress(&self, stop: &Stop) -> Drawing {
        Drawing { screen: self.clone(), stop: stop.clone(), files: AtomicU64::new(0), files_total: AtomicU64::new(0) }
    }
}

/// Draws how far a command is.
pub(crate) struct Drawing {
    screen: Screen,
    stop: Stop,
    files: AtomicU64,
    files_total: AtomicU64,
}

impl Drawing {
    fn count_files(&self) {
        let (files, total) = (self.files.load(Ordering::Relaxed), self.files_total.load(Ordering::Relaxed));
        let text = match (files, total) {
            (0, 0) => String::new(),
            (_, 0) => format!("{} files", words::count(files)),
            _ => format!("{}/{} files", words::count(files), words::count(total)),
        };
        self.screen.bar.set_message(text);
    }
}

impl Drop for Drawing {
    fn drop(&mut self) {
        self.screen.bar.finish_and_clear();
    }
}

impl Monitor for Drawing {
    fn phase(&self, phase: Phase) {
        let bar = &self.screen.bar;
        if bar.is_hidden() {
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
        self.files.store(0, Ordering::Relaxed);
        self.files_total.store(0, Ordering::Relaxed);
        bar.set_style(style("{spinner} {prefix:10} {binary_bytes} {binary_bytes_per_sec} {msg}"));
        bar.unset_length();
        bar.reset();
        bar.set_prefix(word);
        bar.set_message("");
        bar.enable_steady_tick(TICK);
    }

    fn total(&self, files: u64, bytes: u64) {
        self.files_total.store(files, Ordering::Relaxed);
        if bytes > 0 {
            let full =
                "{spinner} {prefix:10} {bar:20} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} {msg}";
            self.screen.bar.set_style(style(full));
            self.screen.bar.set_length(bytes);
        }
        self.count_files();
    }

    fn advance(&self, files: u64, bytes: u64) {
        self.screen.bar.inc(bytes);
        if files > 0 {
            self.files.fetch_add(files, Ordering::Relaxed);
            self.count_files();
        }
    }

    fn note(&self, text: &str) {
        self.screen.say(&format!("note: {}", words::cut(text, 1_000)));
    }

    fn cancelled(&self) -> bool {
        self.stop.requested()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid")
}

/// Log lines go between redraws of the progress, not through them.
impl<'a> MakeWriter<'a> for Screen {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        Log(self.bar.clone())
    }
}

/// Writes whole log lines.
pub(crate) struct Log(ProgressBar);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
