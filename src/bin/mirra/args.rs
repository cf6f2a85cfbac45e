//! The command line: structures only. Every word and flag here is explained by `--help`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use mirra::{Gate, Span};

use crate::rules::Rules;

const EXAMPLES: &str = "\
Start with:
  mirra                             in a new directory: asks two questions, then runs
  mirra share pub                   make the directory pub a module
  mirra sync host.example pub       follow that module from another machine

Exit codes: 0 done, 2 usage, 3 config, 5 no connection, 6 no such module,
  7 not trusted, 8 busy, 10 network, 11 local file, 12 stale, 13 no space,
  20 interrupted, 23 partly done, 25 stopped by a guard, 30 timeout, 1 other";

/// Mirrors public file trees: whole states, signed by their origin, in few bytes.
#[derive(Debug, Parser)]
#[command(name = "mirra", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Line {
    /// Use the home in DIR (DIR/.mirra); other paths stay as they are
    #[arg(
        short = 'C',
        long = "directory",
        global = true,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub(crate) home: PathBuf,

    /// Say more; twice for details (MIRRA_LOG chooses exactly)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    #[command(subcommand)]
    pub(crate) word: Option<Word>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    /// Make a home here: its name, keys and config
    Init(Init),
    /// Serve and follow the modules of this home until Ctrl-C
    Run(Run),
    /// Make a directory a module and publish its first snapshot
    Share(Share),
    /// Publish what changed in a module, or in all
    Publish(Publish),
    /// Follow a module of another mirra
    Sync(Sync),
    /// Share a module no longer
    Unshare(Leave),
    /// Follow a module no longer
    Unsync(Leave),
    /// Let a module rest, or all: what is there is served on
    Pause(Which),
    /// Take a module up again, or all
    Resume(Which),
    /// List the modules of another mirra, or what is in one
    Ls(Ls),
    /// Show how the modules of this home are
    Status(Status),
    /// Show the public keys of this home
    Key(Key),
    /// Show what it does: a root and two nodes in a temporary place
    Demo(Demo),
}

const INIT_EXAMPLES: &str = "\
Examples:
  mirra init                                  asks for name and port
  mirra -C /var/lib/mirra init --name mirror  asks nothing";

#[derive(Debug, Args)]
#[command(after_help = INIT_EXAMPLES)]
pub(crate) struct Init {
    /// What this mirra is called
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// The TCP port that others call [6007]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,

    /// The port of its web pages
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "no_web")]
    pub(crate) web_port: Option<u16>,

    /// Have no web pages
    #[arg(long)]
    pub(crate) no_web: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  mirra run                           on all addresses, at the port of the config
  mirra run --listen 127.0.0.1:6008   for this machine alone, at another port
  mirra run --web-listen [::]:8080    web pages at port 8080 of all addresses";

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// Listen on this address: IP, IP:PORT or [IPV6]:PORT
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    pub(crate) listen: Option<SocketAddr>,

    /// Have the web pages at this address: IP, IP:PORT or [IPV6]:PORT, also where the config wants none
    #[arg(long, value_name = "ADDR", value_parser = web_listen)]
    pub(crate) web_listen: Option<SocketAddr>,

    /// Show metrics, health and status to programs of this machine at this address: 127.0.0.1:PORT or [::1]:PORT
    #[arg(long, value_name = "ADDR", value_parser = metrics_listen)]
    pub(crate) metrics_listen: Option<SocketAddr>,
}

impl Run {
    /// Where to listen.
    pub(crate) fn places(&self) -> mirra::Listen {
        mirra::Listen { peers: self.listen, web: self.web_listen, metrics: self.metrics_listen }
    }
}

fn metrics_listen(text: &str) -> Result<SocketAddr, String> {
    mirra::parse_listen(text, mirra::METRICS_PORT)
}

fn web_listen(text: &str) -> Result<SocketAddr, String> {
    mirra::parse_listen(text, mirra::WEB_PORT)
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    mirra::parse_listen(text, mirra::DEFAULT_PORT)
}

const SHARE_EXAMPLES: &str = "\
Examples:
  mirra share /srv/pub
  mirra share pub --name photos --exclude '*.tmp' --title 'All our photos'
  mirra share /srv/repo --publish manual     new snapshots by mirra publish alone";

#[derive(Debug, Args)]
#[command(after_help = SHARE_EXAMPLES)]
pub(crate) struct Share {
    /// The directory; may be empty, may not hold the home
    pub(crate) dir: PathBuf,

    /// The module's name [default: that of the directory]
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// When changes are published: live, quiet (after 30s without any), quiet=DUR or manual
    #[arg(long, value_name = "WHEN")]
    pub(crate) publish: Option<Gate>,

    /// Leave out what matches; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude: Vec<String>,

    /// A line about it for people
    #[arg(long)]
    pub(crate) title: Option<String>,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  mirra publish\n  mirra publish photos --json")]
pub(crate) struct Publish {
    /// The module [default: all of this home]
    pub(crate) module: Option<String>,

    /// Publish even if much of the module is gone, and let nodes remove it
    #[arg(long)]
    pub(crate) allow_delete: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const SYNC_EXAMPLES: &str = "\
Examples:
  mirra sync host.example photos
  mirra sync mirra://host.example:6008/photos#KEY --into /srv/photos
  mirra sync host.example photos --once      from cron, without a daemon
  mirra sync host.example photos --adopt     take over a tree that is there
  mirra sync host.example photos --once --seed /srv/photos-2025
  mirra sync host.example photos --exclude '*.iso' --exclude /old/
  mirra sync host.example photos --include '/2026/***'    that directory alone

Patterns are those of .gitignore; DIR/*** is a directory with all in it. Rules are kept
for the next time; with others the mirror takes more, or leaves alone what it has.";

#[derive(Debug, Args)]
#[command(after_help = SYNC_EXAMPLES)]
pub(crate) struct Sync {
    /// HOST, HOST:PORT or mirra://HOST:PORT/MODULE#KEY
    #[arg(value_name = "HOST[:PORT]")]
    pub(crate) source: String,

    /// The module, if the address does not name it; without one, a terminal is asked
    pub(crate) module: Option<String>,

    /// The directory to put it in [default: MODULE beside .mirra]
    #[arg(long, value_name = "DIR")]
    pub(crate) into: Option<PathBuf>,

    /// The key of its owner; without one the first that is seen is kept
    #[arg(long)]
    pub(crate) key: Option<String>,

    /// Take over what is in the directory; the rest of it is put aside
    #[arg(long)]
    pub(crate) adopt: bool,

    /// Bring it up to date now, without a daemon
    #[arg(long)]
    pub(crate) once: bool,

    /// Copy from this directory what it holds of the module, instead of fetching it; may be given again
    #[arg(long, value_name = "DIR", requires = "once")]
    pub(crate) seed: Vec<PathBuf>,

    /// Say what the bytes were for, and where the content came from
    #[arg(long, requires = "once")]
    pub(crate) stats: bool,

    /// What is taken of it; as it was when nothing is said
    #[command(flatten)]
    pub(crate) rules: Rules,

    /// Take all of it again
    #[arg(long, conflicts_with_all = ["include", "exclude", "exclude-from", "delete_excluded"])]
    pub(crate) no_filter: bool,

    /// Remove from the directory what the rules leave out, instead of leaving it alone
    #[arg(long)]
    pub(crate) delete_excluded: bool,

    /// How long to wait for a busy home or a silent host
    #[arg(long, value_name = "DUR", default_value = "10s")]
    pub(crate) timeout: Span,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Leave {
    /// The module
    pub(crate) module: String,

    /// Remove its directory and all that is in it; asks on a terminal
    #[arg(long)]
    pub(crate) delete_data: bool,

    /// Remove it without a question
    #[arg(short, long, requires = "delete_data")]
    pub(crate) yes: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The module [default: all of this home]
    pub(crate) module: Option<String>,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const LS_EXAMPLES: &str = "\
Examples:
  mirra ls host.example                    its modules
  mirra ls host.example:6008/photos -l     the top of one of them
  mirra ls host.example/photos/2026 -R     all below a directory

Names are printed as they are, but for a backslash, which is \\\\, and bytes that are
no printable text, each of which is \\xNN. --json gives one object a line.";

#[derive(Debug, Args)]
#[command(after_help = LS_EXAMPLES)]
pub(crate) struct Ls {
    /// HOST, HOST:PORT or either with /MODULE or /MODULE/PATH behind
    #[arg(value_name = "HOST[:PORT][/MODULE[/PATH]]")]
    pub(crate) source: String,

    /// Show mode, size, time and the targets of links
    #[arg(short, long)]
    pub(crate) long: bool,

    /// List all below it, too
    #[arg(short = 'R', long)]
    pub(crate) recursive: bool,

    /// The key of the module's owner
    #[arg(long)]
    pub(crate) key: Option<String>,

    /// How long to wait for a silent host
    #[arg(long, value_name = "DUR", default_value = "10s")]
    pub(crate) timeout: Span,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit code 12 when a module is older than it should be.")]
pub(crate) struct Status {
    /// Show it again as it changes, until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) word: KeyWord,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyWord {
    /// Print the key of the modules, and the identity of this mirra
    Show,
}

const DEMO_EXAMPLES: &str = "\
Examples:
  mirra demo                  with a tree made for it, of some 200 MB
  mirra demo src --once       with a copy of src, and without waiting at the end";

#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct Demo {
    /// Work on a copy of this directory [default: a tree made for it]
    pub(crate) dir: Option<PathBuf>,

    /// End when all steps are done, instead of waiting for Enter
    #[arg(long)]
    pub(crate) once: bool,
}
