//! The programs that people fetch with. A test of one that is not installed says so and passes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Site;
use super::programs::Program;
use crate::fixture::{Dice, Ended, text, walk};

const SIZE: usize = 5_000_000;
/// Where the download was cut that is resumed.
const CUT: usize = 1_234_567;

fn content() -> Vec<u8> {
    text(&mut Dice(9), SIZE)
}

fn one_file() -> Site {
    Site::new(|tree| fs::write(tree.join("big.bin"), content()).unwrap())
}

/// An empty directory for what is fetched.
fn place(site: &Site, name: &str) -> PathBuf {
    let place = site.world.place.path().join(name);
    fs::create_dir(&place).unwrap();
    place
}

#[track_caller]
fn fetched(program: &Program, place: &Path, args: &[&str]) -> Ended {
    program.run(place, args).expect(0)
}

/// Fetches the rest of a file with `args`; what was there is kept, so that only the rest may come.
#[track_caller]
fn resumes(program: &Program, args: &[&str]) {
    let (site, whole) = (one_file(), content());
    let place = place(&site, "fetched");
    let mut begun = whole[..CUT].to_vec();
    // Were it all fetched anew, this would be mended.
    begun[0] ^= 1;
    fs::write(place.join("big.bin"), begun).unwrap();
    let url = site.web.url("/m/big.bin");
    fetched(program, &place, &[args, &[&url]].concat());
    let found = fs::read(place.join("big.bin")).unwrap();
    assert_eq!(found.len(), SIZE);
    assert!(found[0] == whole[0] ^ 1 && found[1..] == whole[1..], "the rest, and nothing else");
}

#[test]
fn curl_resumes() {
    let Some(curl) = Program::find("curl") else { return };
    resumes(&curl, &["-sSf", "-O", "-C", "-"]);
}

#[test]
fn wget_resumes() {
    let Some(wget) = Program::find("wget") else { return };
    resumes(&wget, &["-nv", "-c"]);
}

#[test]
fn aria2_takes_parts_of_a_file_over_several_connections() {
    let Some(aria2) = Program::find("aria2c") else { return };
    let site = one_file();
    let place = place(&site, "fetched");
    let url = site.web.url("/m/big.bin");
    let args = ["--no-conf", "-q", "-x4", "-s4", "-k1M", "--file-allocation=none", "-d", ".", &url];
    fetched(&aria2, &place, &args);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 1);
    assert!(fs::read(place.join("big.bin")).unwrap() == content());
}

/// Fetches the module from the page at `target`, and everything that leads on from there.
fn everything(wget: &Program, target: &str) {
    let site = Site::new(|tree| {
        fs::create_dir_all(tree.join("d/e")).unwrap();
        fs::create_dir(tree.join("empty")).unwrap();
        for name in ["README", "d/b2", "d/b10", "d/e/deep", "d/e/a b&c?d#e", "n\u{e4}me"] {
            fs::write(tree.join(name), format!("this is {name}")).unwrap();
        }
    });
    let place = place(&site, "fetched");
    let args = ["-r", "-np", "-nH", "--cut-dirs=1", "-nv", "--restrict-file-names=nocontrol"];
    let ended = fetched(wget, &place, &[&args[..], &[&site.web.url(target)]].concat());
    let seen: Vec<&str> =
        ended.stderr.lines().filter_map(|line| line.split("URL:").nth(1)?.split(' ').next()).collect();
    let once: BTreeSet<&str> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "one thing twice: {seen:?}");
    assert!(!seen.iter().any(|url| url.ends_with("?tar")), "all of it once more: {seen:?}");
    let files = |top: &Path| {
        let found = walk(top).into_keys().map(|path| top.join(String::from_utf8(path).unwrap()));
        let found = found.filter(|path| path.is_file()).map(|path| {
            let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            (name, fs::read(path).unwrap())
        });
        let listed = |name: &str| name.split('/').next_back().is_some_and(|name| name.starts_with("index.html"));
        found.filter(|(name, _)| !listed(name) && name != "robots.txt").collect::<Vec<_>>()
    };
    assert_eq!(files(&place), files(&site.world.tree()));
}

#[test]
fn wget_takes_a_tree_from_its_plain_lists() {
    let Some(wget) = Program::find("wget") else { return };
    everything(&wget, "/m/?plain");
}

#[test]
fn wget_takes_a_tree_from_its_pages() {
    let Some(wget) = Program::find("wget") else { return };
    everything(&wget, "/m/");
}
