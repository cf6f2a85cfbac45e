//! Patterns of what is left out of a module, in the spelling of `.gitignore`.
//!
//! `*.tmp` at any depth, `/top/only` and `a/b` from the top, `dir/` for directories alone, `**` across directories,
//! `!pattern` for what is kept after all: the last pattern that fits decides. What lies in a directory that is left
//! out is left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::tree::name::{Name, TreePath};

/// A pattern that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pattern \"{pattern}\" is wrong")]
pub struct PatternError {
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub source: globset::Error,
}

/// Patterns of what is left out.
#[derive(Debug, Clone)]
pub struct Exclude {
    globs: GlobSet,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    directories_only: bool,
    keeps: bool,
}

impl Exclude {
    /// Reads patterns, weakest first. Empty ones mean nothing.
    ///
    /// # Errors
    /// [`PatternError`] with the first that is wrong.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, PatternError> {
        let (mut globs, mut rules) = (GlobSetBuilder::new(), Vec::new());
        let mut last = String::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            let (keeps, rest) = pattern.strip_prefix('!').map_or((false, pattern), |rest| (true, rest));
            let (directories_only, rest) = rest.strip_suffix('/').map_or((false, rest), |rest| (true, rest));
            let from_top = rest.contains('/');
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            if rest.is_empty() {
                continue;
            }
            let rest = without_choices(rest);
            let text = if from_top { rest } else { format!("**/{rest}") };
            let glob = GlobBuilder::new(&text).literal_separator(true).backslash_escape(true).build();
            globs.add(glob.map_err(|source| PatternError { pattern: pattern.to_owned(), source })?);
            rules.push(Rule { directories_only, keeps });
            last = pattern.to_owned();
        }
        let globs = globs.build().map_err(|source| PatternError { pattern: last, source })?;
        Ok(Self { globs, rules })
    }

    /// Leaves nothing out.
    #[must_use]
    pub fn nothing() -> Self {
        Self { globs: GlobSet::empty(), rules: Vec::new() }
    }

    /// Whether `name` in the directory `place` is left out; whether that directory is, the caller has seen on the way
    /// down.
    #[must_use]
    pub fn leaves_out(&self, place: &TreePath, name: &Name, is_directory: bool) -> bool {
        if self.rules.is_empty() {
            return false;
        }
        let path = place.join(name);
        let fits = self.globs.matches_candidate(&Candidate::new(OsStr::from_bytes(path.as_bytes())));
        let rules = fits.iter().rev().filter_map(|at| self.rules.get(*at));
        rules.copied().find(|rule| is_directory || !rule.directories_only).is_some_and(|rule| !rule.keeps)
    }
}

/// A pattern whose braces mean themselves, as in `.gitignore`: here they would be choices.
fn without_choices(pattern: &str) -> String {
    let (mut text, mut escaped, mut class) = (String::with_capacity(pattern.len() + 2), false, None::<usize>);
    for c in pattern.chars() {
        match (c, class) {
            _ if escaped => escaped = false,
            ('\\', None) => escaped = true,
            ('{' | '}', None) => text.push('\\'),
            ('[', None) => class = Some(0),
            // A bracket right at the start of a class is a member of it, also behind the sign that turns the class round.
            (']', Some(members)) if members > 0 => class = None,
            ('!' | '^', Some(0)) => {}
            (_, Some(members)) => class = Some(members + 1),
            (_, None) => {}
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(patterns: &[&str], left_out: &[&str], kept: &[&str]) {
        let exclude = Exclude::new(patterns).unwrap();
        let ask = |path: &str| {
            let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
            let (place, name) = TreePath::new(path.as_bytes()).unwrap().split_last().unwrap();
            exclude.leaves_out(&place, &name, is_directory)
        };
        left_out.iter().for_each(|path| assert!(ask(path), "{patterns:?} leaves out {path}"));
        kept.iter().for_each(|path| assert!(!ask(path), "{patterns:?} keeps {path}"));
    }

    #[test]
    fn patterns_mean_what_they_mean_in_gitignore() {
        check(&[], &[], &["a", "a/"]);
        check(&["", "/", "!"], &[], &["a", "a/"]);
        check(&["*.tmp"], &["x.tmp", "a/b/x.tmp", ".tmp", "d.tmp/"], &["x.tmp2", "tmp"]);
        check(&["/top/only"], &["top/only", "top/only/"], &["a/top/only", "only"]);
        check(&["a/b"], &["a/b"], &["x/a/b"]);
        check(&["/one"], &["one"], &["a/one"]);
        check(&["dir/"], &["dir/", "a/dir/"], &["dir", "a/dir"]);
        check(&["**/deep"], &["deep", "a/deep", "a/b/deep"], &["deep2"]);
        check(&["a/**/z"], &["a/z", "a/b/z", "a/b/c/z"], &["z"]);
        check(&["a/**"], &["a/x", "a/x/y"], &["a", "b/a/x"]);
        check(&["a/*"], &["a/x"], &["a/x/y"]);
        check(&["?.[ch]"], &["a.c", "x/b.h"], &["ab.c", "a.o"]);
        check(&["*.log", "!keep.log"], &["a.log"], &["keep.log", "x/keep.log"]);
        check(&["!keep.log", "*.log"], &["keep.log"], &[]);
        check(&["\\*"], &["*"], &["a"]);
        check(&["{a,b}"], &["{a,b}", "x/{a,b}"], &["a", "b"]);
        check(&["{a,b", "c}", "\\{d\\}"], &["{a,b", "c}", "{d}"], &["a", "b"]);
        check(&["x[{}]y", "z[!]}]"], &["x{y", "x}y", "za"], &["xy", "z]", "z}"]);
    }

    #[test]
    fn names_that_are_no_text_are_matched_as_bytes() {
        let exclude = Exclude::new(["*.tmp"]).unwrap();
        assert!(exclude.leaves_out(&TreePath::top(), &Name::new(b"\xff\xfe.tmp").unwrap(), false));
    }

    #[test]
    fn a_wrong_pattern_is_named() {
        assert_eq!(Exclude::new(["ok", "a[b"]).unwrap_err().pattern, "a[b");
    }
}
