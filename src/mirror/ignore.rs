//! `.mirraignore`: what the owner of a tree leaves out of its module, beside the tree itself. It lies at the top, has the
//! syntax of `.gitignore`, and is a part of the module like any other file.

use std::io::{self, Read};

use super::dial::chain;
use super::failure::{Exit, Failure};
use super::filter::{lines_of_text, pattern_of_line};
use crate::disk::dir::Dir;
use crate::disk::exclude::Exclude;
use crate::tree::name::Name;

/// The file's name.
pub const IGNORE: &str = ".mirraignore";
/// Bytes of it.
const IGNORE_MAX: u64 = 1024 * 1024;

/// What is left out of a module, weakest first: what the file in its directory `dir` says, then what its config does.
///
/// # Errors
/// [`Failure`] when the file is there and cannot be understood: what it should leave out must not be published.
pub(super) fn patterns(dir: &Dir, shown: &std::path::Path, config: &[String]) -> Result<Vec<String>, Failure> {
    let what = || format!("cannot use {}/{IGNORE}", shown.display());
    let by_hand = || format!("make {IGNORE} a readable text file of {IGNORE_MAX} bytes at most, or remove it");
    let text = read(dir).map_err(|e| match e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        true => Failure::new(Exit::LocalFile, what(), "it is a symbolic link, which may lead anywhere", by_hand()),
        false => Failure { fix: by_hand(), ..Failure::local(what(), &e) },
    })?;
    let mut patterns: Vec<String> = Vec::new();
    for (number, line) in lines_of_text(&text).enumerate() {
        let Some(pattern) = pattern_of_line(line) else { continue };
        if let Err(error) = Exclude::new([pattern]) {
            let fix = format!("correct line {} of it; nothing was published", number + 1);
            return Err(Failure::new(Exit::Config, what(), chain(&error), fix));
        }
        patterns.push(pattern.to_owned());
    }
    patterns.extend_from_slice(config);
    Ok(patterns)
}

/// The text of the file; empty if there is none.
fn read(dir: &Dir) -> io::Result<String> {
    let name = Name::new(IGNORE.as_bytes()).map_err(io::Error::other)?;
    let file = match dir.open_file(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    let mut text = String::new();
    file.take(IGNORE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > IGNORE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(text)
}
