//! The program as a person or a script calls it: never with a terminal here.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::{TempDir, tempdir};

fn mirra(dir: &Path, args: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::from(plain(dir, args));
    command.timeout(std::time::Duration::from_secs(60));
    command
}

fn plain(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mirra"));
    command.current_dir(dir).args(args).env_remove("MIRRA_LOG").stdin(Stdio::null());
    command
}

/// Runs what must work, and gives its stdout.
fn works(dir: &Path, args: &[&str]) -> String {
    let output = mirra(dir, args).assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// Runs what must fail with `code` and three lines on stderr, which it gives.
fn fails(dir: &Path, args: &[&str], code: i32) -> String {
    let output = mirra(dir, args).assert().code(code).get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, start) in lines.iter().zip(["error: ", "  why: ", "  fix: "]) {
        assert!(line.starts_with(start) && line.len() > start.len(), "{said}");
    }
    said
}

fn home() -> TempDir {
    let dir = tempdir().unwrap();
    works(dir.path(), &["init", "--name", "here", "--port", "6099", "--no-web"]);
    dir
}

#[test]
fn init_asks_nothing_and_keeps_keys_private() {
    let dir = tempdir().unwrap();
    works(dir.path(), &["-C", "new/home", "init", "--name", "a b", "--web-port", "81"]);
    let inner = dir.path().join("new/home/.mirra");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join("keys"))), (0o700, 0o700));
    let keys: Vec<_> = fs::read_dir(inner.join("keys")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(keys.len(), 5);
    assert!(keys.iter().all(|path| mode(path) == 0o600));
    let config = fs::read_to_string(inner.join("Mirra.toml")).unwrap();
    assert!(config.ends_with("[server]\nname = \"a b\"\nport = 6007\nweb_port = 81\n"), "{config}");

    let shown = works(dir.path(), &["-C", "new/home", "key", "show"]);
    let fields: Vec<_> = shown.split_whitespace().collect();
    assert_eq!((fields.len(), fields[0], fields[1].len()), (4, "modules", 52));
    let said = fails(dir.path(), &["-C", "new/home", "init", "--name", "again"], 3);
    assert!(said.contains("already"), "{said}");
}

#[test]
fn what_init_left_half_done_is_finished() {
    let dir = home();
    let keys = works(dir.path(), &["key", "show"]);
    fs::remove_file(dir.path().join(".mirra/Mirra.toml")).unwrap();
    fs::remove_file(dir.path().join(".mirra/keys/root-1")).unwrap();
    works(dir.path(), &["init", "--name", "again"]);
    assert_eq!(works(dir.path(), &["key", "show"]), keys);
}

#[test]
fn without_a_terminal_nothing_is_asked_and_nothing_made() {
    let dir = tempdir().unwrap();
    for args in [&[][..], &["init"]] {
        assert!(fails(dir.path(), args, 2).contains("mirra init --name"));
    }
    for args in [&["--help"][..], &["--version"], &["share", "--help"], &["init", "--help"]] {
        works(dir.path(), args);
    }
    for args in [&["status"][..], &["run"], &["publish"], &["key", "show"]] {
        assert!(fails(dir.path(), args, 3).contains("mirra init"));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn help_fits_a_screen() {
    let help = works(Path::new("/"), &["--help"]);
    assert!(help.lines().count() <= 40 && help.lines().all(|line| line.len() <= 100), "{help}");
}

#[test]
fn a_directory_that_holds_the_home_is_not_shared() {
    let dir = tempdir().unwrap();
    let said = fails(dir.path(), &["share", "."], 2);
    assert!(said.contains(".mirra") && said.contains("-C"), "{said}");
    assert!(!dir.path().join(".mirra").exists());

    let home = home();
    fails(home.path(), &["share", "."], 2);
    fails(home.path(), &["share", ".."], 2);
    fails(home.path(), &["share", ".mirra"], 2);
    fails(home.path(), &["sync", "127.0.0.1:1", "m", "--into", "."], 2);
    fails(home.path(), &["share", "none"], 11);
    fs::write(home.path().join("file"), "").unwrap();
    assert!(fails(home.path(), &["share", "file"], 11).contains("no directory"));
    symlink(home.path(), home.path().join("link")).unwrap();
    fails(home.path(), &["share", "link"], 2);
    fails(dir.path(), &["-C", home.path().join("sub").to_str().unwrap(), "share", home.path().to_str().unwrap()], 2);
    assert!(!home.path().join("sub").exists());
}

#[test]
fn share_makes_the_home_it_needs_and_registers_the_module() {
    let dir = tempdir().unwrap();
    let place = dir.path().join("place");
    fs::create_dir_all(place.join("pub")).unwrap();
    let args = ["share", "pub", "--publish", "quiet=5m", "--exclude", "*.tmp", "--title", "All of it", "-q"];
    // What follows the registration is not looked at here.
    mirra(&place, &args).output().unwrap();
    let config = fs::read_to_string(place.join(".mirra/Mirra.toml")).unwrap();
    assert!(config.contains("name = \"place\""), "{config}");
    let section =
        "[module.pub]\npath = \"pub\"\npublish = \"quiet=5m\"\nexclude = [\"*.tmp\"]\ntitle = \"All of it\"\n";
    assert!(config.ends_with(section), "{config}");
}

#[test]
fn wrong_command_lines_end_with_2() {
    let home = home();
    fs::create_dir(home.path().join("pub")).unwrap();
    let key = "a".repeat(52);
    fails(home.path(), &["sync", "host:0", "m"], 2);
    fails(home.path(), &["sync", "host", ".m"], 2);
    fails(home.path(), &["sync", "host/a", "b"], 2);
    fails(home.path(), &["sync", "host", "m/path"], 2);
    fails(home.path(), &["sync", "host", "m", "--key", "short"], 2);
    fails(home.path(), &["sync", &format!("host/m#{key}"), "--key", &"b".repeat(52)], 2);
    fails(home.path(), &["ls", "host", "-R"], 2);
    fails(home.path(), &["ls", "host/m/../x"], 2);
    fails(home.path(), &["share", "pub", "--name", ".x"], 2);
    fails(home.path(), &["share", "pub", "--exclude", "["], 2);
    for args in [&["nothing"][..], &["share"], &["share", "pub", "--publish", "now"], &["run", "--listen", "x"]] {
        mirra(home.path(), args).assert().code(2);
    }
}

#[test]
fn unsafe_homes_and_wrong_configs_end_with_3() {
    let home = home();
    let inner = home.path().join(".mirra");
    let config = inner.join("Mirra.toml");
    let text = fs::read_to_string(&config).unwrap();
    let wrong = text.replace("port", "prot");
    fs::write(&config, &wrong).unwrap();
    let line = 1 + wrong.lines().position(|line| line.starts_with("prot")).unwrap();
    let said = fails(home.path(), &["status"], 3);
    assert!(said.contains(&format!("Mirra.toml:{line}")) && said.contains("did you mean \"port\"?"), "{said}");
    for path in [".", "..", ".mirra/keys"] {
        fs::write(&config, format!("{text}[module.m]\npath = \"{path}\"\n")).unwrap();
        assert!(fails(home.path(), &["status"], 3).contains("[module.m]"));
    }
    fs::write(&config, text).unwrap();

    let key = inner.join("keys/head");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let said = fails(home.path(), &["status"], 3);
    assert!(said.contains("chmod 600"), "{said}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o750)).unwrap();
    assert!(fails(home.path(), &["status"], 3).contains("chmod 700"));
}

#[test]
fn status_is_one_line_a_module_and_json_on_demand() {
    let home = home();
    let config = home.path().join(".mirra/Mirra.toml");
    let name = "m".repeat(64);
    let text =
        fs::read_to_string(&config).unwrap() + &format!("[module.{name}]\npath = \"p\"\n[module.b]\nfrom = \"h/b\"\n");
    fs::write(&config, text).unwrap();
    let shown = works(home.path(), &["status"]);
    assert_eq!(shown.lines().count(), 2);
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&works(home.path(), &["status", "--json"])).unwrap();
    assert_eq!((&json["version"], &json["modules"][1]["module"]), (&1.into(), &"b".into()));
    assert_eq!(json["modules"][0]["module"], name);
}

#[test]
fn json_says_failures_too() {
    let dir = tempdir().unwrap();
    let output = mirra(dir.path(), &["status", "--json"]).assert().code(3).get_output().clone();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["failure"]["exit"], 3);
}

/// A daemon of the home in `dir`, heard to be ready.
fn daemon(dir: &Path) -> Child {
    let args = ["run", "--listen", "127.0.0.1:0"];
    let mut child = plain(dir, &args).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listens on 127.0.0.1:"), "{line}");
    child
}

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_daemon_owns_its_home_until_it_is_ended() {
    let home = home();
    let socket = home.path().join(".mirra/control.sock");
    let running = daemon(home.path());
    let status = works(home.path(), &["status", "--json"]);
    assert!(status.contains("\"running\":true"), "{status}");
    assert!(fails(home.path(), &["run", "--listen", "127.0.0.1:0"], 8).contains("already"));
    // The daemon itself calls, and finds nobody.
    fails(home.path(), &["sync", "127.0.0.1:1", "m", "--once"], 5);
    assert_eq!(end(running, Signal::INT), Some(0));
    assert!(!socket.exists());
    assert!(works(home.path(), &["status", "--json"]).contains("\"running\":false"));
    assert_eq!(end(daemon(home.path()), Signal::TERM), Some(0));
}

#[test]
fn a_daemon_outlives_its_terminal() {
    let home = home();
    let running = daemon(home.path());
    for _ in 0..3 {
        kill_process(Pid::from_child(&running), Signal::HUP).unwrap();
        assert!(works(home.path(), &["status", "--json"]).contains("\"running\":true"));
    }
    assert_eq!(end(running, Signal::TERM), Some(0));
}

#[test]
fn a_second_signal_does_not_wait() {
    let home = home();
    // The answer of this host never comes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let args = ["ls", &address, "--timeout", "60s"];
    let child = plain(home.path(), &args).stderr(Stdio::piped()).spawn().unwrap();
    let _held = silent.accept().unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(end(child, Signal::INT), Some(20));
}

#[test]
fn a_killed_daemon_is_no_hindrance() {
    let home = home();
    assert_eq!(end(daemon(home.path()), Signal::KILL), None);
    assert!(home.path().join(".mirra/control.sock").exists());
    assert!(works(home.path(), &["status", "--json"]).contains("\"running\":false"));
    assert_eq!(end(daemon(home.path()), Signal::INT), Some(0));
}

#[test]
fn a_taken_port_is_named_with_the_way_out() {
    let home = home();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = fails(home.path(), &["run", "--listen", &address], 3);
    assert!(said.contains(&address) && said.contains("--listen") && said.contains("Mirra.toml"), "{said}");
    let said = fails(home.path(), &["run", "--listen", "203.0.113.7"], 3);
    assert!(said.contains("listen ="), "{said}");
}

#[test]
fn a_module_rests_and_leaves_while_its_data_stays() {
    let home = home();
    let (pub_dir, config) = (home.path().join("pub"), home.path().join(".mirra/Mirra.toml"));
    fs::create_dir(&pub_dir).unwrap();
    fs::write(pub_dir.join("file"), "x").unwrap();
    works(home.path(), &["share", "pub"]);
    assert_eq!(works(home.path(), &["pause", "pub"]), "pub: paused\n");
    assert!(fs::read_to_string(&config).unwrap().ends_with("paused = true\n"));
    let status = works(home.path(), &["status"]);
    assert!(status.contains("paused"), "{status}");
    assert_eq!(works(home.path(), &["resume"]), "pub: resumed\n");
    assert!(!fs::read_to_string(&config).unwrap().contains("paused"));
    fails(home.path(), &["pause", "none"], 6);

    assert!(fails(home.path(), &["unsync", "pub"], 2).contains("mirra unshare pub"));
    fails(home.path(), &["unshare", "none"], 6);
    let left = works(home.path(), &["unshare", "pub", "--json"]);
    assert!(left.contains("\"data_deleted\":false"), "{left}");
    assert!(!fs::read_to_string(&config).unwrap().contains("[module"));
    assert!(pub_dir.join("file").exists());
    works(home.path(), &["share", "pub"]);
}

#[test]
fn data_goes_only_when_that_is_said_twice() {
    let home = home();
    for name in ["a/inner", "b", "c"] {
        fs::create_dir_all(home.path().join(name)).unwrap();
    }
    fs::write(home.path().join("a/inner/file"), "x").unwrap();
    symlink("c", home.path().join("link")).unwrap();
    for (dir, name) in [("a", "a"), ("a/inner", "inner"), ("b", "b"), ("link", "link")] {
        works(home.path(), &["share", dir, "--name", name]);
    }
    assert!(fails(home.path(), &["unshare", "b", "--delete-data"], 2).contains("--yes"));
    mirra(home.path(), &["unshare", "b", "--yes"]).assert().code(2);
    assert!(home.path().join("b").exists());
    // The directory of another module, and what a link leads to, are not this module's alone.
    assert!(fails(home.path(), &["unshare", "a", "--delete-data", "--yes"], 25).contains("inner"));
    assert!(fails(home.path(), &["unshare", "link", "--delete-data", "--yes"], 25).contains("link"));
    assert!(home.path().join("a/inner/file").exists() && home.path().join("link").exists());

    works(home.path(), &["unshare", "inner"]);
    let daemon = daemon(home.path());
    assert!(works(home.path(), &["unshare", "a", "--delete-data", "--yes"]).contains("is removed"));
    assert_eq!(end(daemon, Signal::TERM), Some(0));
    assert!(!home.path().join("a").exists() && home.path().join("b").exists());
}

#[test]
fn status_is_shown_again_when_it_changes() {
    let home = home();
    let daemon = daemon(home.path());
    let mut watching = plain(home.path(), &["status", "--watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains("\"modules\":[]"));
    fs::create_dir(home.path().join("pub")).unwrap();
    works(home.path(), &["share", "pub", "--publish", "manual"]);
    let wanted = |line: &String| line.contains("\"sequence\":1");
    assert!((0..20).map(|_| next()).any(|line| wanted(&line)));
    assert_eq!(end(watching, Signal::INT), Some(0));
    assert_eq!(end(daemon, Signal::INT), Some(0));
}
