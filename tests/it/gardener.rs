//! Random trees and edits from a seed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::fixture::{Dice, What, chmod, copy, privileged, remove, set_mtime, text, walk};

/// Paths of directories get no longer by much. Names of 255 bytes make long paths in few steps; the system's bound is not
/// the tests' matter.
const LONG: usize = 2_500;

/// Makes random trees, and changes them at random, the same way each time for one seed.
pub(crate) struct Gardener {
    pub(crate) dice: Dice,
    made: u32,
}

impl Gardener {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice(seed), made: 0 }
    }

    /// Fills `top` with about `count` entries.
    pub(crate) fn plant(&mut self, top: &Path, count: usize) {
        for _ in 0..count {
            let dir = self.some_dir(top);
            self.grow(&dir);
        }
        self.season(top, 3);
    }

    /// Changes `top` in `count` ways.
    pub(crate) fn tend(&mut self, top: &Path, count: usize) {
        for _ in 0..count {
            self.change(top);
        }
        self.season(top, 1);
    }

    /// A name that is not taken in `dir`: plain ones, and those that trip programs.
    fn name(&mut self, dir: &Path) -> PathBuf {
        loop {
            let path = dir.join(OsString::from_vec(self.any_name()));
            // Each try counts up, so one is free soon.
            if fs::symlink_metadata(&path).is_err() {
                return path;
            }
        }
    }

    fn any_name(&mut self) -> Vec<u8> {
        self.made += 1;
        let n = self.made;
        match self.dice.below(14) {
            0 => format!("new\nline {n}").into(),
            1 => format!("\x1b[2J\x07 {n}").into(),
            2 => [&b"\xff\xfe\x80 "[..], n.to_string().as_bytes()].concat(),
            3 => format!("-rf {n}").into(),
            4 => format!("ü\u{202e}ñ\u{301} {n}").into(),
            5 => [vec![b'x'; 240], n.to_string().into()].concat(),
            6 => format!("..{n}").into(),
            7 => format!(".mirra{n}").into(),
            8 => format!("{n}.tar.gz").into(),
            9 => format!("\\ \"'*?$({n})").into(),
            10 => format!(" {n} ").into(),
            _ => format!("f{n}").into(),
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let len = match self.dice.below(16) {
            0 | 1 => 0,
            2 => 1,
            3..=7 => self.dice.below(3_000),
            8..=12 => self.dice.below(70_000),
            13 | 14 => self.dice.below(500_000),
            _ => self.dice.below(4_000_000),
        };
        match self.dice.below(3) {
            0 => self.dice.bytes(len),
            1 => text(&mut self.dice, len),
            _ => vec![self.dice.below(4) as u8; len],
        }
    }

    fn target(&mut self) -> OsString {
        let targets: [&[u8]; 6] = [b"../../../../etc/passwd", b"/", b"nowhere", b".", b"\xff\n\x1b", b"f1"];
        let at = self.dice.below(targets.len());
        OsStr::from_bytes(targets[at]).to_owned()
    }

    fn grow(&mut self, dir: &Path) {
        let path = self.name(dir);
        match self.dice.below(10) {
            0 | 1 => fs::create_dir(&path).unwrap(),
            2 => symlink(self.target(), &path).unwrap(),
            3 => {
                let deep = (0..self.dice.below(12)).fold(path, |path, _| path.join("d"));
                fs::create_dir_all(deep).unwrap();
            }
            _ => fs::write(path, self.content()).unwrap(),
        }
    }

    /// All paths of a kind below `top`, in an order that only the tree decides.
    fn all(&self, top: &Path, fits: impl Fn(&What) -> bool) -> Vec<PathBuf> {
        let found = walk(top).into_iter().filter(|(path, node)| !path.is_empty() && fits(&node.what));
        found.map(|(path, _)| top.join(OsStr::from_bytes(&path))).collect()
    }

    fn some(&mut self, top: &Path, fits: impl Fn(&What) -> bool) -> Option<PathBuf> {
        let mut all = self.all(top, fits);
        let at = self.dice.below(all.len());
        (!all.is_empty()).then(|| all.swap_remove(at))
    }

    /// Directories below `top` whose paths are not too long for more names.
    pub(crate) fn dirs(&self, top: &Path) -> Vec<PathBuf> {
        let mut all = self.all(top, |what| *what == What::Dir);
        all.retain(|dir| dir.as_os_str().len() < LONG);
        all
    }

    fn some_dir(&mut self, top: &Path) -> PathBuf {
        let nested = self.dice.below(3) > 0;
        let found = if nested { self.some(top, |what| *what == What::Dir) } else { None };
        found.filter(|dir| dir.as_os_str().len() < LONG).unwrap_or_else(|| top.to_owned())
    }

    fn change(&mut self, top: &Path) {
        let file = |what: &What| matches!(what, What::File(..));
        let dir = |what: &What| *what == What::Dir;
        let place = self.some_dir(top);
        let new = self.name(&place);
        match self.dice.below(18) {
            0..=3 => self.grow(&place),
            4..=6 => {
                let Some(path) = self.some(top, file) else { return };
                let mut bytes = fs::read(&path).unwrap();
                let at = self.dice.below(bytes.len() + 1);
                match self.dice.below(4) {
                    0 => bytes.truncate(at),
                    1 => bytes.extend(text(&mut self.dice, 5_000)),
                    2 => drop(bytes.splice(at..at, *b"an insertion")),
                    _ => bytes[at..].iter_mut().take(30).for_each(|b| *b ^= 0x55),
                }
                fs::write(&path, bytes).unwrap();
            }
            7 => {
                // Neither size nor mtime tells of this one.
                let Some(path) = self.some(top, file) else { return };
                let meta = fs::metadata(&path).unwrap();
                let bytes = self.dice.bytes(meta.len() as usize);
                fs::write(&path, bytes).unwrap();
                set_mtime(&path, meta.mtime(), meta.mtime_nsec());
            }
            8 => drop(self.some(top, file).map(|path| remove(&path))),
            9 => drop(self.some(top, |_| true).map(|path| remove(&path))),
            10 => drop(self.some(top, file).map(|path| fs::rename(path, new).unwrap())),
            11 => {
                if let Some(path) = self.some(top, dir).filter(|path| !place.starts_with(path)) {
                    fs::rename(path, new).unwrap();
                }
            }
            12 => {
                if let Some(path) = self.some(top, |_| true).filter(|path| !place.starts_with(path)) {
                    copy(&path, &new);
                }
            }
            13 => {
                // Something becomes a directory.
                let Some(path) = self.some(top, |what| *what != What::Dir) else { return };
                remove(&path);
                fs::create_dir(&path).unwrap();
                let inner = self.name(&path);
                fs::write(inner, self.content()).unwrap();
            }
            14 => {
                // A directory becomes something.
                let Some(path) = self.some(top, dir) else { return };
                remove(&path);
                if self.dice.below(2) == 0 {
                    symlink(self.target(), &path).unwrap();
                } else {
                    fs::write(&path, self.content()).unwrap();
                }
            }
            15 => {
                // A file becomes a link, or a link a file.
                let Some(path) = self.some(top, |what| *what != What::Dir) else { return };
                let was_link = fs::symlink_metadata(&path).unwrap().is_symlink();
                remove(&path);
                if was_link {
                    fs::write(&path, self.content()).unwrap();
                } else {
                    symlink(self.target(), &path).unwrap();
                }
            }
            16 => {
                // Two files change places.
                if let (Some(one), Some(other)) = (self.some(top, file), self.some(top, file))
                    && one != other
                {
                    fs::rename(&one, &new).unwrap();
                    fs::rename(&other, &one).unwrap();
                    fs::rename(&new, &other).unwrap();
                }
            }
            _ => self.season(top, 2),
        }
    }

    /// Gives some entries other modes and times.
    fn season(&mut self, top: &Path, every: usize) {
        let odd = [(0, 0), (-1, 999_999_999), (-1_000_000_000, 5), (1, 1), (4_000_000_000, 123_456_789)];
        // Deepest first: a time set on a directory stays only if nothing happens in it afterwards.
        let mut all = self.all(top, |_| true);
        all.reverse();
        for path in all.into_iter().chain([top.to_owned()]) {
            if self.dice.below(every + 2) > 0 {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let modes: &[u32] = match (meta.is_dir(), privileged()) {
                (true, true) => &[0o755, 0o555, 0o700, 0o777, 0],
                (false, true) => &[0o644, 0, 0o555, 0o777, 0o400],
                (true, false) => &[0o755, 0o700, 0o777],
                (false, false) => &[0o644, 0o555, 0o777, 0o400],
            };
            if !meta.is_symlink() {
                chmod(&path, modes[self.dice.below(modes.len())]);
            }
            let (seconds, nanos) = odd[self.dice.below(odd.len())];
            set_mtime(&path, seconds, nanos);
        }
    }
}
