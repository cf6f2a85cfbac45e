//! `mirra demo`: a root, a node and a node behind it as real processes on this machine, changes of every kind, and what
//! each one cost: step by step, then live.

mod compare;
mod live;
mod place;
mod tree;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use mirra::report::{Activity, Report, Synced};
use mirra::{Exit, Failure, Stop};

use crate::args::Demo;
use crate::print::out;
use crate::screen::Screen;
use crate::signals;
use crate::words::{bytes, count};
use place::Place;

/// The module, and the name of both trees.
const MODULE: &str = "demo";
/// How many bytes of a difference are said; paths are as long as their owner made them.
const DIFFERENCE_MAX: usize = 300;

/// Runs the demonstration in a place of its own, which is gone afterwards.
pub(crate) fn demo(args: &Demo, screen: &Screen) -> Result<Exit, Failure> {
    let stop = Stop::new();
    signals::listen(&stop)?;
    let waits = !args.once && io::stdin().is_terminal() && io::stdout().is_terminal();
    let show = Show { place: Place::new(&stop)?, stop, screen, differences: Vec::new(), in_row: false };
    let exit = show.run(args.dir.as_deref(), waits)?;
    if waits {
        screen.say("Ended; nothing is left behind.");
    }
    Ok(exit)
}

struct Show<'a> {
    /// Ends all processes and removes the place when dropped.
    place: Place,
    stop: Stop,
    screen: &'a Screen,
    differences: Vec<String>,
    /// A row is begun and not ended.
    in_row: bool,
}

/// What one step cost.
#[derive(Default)]
struct Cost {
    publish: Option<Duration>,
    sync: Option<Synced>,
}

impl Show<'_> {
    fn run(mut self, dir: Option<&Path>, waits: bool) -> Result<Exit, Failure> {
        let result = self.steps(dir);
        if self.in_row {
            out("\n")?;
        }
        let node = match result {
            Err(_) if self.stop.requested() => return Err(stopped()),
            other => other?,
        };
        if let Some(first) = self.differences.first() {
            let why: String = first.chars().take(DIFFERENCE_MAX).collect();
            let fix = "this is a fault of mirra: please report it, with the tree if you can";
            return Err(Failure::new(Exit::Other, "the trees are not equal", why, fix));
        }
        self.screen.say("\nAfter every step both trees were equal: contents, modes, times and links.");
        if waits {
            self.wait(node);
        }
        Ok(Exit::Ok)
    }

    fn steps(&mut self, dir: Option<&Path>) -> Result<SocketAddr, Failure> {
        let (ours, theirs) = (self.place.path().join("root"), self.place.path().join("node"));
        let (tree, copy) = (ours.join(MODULE), theirs.join(MODULE));
        self.screen.say(&format!("A root and two nodes on this machine, in {}", self.place.path().display()));
        let begun = Instant::now();
        let made = match dir {
            Some(dir) => tree::copy(dir, self.place.path(), &tree, &self.stop)?,
            None => tree::make(&tree, tree::LARGE, &self.stop)?,
        };
        let word = if dir.is_some() { "copied" } else { "made" };
        self.screen.say(&format!(
            "A tree of {} files in {} directories, {}, {word} in {}\n",
            count(made.files),
            count(made.directories),
            bytes(made.bytes),
            seconds(begun.elapsed())
        ));
        self.place.mirra(&ours, &["init", "--name", "root", "--no-web"])?;
        let root = self.place.daemon(&ours, "root")?;

        out(&format!("{:<32}{:>9}{:>9}{:>11}{:>11}  {}\n", "step", "publish", "sync", "received", "sent", "trees"))?;
        self.begin(&format!("share {} (index)", bytes(made.bytes)))?;
        let begun = Instant::now();
        let tree_text = text(&tree)?;
        let shared = self.place.report(&ours, &["share", &tree_text, "--publish", "manual", "--json"])?;
        let Report::Shared(shared) = shared else { return Err(unexpected("share")) };
        self.end(&Cost { publish: Some(begun.elapsed()), sync: None }, None)?;

        let source = root.to_string();
        let sync = ["sync", &source, MODULE, "--key", &shared.key, "--once", "--json"];
        let pull = |show: &mut Self, publish| -> Result<(), Failure> {
            let Report::Synced(synced) = show.place.report(&theirs, &sync)? else { return Err(unexpected("sync")) };
            show.end(&Cost { publish, sync: Some(*synced) }, Some((&tree, &copy)))
        };
        self.begin("first sync")?;
        pull(self, None)?;
        self.begin("nothing changed")?;
        pull(self, None)?;
        for change in tree::Change::ALL {
            let Some(what) = change.apply(&tree, &made)? else { continue };
            self.begin(&what)?;
            let begun = Instant::now();
            self.place.report(&ours, &["publish", "--json"])?;
            pull(self, Some(begun.elapsed()))?;
        }

        let node = self.live(&ours, &theirs, root, &shared.key)?;
        let listed = self.place.mirra(&theirs, &["ls", &node.to_string(), "-q"])?;
        self.screen.say(&format!("\nThe node serves it on, with the root's signature: mirra ls {node}"));
        out(&format!("  {}\n", listed.trim_end()))?;
        Ok(node)
    }

    /// Has the node follow the root and another node follow that one, edits the root's tree, and says when each edit
    /// was seen on both.
    fn live(&mut self, ours: &Path, theirs: &Path, root: SocketAddr, key: &str) -> Result<SocketAddr, Failure> {
        let behind = self.place.path().join("leaf");
        let [tree, copy, last] = [ours, theirs, &behind].map(|home| home.join(MODULE));
        self.place.mirra(ours, &["share", &text(&tree)?, "--publish", "live"])?;
        self.place.mirra(theirs, &["sync", &root.to_string(), MODULE, "--key", key])?;
        let node = self.place.daemon(theirs, "node")?;
        self.place.mirra(&behind, &["init", "--name", "leaf", "--no-web"])?;
        self.place.mirra(&behind, &["sync", &node.to_string(), MODULE, "--key", key])?;
        self.place.daemon(&behind, "leaf")?;

        out(&format!("\n{:<32}{:>9}{:>9}{:>11}{:>11}  {}\n", "live", "node", "leaf", "node got", "leaf got", "trees"))?;
        self.begin("follow, and a node behind it")?;
        let trees = [copy, last];
        let times = live::visible(&tree, &trees, Instant::now(), &self.stop)?;
        let mut before = self.received(&[theirs, &behind])?;
        self.end_live(&times, &before)?;
        let name = format!("live-{}", std::process::id());
        let dir = tree.join(&name);
        let failed = |e: io::Error| Failure::local(format!("cannot edit {}", dir.display()), &e);
        #[allow(clippy::disallowed_methods, reason = "the tree lies in a private directory of the demonstration")]
        std::fs::create_dir(&dir).map_err(failed)?;
        let places = trees.clone().map(|tree| tree.join(&name));
        live::visible(&dir, &places, Instant::now(), &self.stop)?;
        for edit in live::Edit::ALL {
            self.begin(edit.what())?;
            edit.apply(&dir).map_err(failed)?;
            let times = live::visible(&dir, &places, Instant::now(), &self.stop)?;
            let now = self.received(&[theirs, &behind])?;
            let got: Vec<_> = now.iter().zip(&before).map(|(now, before)| now.saturating_sub(*before)).collect();
            before = now;
            self.end_live(&times, &got)?;
        }
        for copy in &trees {
            self.differences.extend(compare::difference(&tree, copy, &self.stop)?);
        }
        Ok(node)
    }

    /// Bytes that the daemons of `homes` have received for the module, once they wait for news again.
    fn received(&self, homes: &[&Path]) -> Result<Vec<u64>, Failure> {
        let received = |home: &&Path| loop {
            let Report::Status(status) = self.place.report(home, &["status", "--json"])? else {
                return Err(unexpected("status"));
            };
            if status.modules.iter().all(|module| module.activity == Activity::Following) {
                break Ok(status.modules.iter().map(|module| module.received).sum());
            }
            if self.stop.wait(live::TICK) {
                break Err(stopped());
            }
        };
        homes.iter().map(received).collect()
    }

    /// Ends a row of live edits.
    fn end_live(&mut self, times: &[Duration], got: &[u64]) -> Result<(), Failure> {
        let times: String = times.iter().map(|time| format!("{:>6} ms", time.as_millis())).collect();
        let got: String = got.iter().map(|got| format!("{:>11}", bytes(*got))).collect();
        self.in_row = false;
        out(&format!("{times}{got}  equal\n")).map(drop)
    }

    /// Begins a row, so that it stands there while the work is done.
    fn begin(&mut self, what: &str) -> Result<(), Failure> {
        self.in_row = true;
        out(&format!("{what:<32}")).map(drop)
    }

    fn end(&mut self, cost: &Cost, trees: Option<(&Path, &Path)>) -> Result<(), Failure> {
        let publish = cost.publish.map(seconds).unwrap_or_default();
        let sync = cost.sync.as_ref();
        let time = sync.map(|sync| seconds(Duration::from_millis(sync.elapsed_ms))).unwrap_or_default();
        let received = sync.map(|sync| bytes(sync.received)).unwrap_or_default();
        let sent = sync.map(|sync| bytes(sync.sent)).unwrap_or_default();
        let difference = trees.map(|(ours, theirs)| compare::difference(ours, theirs, &self.stop)).transpose()?;
        let equal = match &difference {
            None => "",
            Some(None) => "equal",
            Some(Some(_)) => "DIFFER",
        };
        self.differences.extend(difference.flatten());
        let row = format!("{publish:>9}{time:>9}{received:>11}{sent:>11}  {equal}");
        self.in_row = false;
        out(&format!("{}\n", row.trim_end())).map(drop)
    }

    /// Says what to try, and waits for Enter or Ctrl-C.
    fn wait(&self, node: SocketAddr) {
        self.screen.say(&format!(
            "\nRoot, node and leaf run until you press Enter. Meanwhile, in another terminal:\n  \
             alias mirra='{}'; cd '{}'\n  \
             mirra -C root status\n  \
             mirra ls {node}\n  \
             mirra -C third init --name third --port 6007 --no-web\n  \
             mirra -C third sync {node} {MODULE} --once     # what the node has\n  \
             mirra -C leaf status --watch &\n  \
             echo hello > root/{MODULE}/hello               # and it is in node/{MODULE} and leaf/{MODULE}",
            self.place.program().display(),
            self.place.path().display(),
        ));
        let stop = self.stop.clone();
        let enter = move || {
            // An end of the input, or a failure to read it, ends the wait as Enter does.
            drop(io::stdin().read_line(&mut String::new()));
            stop.request();
        };
        if std::thread::Builder::new().name("enter".into()).spawn(enter).is_ok() {
            self.stop.wait_on();
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2}s", time.as_secs_f64())
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| {
        let what = format!("cannot use {}", path.display());
        Failure::new(Exit::Usage, what, "its name is not UTF-8", "set TMPDIR to another directory")
    })
}

fn stopped() -> Failure {
    Failure::new(Exit::Interrupted, "stopped", "it was interrupted", "run mirra demo again: it left nothing behind")
}

fn unexpected(command: &str) -> Failure {
    let what = format!("mirra {command} gave another report");
    Failure::new(Exit::Other, what, "the program was replaced meanwhile", "run mirra demo again")
}
