//! mirra and its peers, each as its users run it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::Result;
use crate::line::End;
use crate::stand::Stand;

/// The mirra of this build.
const MIRRA: &str = env!("CARGO_BIN_EXE_mirra");
/// What the tree is called between the two ends.
const MODULE: &str = "m";
/// rsync's choice of files, the same for all that use it.
const RSYNC: [&str; 2] = ["-a", "--delete"];
/// rsync's compression at its best for its time.
const ZSTD: [&str; 2] = ["-z", "--zc=zstd"];
/// Where sshd separates its rights; it does not start without it when it is root.
const SSHD_EMPTY: &str = "/run/sshd";

/// The tools that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// mirra, which remembers its last snapshot.
    Mirra,
    /// mirra, which forgets all state before each sync and adopts the tree that it finds.
    MirraAdopt,
    /// rsync from a daemon, not encrypted.
    Rsyncd,
    /// The same with compression by zstd.
    RsyncdZ,
    /// rsync over ssh.
    RsyncSsh,
    /// The same with compression by zstd.
    RsyncSshZ,
}

/// What a run asks of a tool.
pub(crate) trait Tool {
    /// Starts what has to run at the source before the first sync. The live tree is empty.
    fn serve(&mut self, stand: &mut Stand<'_>) -> Result<()>;

    /// Does what the source has to do after its tree has changed.
    fn publish(&self, _: &Stand<'_>) -> Result<()> {
        Ok(())
    }

    /// Does what is not part of a sync before each.
    fn prepare(&self, _: &Stand<'_>) -> Result<()> {
        Ok(())
    }

    /// Makes the follower's tree equal to the live one.
    fn sync(&self, stand: &Stand<'_>) -> Result<()>;
}

impl Name {
    pub(crate) const ALL: [Self; 6] =
        [Self::Mirra, Self::MirraAdopt, Self::Rsyncd, Self::RsyncdZ, Self::RsyncSsh, Self::RsyncSshZ];

    /// As the caller writes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Mirra => "mirra",
            Self::MirraAdopt => "mirra-adopt",
            Self::Rsyncd => "rsyncd",
            Self::RsyncdZ => "rsyncd-z",
            Self::RsyncSsh => "rsync-ssh",
            Self::RsyncSshZ => "rsync-ssh-z",
        }
    }

    /// Whether it is mirra, not a peer.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Mirra | Self::MirraAdopt)
    }

    pub(crate) fn is_encrypted(self) -> bool {
        !matches!(self, Self::Rsyncd | Self::RsyncdZ)
    }

    pub(crate) fn compresses(self) -> bool {
        !matches!(self, Self::Rsyncd | Self::RsyncSsh)
    }

    /// What it is or does, for the reader of the tables.
    pub(crate) fn meaning(self) -> String {
        let rsync = |more: &[&str]| [&["rsync"], &RSYNC[..], more].concat().join(" ");
        let zstd = if self.compresses() { &ZSTD[..] } else { &[] };
        match self {
            Self::Mirra => "remembers its last snapshot".into(),
            Self::MirraAdopt => "forgets all state before each sync and adopts the tree that it finds".into(),
            Self::Rsyncd | Self::RsyncdZ => format!("is `{}` from a daemon, not encrypted", rsync(zstd)),
            Self::RsyncSsh | Self::RsyncSshZ => format!("is `{}` over ssh", rsync(zstd)),
        }
    }

    /// Why it cannot be run here; `None` when it can.
    pub(crate) fn missing(self) -> Option<String> {
        if self.is_ours() {
            return None;
        }
        let Some(rsync) = says("rsync", "--version") else { return Some("rsync is not installed".into()) };
        if self.compresses() && !rsync.contains("zstd") {
            return Some("this rsync has no zstd".into());
        }
        if self.is_encrypted() {
            if says("ssh", "-V").is_none() || says("ssh-keygen", "-?").is_none() {
                return Some("ssh is not installed".into());
            }
            if sshd().is_none() {
                return Some("sshd is not installed".into());
            }
        }
        None
    }

    /// The version of the program behind it.
    pub(crate) fn version(self) -> Option<String> {
        let first = |program, flag| says(program, flag)?.lines().next().map(str::to_owned);
        if self.is_ours() {
            return first(MIRRA, "--version");
        }
        let rsync = first("rsync", "--version")?;
        let rsync = rsync.split_whitespace().take_while(|word| *word != "protocol").collect::<Vec<_>>().join(" ");
        if self.is_encrypted() { Some(format!("{rsync}, {}", first("ssh", "-V")?)) } else { Some(rsync) }
    }

    /// The tool itself, for one run.
    pub(crate) fn make(self) -> Box<dyn Tool> {
        let flags = if self.compresses() { &ZSTD[..] } else { &[] };
        match self {
            Self::Mirra => Box::new(Mirra { adopt: false }),
            Self::MirraAdopt => Box::new(Mirra { adopt: true }),
            Self::Rsyncd | Self::RsyncdZ => Box::new(RsyncDaemon { flags }),
            Self::RsyncSsh | Self::RsyncSshZ => Box::new(RsyncSsh { flags, made: None }),
        }
    }
}

/// What a program says of itself, on either stream; `None` where it is not installed.
fn says(program: &str, flag: &str) -> Option<String> {
    let said = Command::new(program).arg(flag).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
}

fn sshd() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join("sshd")).find(|path| path.is_file())
}

/// A daemon at the source that publishes when it is told to; one sync at a time at the follower.
struct Mirra {
    adopt: bool,
}

impl Mirra {
    fn home(stand: &Stand<'_>, end: End) -> PathBuf {
        stand.state.join(if end == End::Source { "root" } else { "node" })
    }

    fn command(stand: &Stand<'_>, end: End) -> Command {
        let mut mirra = Command::new(MIRRA);
        mirra.env_remove("MIRRA_LOG").args(["--quiet", "-C"]).arg(Self::home(stand, end));
        mirra
    }

    fn init(stand: &Stand<'_>, end: End) -> Result<()> {
        fs::create_dir(Self::home(stand, end))?;
        let mut init = Self::command(stand, end);
        init.args(["init", "--name", if end == End::Source { "root" } else { "node" }, "--no-web"]);
        stand.run(end, init)
    }
}

impl Tool for Mirra {
    fn serve(&mut self, stand: &mut Stand<'_>) -> Result<()> {
        Self::init(stand, End::Source)?;
        Self::init(stand, End::Follower)?;
        let mut share = Self::command(stand, End::Source);
        share.arg("share").arg(&stand.live).args(["--name", MODULE, "--publish", "manual"]);
        stand.run(End::Source, share)?;
        let mut run = Self::command(stand, End::Source);
        run.args(["run", "--listen", &stand.line.listen.to_string()]);
        stand.serve(run)
    }

    /// As rsync, it may delete as much as there is.
    fn publish(&self, stand: &Stand<'_>) -> Result<()> {
        let mut publish = Self::command(stand, End::Source);
        publish.args(["publish", MODULE, "--allow-delete"]);
        stand.run(End::Source, publish)
    }

    fn prepare(&self, stand: &Stand<'_>) -> Result<()> {
        if self.adopt {
            fs::remove_dir_all(Self::home(stand, End::Follower))?;
            Self::init(stand, End::Follower)?;
        }
        Ok(())
    }

    fn sync(&self, stand: &Stand<'_>) -> Result<()> {
        let mut sync = Self::command(stand, End::Follower);
        sync.args(["sync", &stand.line.reach.to_string(), MODULE, "--once", "--into"]).arg(&stand.copy);
        if self.adopt {
            sync.arg("--adopt");
        }
        stand.run(End::Follower, sync)
    }
}

/// `path/`: what lies in a directory, not the directory, to rsync.
fn inside(path: &Path) -> PathBuf {
    path.join("")
}

struct RsyncDaemon {
    flags: &'static [&'static str],
}

impl Tool for RsyncDaemon {
    fn serve(&mut self, stand: &mut Stand<'_>) -> Result<()> {
        let config = stand.state.join("rsyncd.conf");
        let rights = if rustix::process::geteuid().is_root() { "uid = 0\ngid = 0\n" } else { "" };
        let live = stand.live.display();
        fs::write(&config, format!("use chroot = no\nreverse lookup = no\n{rights}[{MODULE}]\npath = {live}\n"))?;
        let (address, port) = (stand.line.listen.ip().to_string(), stand.line.listen.port().to_string());
        let mut rsync = Command::new("rsync");
        rsync.args(["--daemon", "--no-detach", "--address", &address, "--port", &port, "--config"]).arg(&config);
        stand.serve(rsync)
    }

    fn sync(&self, stand: &Stand<'_>) -> Result<()> {
        let from = format!("rsync://{}/{MODULE}/", stand.line.reach);
        let mut rsync = Command::new("rsync");
        rsync.args(RSYNC).args(self.flags).arg(from).arg(inside(&stand.copy));
        stand.run(End::Follower, rsync)
    }
}

struct RsyncSsh {
    flags: &'static [&'static str],
    /// A directory that was made for sshd and is removed again.
    made: Option<PathBuf>,
}

impl Tool for RsyncSsh {
    /// With keys and settings of its own, for the user that runs this.
    fn serve(&mut self, stand: &mut Stand<'_>) -> Result<()> {
        for key in ["host", "user"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(stand.state.join(key));
            stand.run(End::Source, make)?;
        }
        let at = |name: &str| stand.state.join(name);
        let allowed = at("allowed");
        fs::copy(at("user.pub"), &allowed)?;
        fs::set_permissions(&allowed, fs::Permissions::from_mode(0o600))?;
        let (ip, port) = (stand.line.listen.ip(), stand.line.listen.port());
        // SHLVL keeps a login shell from reading its start-up files.
        let server = format!(
            "ListenAddress {ip}\nPort {port}\nHostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nPidFile none\nUseDNS no\nPrintMotd no\nSetEnv SHLVL=2\n",
            at("host").display(),
            allowed.display()
        );
        let client = format!(
            "Host *\nIdentityFile \"{}\"\nIdentitiesOnly yes\nPort {}\nUserKnownHostsFile /dev/null\n\
             StrictHostKeyChecking no\nLogLevel ERROR\nBatchMode yes\n",
            at("user").display(),
            stand.line.reach.port()
        );
        fs::write(at("sshd.conf"), server)?;
        fs::write(at("ssh.conf"), client)?;
        let sshd = sshd().ok_or("sshd is not installed")?;
        if rustix::process::geteuid().is_root() && fs::create_dir(SSHD_EMPTY).is_ok() {
            self.made = Some(SSHD_EMPTY.into());
        }
        let mut serve = Command::new(sshd);
        serve.args(["-D", "-e", "-f"]).arg(at("sshd.conf"));
        stand.serve(serve)
    }

    fn sync(&self, stand: &Stand<'_>) -> Result<()> {
        let from = format!("{}:{}", stand.line.reach.ip(), inside(&stand.live).display());
        let ssh = format!("ssh -F \"{}\"", stand.state.join("ssh.conf").display());
        let mut rsync = Command::new("rsync");
        rsync.args(RSYNC).args(self.flags).args(["-e", &ssh, &from]).arg(inside(&stand.copy));
        stand.run(End::Follower, rsync)
    }
}

impl Drop for RsyncSsh {
    fn drop(&mut self) {
        if let Some(made) = &self.made {
            let _ = fs::remove_dir(made);
        }
    }
}
