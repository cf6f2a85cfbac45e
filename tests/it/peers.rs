//! What the benchmark beside peers judges by: a version is put in place as package tools do it, and no difference
//! between two trees is overlooked. No peer is run.

use std::error::Error;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use mirra::Stop;
use tempfile::tempdir;

#[path = "../../src/bin/mirra/demo/compare.rs"]
mod compare;
#[path = "../../benches/peers/sample.rs"]
mod sample;
#[path = "../../benches/peers/trees.rs"]
mod trees;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn differ(a: &Path, b: &Path) -> Option<String> {
    compare::difference(a, b, &Stop::new()).unwrap()
}

#[test]
fn a_version_is_put_in_place_and_what_is_equal_stays_untouched() {
    let place = tempdir().unwrap();
    let (live, aside) = (place.path().join("live"), place.path().join("aside"));
    let (old, new) = sample::make(place.path()).unwrap();
    fs::create_dir(&live).unwrap();
    trees::place(&old, &live, &aside, &Stop::new()).unwrap();
    assert_eq!(differ(&old, &live), None);
    let key = |name: &str| {
        let meta = fs::symlink_metadata(live.join(name)).unwrap();
        (meta.ino(), meta.ctime(), meta.ctime_nsec())
    };
    let names = ["part-5/text-49", "part-5/first", "part-0/text-0", "large"];
    let before = names.map(key);
    assert!(differ(&new, &live).is_some());
    trees::place(&new, &live, &aside, &Stop::new()).unwrap();
    assert_eq!(differ(&new, &live), None);
    let same: Vec<_> = before.iter().zip(names.map(key)).map(|(before, after)| *before == after).collect();
    assert_eq!(same, [true, true, false, false]);
    assert!(!aside.exists());
}

#[test]
fn every_kind_of_difference_is_seen_and_mended() {
    let place = tempdir().unwrap();
    let [want, live, aside] = ["want", "live", "aside"].map(|name| place.path().join(name));
    fs::create_dir_all(want.join("dir/below")).unwrap();
    fs::write(want.join("dir/file"), "content").unwrap();
    symlink("file", want.join("dir/link")).unwrap();
    fs::create_dir(&live).unwrap();
    type Change = fn(&Path);
    let changes: [(&str, Change); 9] = [
        ("names", |top| fs::write(top.join("dir/more"), "").unwrap()),
        ("names", |top| fs::remove_file(top.join("dir/file")).unwrap()),
        ("kind", |top| {
            fs::remove_dir(top.join("dir/below")).unwrap();
            fs::write(top.join("dir/below"), "").unwrap();
        }),
        ("kind", |top| {
            fs::remove_file(top.join("dir/file")).unwrap();
            fs::create_dir(top.join("dir/file")).unwrap();
        }),
        ("content", |top| {
            let path = top.join("dir/file");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "CONTENT").unwrap();
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }),
        ("mode", |top| fs::set_permissions(top.join("dir/file"), Permissions::from_mode(0o600)).unwrap()),
        ("mode", |top| fs::set_permissions(top.join("dir"), Permissions::from_mode(0o700)).unwrap()),
        ("time", |top| trees::set_time(&top.join("dir/below"), (1, 1)).unwrap()),
        ("target", |top| {
            let path = top.join("dir/link");
            let meta = fs::symlink_metadata(&path).unwrap();
            fs::remove_file(&path).unwrap();
            symlink("elsewhere", &path).unwrap();
            trees::set_time(&path, (meta.mtime(), meta.mtime_nsec())).unwrap();
        }),
    ];
    for (word, change) in changes {
        trees::place(&want, &live, &aside, &Stop::new()).unwrap();
        assert_eq!(differ(&want, &live), None);
        change(&live);
        // A change in a directory changes its time, which would be seen first.
        let dir = fs::metadata(want.join("dir")).unwrap();
        trees::set_time(&live.join("dir"), (dir.mtime(), dir.mtime_nsec())).unwrap();
        let said = differ(&want, &live).unwrap();
        assert!(said.contains(&format!("differ: {word}")), "{word}: {said}");
    }
}
