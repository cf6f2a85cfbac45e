//! The home: who may have it, and who may not read it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use mirra::disk::home::{Home, HomeError, Overlap, overlap};
use tempfile::tempdir;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_home_is_private_and_its_files_are_whole() {
    let place = tempdir().unwrap();
    let base = place.path().join("deep/er");
    assert!(matches!(Home::open(&base), Err(HomeError::Missing(_))));
    let home = Home::create(&base).unwrap();
    let inner = home.inner();
    let mode = |name: &str| fs::metadata(inner.path().join(name)).unwrap().permissions().mode() & 0o777;
    inner.write("file", b"one").unwrap();
    inner.write("file", b"two").unwrap();
    inner.sub("dir").unwrap();
    assert_eq!((mode("."), mode("dir"), mode("file")), (0o700, 0o700, 0o600));
    assert_eq!(inner.read("file", 3).unwrap().unwrap(), b"two");
    assert!(inner.read("file", 2).is_err() && inner.read("none", 2).unwrap().is_none());
    assert_eq!(fs::read(inner.reach("file")).unwrap(), b"two");
    let names: Vec<_> = fs::read_dir(inner.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn secrets_that_others_can_reach_are_refused() {
    let place = tempdir().unwrap();
    let home = Home::create(place.path()).unwrap();
    let keys = home.inner().sub("keys").unwrap();
    keys.write("key", b"secret").unwrap();
    assert_eq!(keys.read_secret("key").unwrap().unwrap().as_slice(), b"secret");
    let path = keys.path().join("key");

    for mode in [0o644, 0o640, 0o620, 0o601] {
        chmod(&path, mode);
        let Err(HomeError::Unsafe { fix, .. }) = keys.read_secret("key") else { panic!("{mode:o}") };
        assert_eq!(fix, format!("chmod 600 {}", path.display()));
    }
    chmod(&path, 0o600);
    fs::rename(&path, place.path().join("elsewhere")).unwrap();
    symlink(place.path().join("elsewhere"), &path).unwrap();
    assert!(matches!(keys.read_secret("key"), Err(HomeError::Unsafe { why: "is a link", .. })));
    assert!(keys.read("key", 9).is_err());

    chmod(keys.path(), 0o750);
    assert!(matches!(home.inner().sub("keys"), Err(HomeError::Unsafe { .. })));
    chmod(home.inner().path(), 0o755);
    assert!(matches!(Home::open(place.path()), Err(HomeError::Unsafe { .. })));
}

#[test]
fn a_home_behind_a_link_is_refused() {
    let place = tempdir().unwrap();
    let real = Home::create(&place.path().join("real")).unwrap();
    let other = place.path().join("other");
    fs::create_dir(&other).unwrap();
    symlink(real.inner().path(), other.join(".mirra")).unwrap();
    assert!(matches!(Home::open(&other), Err(HomeError::Unsafe { .. })));
    assert!(matches!(Home::create(&other), Err(HomeError::Unsafe { .. })));
    // The directory that holds it may be reached by any way the operator likes.
    symlink(real.base(), place.path().join("link")).unwrap();
    Home::open(&place.path().join("link")).unwrap();
}

#[test]
fn one_process_has_a_home() {
    let place = tempdir().unwrap();
    let home = Home::create(place.path()).unwrap();
    let lock = home.lock().unwrap();
    let Err(HomeError::Busy { holder, .. }) = Home::open(place.path()).unwrap().lock() else { panic!() };
    assert_eq!(holder, Some(std::process::id()));
    drop(lock);
    home.lock().unwrap();
}

#[test]
fn homes_and_directories_are_told_apart_however_they_are_spelled() {
    let place = tempdir().unwrap();
    let base = place.path().join("a/b");
    Home::create(&base).unwrap();
    fs::create_dir_all(base.join("pub")).unwrap();
    symlink(place.path(), base.join("up")).unwrap();
    let check = |dir: &str, expected| assert_eq!(overlap(&base, &base.join(dir)).unwrap(), expected, "{dir}");
    for dir in ["", ".", "..", "../..", "/", "up", "pub/../../b", "up/a"] {
        check(dir, Overlap::HoldsHome);
    }
    for dir in [".mirra", ".mirra/keys/none", "up/a/b/.mirra"] {
        check(dir, Overlap::WithinHome);
    }
    for dir in ["pub", "none", "none/deeper", "../c", "up/a/b/pub"] {
        check(dir, Overlap::Apart);
    }
    let coming = place.path().join("c/d");
    assert_eq!(overlap(&coming, place.path()).unwrap(), Overlap::HoldsHome);
    assert_eq!(overlap(&coming, &base).unwrap(), Overlap::Apart);
}
