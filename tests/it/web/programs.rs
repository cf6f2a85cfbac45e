//! Programs that are not the project's: found if they are installed, run in bounded time.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::fixture::{Ended, ended};

/// A program that is installed.
pub(super) struct Program {
    path: PathBuf,
}

impl Program {
    /// Finds `name` where programs are; says so when it is not there.
    pub(super) fn find(name: &str) -> Option<Self> {
        let places = env::var_os("PATH").unwrap_or_default();
        let path = env::split_paths(&places).map(|place| place.join(name)).find(|path| path.is_file());
        if path.is_none() {
            eprintln!("{name} is not installed: nothing was tested");
        }
        Some(Self { path: path? })
    }

    /// Runs it in `place`.
    pub(super) fn run(&self, place: &Path, args: &[&str]) -> Ended {
        let mut command = Command::new(&self.path);
        settle(command.args(args).stdin(Stdio::null()), place);
        ended(command)
    }

    /// Has `runner`, a program that runs what its arguments name, run it in `place`.
    pub(super) fn hand_to(&self, runner: &mut Command, place: &Path, args: &[&str]) {
        settle(runner.arg(&self.path).args(args), place);
    }
}

/// In `place`, without the settings and the proxies of whoever runs the tests.
fn settle(command: &mut Command, place: &Path) {
    command.current_dir(place).env("HOME", place).env("LC_ALL", "C.UTF-8");
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
}
