//! Two versions of a small tree, for when the caller brings none: text, a program's bytes, links; then edits, an
//! insertion, a renamed directory, something new and something removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use mirra::Stop;

use super::Result;
use super::trees::{place, set_time};

const DIRECTORIES: u64 = 20;
/// In each directory.
const FILES: u64 = 50;
/// Of the one large file.
const LARGE: usize = 8 << 20;
/// Words of the text.
const WORDS: [&str; 16] = [
    "mirror", "root", "of", "the", "tree", "node", "and", "with", "a", "signed", "state", "that", "follows", "chunk",
    "line", "many",
];
/// When the versions were made, in seconds.
const TIMES: [i64; 2] = [1_700_000_000, 1_700_086_400];

/// Makes both versions below `work`, the old one and the new one.
///
/// # Errors
/// Those of the filesystem.
pub(crate) fn make(work: &Path) -> Result<(PathBuf, PathBuf)> {
    let (old, new) = (work.join("old"), work.join("new"));
    fs::create_dir(&old)?;
    fs::create_dir(&new)?;
    for directory in 0..DIRECTORIES {
        let directory_path = old.join(format!("part-{directory}"));
        fs::create_dir(&directory_path)?;
        for file in 0..FILES {
            let seed = directory * FILES + file;
            fs::write(directory_path.join(format!("text-{file}")), text(seed, 200 + (seed as usize * 37) % 8_000))?;
        }
        symlink("text-1", directory_path.join("first"))?;
    }
    fs::write(old.join("large"), bytes(0, LARGE))?;
    let [then, now] = TIMES;
    date(&old, then)?;
    place(&old, &new, &work.join("aside"), &Stop::new())?;

    for file in 0..FILES {
        let path = new.join(format!("part-{}/text-{file}", file % DIRECTORIES));
        let mut changed = fs::read(&path)?;
        let middle = changed.len() / 2;
        changed.splice(middle..middle, b" and one more word ".iter().copied());
        rewrite(&path, &changed, now)?;
    }
    let mut large = fs::read(new.join("large"))?;
    let middle = large.len() / 2;
    large.splice(middle..middle + 10, bytes(1, 5_000));
    rewrite(&new.join("large"), &large, now)?;
    rewrite(&new.join("added"), &text(9_999, 50_000), now)?;
    fs::remove_file(new.join("part-3/text-7"))?;
    fs::rename(new.join("part-4"), new.join("renamed"))?;
    for changed in ["", "part-3"] {
        set_time(&new.join(changed), (now, 0))?;
    }
    Ok((old, new))
}

/// Bytes without order, from a seed.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn text(seed: u64, words: usize) -> Vec<u8> {
    let words = bytes(seed, words).into_iter().map(|byte| WORDS.get(usize::from(byte % 16)).copied().unwrap_or("\n"));
    words.collect::<Vec<_>>().join(" ").into_bytes()
}

fn rewrite(path: &Path, content: &[u8], seconds: i64) -> Result<()> {
    fs::write(path, content)?;
    Ok(set_time(path, (seconds, 0))?)
}

/// Gives all that lies at `top` the same time.
fn date(top: &Path, seconds: i64) -> Result<()> {
    if !top.is_symlink() && top.is_dir() {
        for entry in fs::read_dir(top)? {
            date(&entry?.path(), seconds)?;
        }
    }
    Ok(set_time(top, (seconds, 0))?)
}
