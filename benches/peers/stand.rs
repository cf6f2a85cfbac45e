//! Where one run of a tool takes place: its directories, and the programs that run for it and end with it.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mirra::Stop;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::Result;
use crate::line::{End, Line};

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(7200);
/// How long a program may take to start or to end.
const BRIEFLY: Duration = Duration::from_secs(10);
/// Between two looks at a program.
const GLANCE: Duration = Duration::from_millis(1);
/// How much of what a program said is told when it fails.
const LAST_WORDS: usize = 400;

/// The directories of one run; removed with it.
pub(crate) struct Stand<'a> {
    /// Ends before the directories go.
    servers: Vec<Program>,
    pub(crate) line: &'a Line,
    pub(crate) stop: &'a Stop,
    /// The source's tree.
    pub(crate) live: PathBuf,
    /// The follower's.
    pub(crate) copy: PathBuf,
    /// What the tools keep beside the trees.
    pub(crate) state: PathBuf,
    /// A file on its way into the live tree.
    pub(crate) aside: PathBuf,
    log: PathBuf,
    _place: TempDir,
}

impl<'a> Stand<'a> {
    /// Empty directories below `work`.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub(crate) fn new(work: &Path, line: &'a Line, stop: &'a Stop) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("peers-").tempdir_in(work)?;
        let [live, copy, state, aside, log] =
            ["live", "copy", "state", "aside", "log"].map(|name| place.path().join(name));
        for directory in [&live, &copy, &state] {
            fs::create_dir(directory)?;
        }
        File::create(&log)?;
        Ok(Self { servers: Vec::new(), line, stop, live, copy, state, aside, log, _place: place })
    }

    /// Starts what serves at the source until the run ends, and waits until it listens.
    ///
    /// # Errors
    /// Where it ends, or does not listen soon.
    pub(crate) fn serve(&mut self, command: Command) -> Result<()> {
        let mut server = self.start(End::Source, command)?;
        let end = Instant::now() + BRIEFLY;
        while !self.line.is_open() {
            if server.ended()?.is_some() || Instant::now() > end {
                return Err(format!("{} does not listen: {}", server.name, self.last_words()).into());
            }
            self.rest()?;
        }
        self.servers.push(server);
        Ok(())
    }

    /// Runs a program at one end to its end.
    ///
    /// # Errors
    /// Where it fails, with what it said last, and when it shall stop.
    pub(crate) fn run(&self, end: End, command: Command) -> Result<()> {
        let begun = Instant::now();
        let mut program = self.start(end, command)?;
        loop {
            match program.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("{}: {status}: {}", program.name, self.last_words()).into()),
                None if begun.elapsed() > PATIENCE => return Err(format!("{} does not end", program.name).into()),
                None => self.rest()?,
            }
        }
    }

    fn rest(&self) -> Result<()> {
        thread::sleep(GLANCE);
        if self.stop.requested() { Err("interrupted".into()) } else { Ok(()) }
    }

    fn start(&self, end: End, command: Command) -> Result<Program> {
        let log = OpenOptions::new().append(true).open(&self.log)?;
        self.line.within(end, || Program::start(command, log))
    }

    fn last_words(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let from = said.len().saturating_sub(LAST_WORDS);
        String::from_utf8_lossy(said.get(from..).unwrap_or_default()).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// A program with what it started, as one group, which ends with this.
struct Program {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
}

impl Program {
    fn start(mut command: Command, log: File) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().map_err(|e| format!("{name}: {e}"))?;
        Ok(Self { name, child, status: None })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.status = self.child.try_wait()?;
        Ok(self.status)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Once it is waited for, its number may be another's.
        if self.status.is_some() {
            return;
        }
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::TERM);
        let end = Instant::now() + BRIEFLY;
        while Instant::now() < end {
            match self.ended() {
                Ok(None) => thread::sleep(GLANCE),
                _ => return,
            }
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}
