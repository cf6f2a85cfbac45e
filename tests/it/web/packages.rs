//! Package managers that take from a mirra. A test of one that is not installed says so and passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::Site;
use super::programs::Program;
use crate::fixture::{Dice, World};

/// Updates beside a repository that is published again and again.
const ROUNDS: usize = 10;
/// Sets another number of them.
const ROUNDS_VAR: &str = "MIRRA_TEST_APT_ROUNDS";

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

/// A flat repository with one package, and indexes that stay to be had by their hash, as the large archives have them.
struct Repository {
    tree: PathBuf,
    work: PathBuf,
    dpkg_deb: Program,
    dice: Dice,
}

impl Repository {
    /// Makes `version` of the package and new indexes; each file is whole under its name or not there.
    fn make(&mut self, version: usize) {
        let root = self.work.join("package");
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("DEBIAN")).unwrap();
        fs::write(root.join("content"), self.dice.bytes(40_000)).unwrap();
        let control = format!(
            "Package: mirra-test\nVersion: 1.{version}\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: a test\n"
        );
        fs::write(root.join("DEBIAN/control"), &control).unwrap();
        let name = format!("mirra-test_1.{version}_all.deb");
        self.dpkg_deb.run(&self.work, &["--build", "--root-owner-group", "package", &name]).expect(0);
        let package = fs::read(self.work.join(&name)).unwrap();
        self.put(&name, &package);
        let packages =
            format!("{control}Filename: ./{name}\nSize: {}\nSHA256: {}\n\n", package.len(), sha256(&package));
        let hash = sha256(packages.as_bytes());
        self.put(&format!("by-hash/SHA256/{hash}"), packages.as_bytes());
        self.put("Packages", packages.as_bytes());
        let release = format!(
            "Date: Mon, 23 Nov 2026 00:00:{:02} UTC\nSuite: test\nAcquire-By-Hash: yes\nSHA256:\n {hash} {} Packages\n",
            version % 60,
            packages.len()
        );
        self.put("Release", release.as_bytes());
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let (place, aside) = (self.tree.join(path), self.tree.join(".new"));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&aside, bytes).unwrap();
        fs::rename(aside, place).unwrap();
    }
}

/// Directories of their own for apt, which then needs no rights.
fn settings(place: &Path, url: &str) -> Vec<String> {
    for dir in ["lists/partial", "cache/archives/partial", "etc", "log"] {
        fs::create_dir_all(place.join(dir)).unwrap();
    }
    fs::write(place.join("status"), "").unwrap();
    fs::write(place.join("etc/sources.list"), format!("deb [trusted=yes] {url} ./\n")).unwrap();
    let at = |option: &str, path: &str| format!("-o{option}={}", place.join(path).display());
    vec![
        at("Dir::State::lists", "lists"),
        at("Dir::State::status", "status"),
        at("Dir::Cache", "cache"),
        at("Dir::Etc", "etc"),
        at("Dir::Log", "log"),
        "-oAPT::Sandbox::User=".into(),
        "-oAcquire::Languages=none".into(),
        "-oAcquire::http::Proxy=false".into(),
        "-oAPT::Get::Assume-Yes=true".into(),
        "-oDebug::NoLocking=true".into(),
    ]
}

fn rounds() -> usize {
    std::env::var(ROUNDS_VAR).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

#[test]
fn apt_updates_from_a_repository_that_is_published_meanwhile() {
    let (Some(apt), Some(dpkg_deb)) = (Program::find("apt-get"), Program::find("dpkg-deb")) else { return };
    let world = World::empty();
    let work = world.place.path().join("work");
    fs::create_dir(&work).unwrap();
    let mut repository = Repository { tree: world.tree(), work, dpkg_deb, dice: Dice(17) };
    repository.make(0);
    world.share().expect(0);
    let web = super::Web::start(&world.root(), &world.address());
    let place = world.place.path().join("apt");
    let settings = settings(&place, &web.url("/m"));
    let with = |more: &[&str]| {
        let args: Vec<&str> = settings.iter().map(String::as_str).chain(more.iter().copied()).collect();
        apt.run(&place, &args)
    };
    let over = AtomicBool::new(false);
    let published = std::thread::scope(|scope| {
        let publish = scope.spawn(|| {
            let mut version = 0;
            while !over.load(Ordering::Relaxed) {
                version += 1;
                repository.make(version);
                world.publish().expect(0);
            }
            version
        });
        for round in 0..rounds() {
            for command in [&["update"][..], &["install", "--download-only", "--reinstall", "mirra-test"]] {
                let ended = with(command).expect(0);
                let said = format!("{}{}", ended.stdout, ended.stderr);
                // A warning would do for a mirror that is torn: apt then goes on with what it had.
                let bad = ["mismatch", "Failed", "Err:", "E:"].iter().any(|word| said.contains(word));
                assert!(!bad, "round {round}: {said}");
            }
        }
        over.store(true, Ordering::Relaxed);
        publish.join().unwrap()
    });
    assert!(published > 1, "{published}");
    let fetched = fs::read_dir(place.join("cache/archives")).unwrap().map(|entry| entry.unwrap().file_name());
    let fetched: Vec<_> = fetched.filter(|name| name.to_string_lossy().ends_with(".deb")).collect();
    assert!(!fetched.is_empty());
    for name in fetched {
        let there = fs::read(world.tree().join(name.to_string_lossy().replace("%3a", ":"))).unwrap();
        assert!(fs::read(place.join("cache/archives").join(&name)).unwrap() == there, "{name:?}");
    }
}

/// Makes a wheel of one module in the directory it runs in.
const WHEEL: &str = r#"
import zipfile
with zipfile.ZipFile("mirra_test-1.0-py3-none-any.whl", "w") as wheel:
    info = "mirra_test-1.0.dist-info/"
    wheel.writestr("mirra_test.py", "here = True\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: mirra-test\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "")
"#;

#[test]
fn pip_finds_a_wheel_in_directories() {
    let Some(python) = Program::find("python3") else { return };
    let here = tempfile::tempdir().unwrap();
    if python.run(here.path(), &["-m", "pip", "--version"]).code != Some(0) {
        eprintln!("pip is not installed: nothing was tested");
        return;
    }
    python.run(here.path(), &["-c", WHEEL]).expect(0);
    let name = "mirra_test-1.0-py3-none-any.whl";
    let wheel = fs::read(here.path().join(name)).unwrap();
    let site = Site::new(|tree| {
        fs::create_dir_all(tree.join("simple/mirra-test")).unwrap();
        fs::write(tree.join("simple/mirra-test").join(name), &wheel).unwrap();
    });
    let index = site.web.url("/m/simple/");
    let args = ["-m", "pip", "download", "--isolated", "--no-cache-dir", "--disable-pip-version-check", "--no-deps"];
    let ended = python.run(here.path(), &[&args[..], &["--index-url", &index, "-d", "got", "mirra-test"]].concat());
    ended.expect(0);
    assert!(fs::read(here.path().join("got").join(name)).unwrap() == wheel);
}
