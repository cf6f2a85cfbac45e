//! What a node takes of a module: rules in order, of which the first that fits a path decides; a path that none fits is
//! taken. What lies in a directory that is left out is left out.
//!
//! The patterns are those of `.gitignore`, the order is that of rsync's `--include` and `--exclude`. Two things are easier
//! than there: the directories on the way to what is included need no rules of their own, and rules that only include
//! leave everything else out.

use std::fmt;
use std::str::FromStr;

use super::failure::{Exit, Failure};
use crate::disk::exclude::Exclude;

/// Rules of one filter.
const RULES_MAX: usize = 10_000;

/// What a node takes of a module. Without rules it is everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The first that fits decides.
    pub rules: Vec<Rule>,
    /// Whether what the rules leave out is removed from the directory, and not only left alone.
    pub delete_excluded: bool,
}

/// One rule: `+ PATTERN` takes what fits, `- PATTERN` or the pattern alone leaves it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whether what fits is taken.
    pub keeps: bool,
    /// As in `.gitignore`, without `!`; `DIR/***` is a directory with all that it holds.
    pub pattern: String,
}

impl Filter {
    /// Whether the module is mirrored in part.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Reads `rules`, each as it is written.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse<S: AsRef<str>>(rules: impl IntoIterator<Item = S>, delete_excluded: bool) -> Result<Self, String> {
        let rules = rules.into_iter().map(|rule| rule.as_ref().parse()).collect::<Result<Vec<Rule>, _>>()?;
        if rules.len() > RULES_MAX {
            return Err(format!("there are {} rules, of {RULES_MAX} that may be", rules.len()));
        }
        let filter = Self { rules, delete_excluded };
        filter.patterns().map_err(|error| super::dial::chain(&error))?;
        Ok(filter)
    }

    /// The rules as they are written.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.rules.iter().map(ToString::to_string).collect()
    }

    /// What it leaves out.
    ///
    /// # Errors
    /// [`Failure`] when a pattern is wrong, though it was checked when it was read.
    pub(super) fn exclude(&self) -> Result<Exclude, Failure> {
        self.patterns().map_err(|e| {
            let fix = "correct include and exclude in .mirra/Mirra.toml";
            Failure::new(Exit::Config, "a pattern is not right", super::dial::chain(&e), fix)
        })
    }

    /// The rules as patterns of which the last that fits decides.
    fn patterns(&self) -> Result<Exclude, crate::disk::exclude::PatternError> {
        let mut patterns = Vec::new();
        let only_keeps = self.is_partial() && self.rules.iter().all(|rule| rule.keeps);
        for rule in &self.rules {
            if rule.keeps {
                rule.add_kept(only_keeps, &mut patterns);
            } else {
                rule.add_left_out(&mut patterns);
            }
        }
        if only_keeps {
            if self.rules.iter().any(|rule| !rule.is_anchored()) {
                patterns.push("!*/".to_owned());
            }
            patterns.push("*".to_owned());
        }
        patterns.reverse();
        Exclude::new(patterns)
    }
}

impl Rule {
    /// Whether the pattern stands for paths from the top, not for names at any depth.
    fn is_anchored(&self) -> bool {
        self.pattern.trim_end_matches('/').contains('/')
    }

    /// The pattern without what says that it means a directory with all in it.
    fn trunk(&self) -> Option<String> {
        let trunk = self.pattern.strip_suffix("/***")?;
        Some(if trunk.starts_with('/') { trunk.to_owned() } else { format!("/{trunk}") })
    }

    fn add_left_out(&self, patterns: &mut Vec<String>) {
        patterns.push(self.trunk().map_or_else(|| self.pattern.clone(), |trunk| format!("{trunk}/")));
    }

    fn add_kept(&self, with_all_below: bool, patterns: &mut Vec<String>) {
        let whole = self.trunk();
        let pattern = whole.as_deref().unwrap_or(&self.pattern);
        if whole.is_none() {
            patterns.push(format!("!{pattern}"));
        } else {
            patterns.push(format!("!{pattern}/"));
        }
        if with_all_below || whole.is_some() {
            let trunk = pattern.trim_end_matches('/');
            let any = if self.is_anchored() { "" } else { "**/" };
            patterns.push(format!("!{any}{trunk}/**"));
        }
        if self.is_anchored() {
            add_way(pattern, patterns);
        }
    }
}

/// Keeps the directories on the way to what an anchored pattern stands for.
fn add_way(pattern: &str, patterns: &mut Vec<String>) {
    let mut way = String::new();
    let mut names = pattern.trim_matches('/').split('/').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() && name != "**" {
            break;
        }
        way.push('/');
        way.push_str(name);
        patterns.push(format!("!{way}/"));
        if name == "**" {
            break;
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (keeps, pattern) = match (text.strip_prefix("+ "), text.strip_prefix("- ")) {
            (Some(pattern), _) => (true, pattern),
            (None, pattern) => (false, pattern.unwrap_or(text)),
        };
        if pattern.trim_matches('/').is_empty() {
            return Err("a pattern is empty".to_owned());
        }
        if pattern.starts_with('!') {
            return Err(format!("\"{pattern}\" begins with !: include what is to stay, before what leaves it out"));
        }
        Ok(Self { keeps, pattern: pattern.to_owned() })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.keeps { '+' } else { '-' }, self.pattern)
    }
}

/// The rules in the text of a file, one a line; empty lines and those that begin with `#` mean nothing.
pub fn rules_of_text(text: &str) -> impl Iterator<Item = &str> {
    lines_of_text(text).filter_map(pattern_of_line)
}

/// The lines of a file of patterns. Some editors write a mark in front of all text, which is no part of it.
pub(super) fn lines_of_text(text: &str) -> std::str::Lines<'_> {
    text.strip_prefix('\u{feff}').unwrap_or(text).lines()
}

/// The pattern in a line of `.gitignore`: without a comment, and without spaces at its end that no backslash protects.
pub(super) fn pattern_of_line(line: &str) -> Option<&str> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut pattern = line;
    while let Some(shorter) = pattern.strip_suffix([' ', '\t']).filter(|shorter| !shorter.ends_with('\\')) {
        pattern = shorter;
    }
    (!pattern.is_empty() && !pattern.starts_with('#')).then_some(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::name::TreePath;

    /// Whether a path is taken, seen from the top down as a walk does.
    fn takes(exclude: &Exclude, path: &str) -> bool {
        let (path, is_directory) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        let whole = TreePath::new(path.as_bytes()).unwrap();
        let mut place = TreePath::top();
        while let Some(name) = whole.name_below(&place) {
            let below = place.join(&name);
            if exclude.leaves_out(&place, &name, below != whole || is_directory) {
                return false;
            }
            place = below;
        }
        true
    }

    fn check(rules: &[&str], taken: &[&str], left_out: &[&str]) {
        let exclude = Filter::parse(rules, false).unwrap().exclude().unwrap();
        taken.iter().for_each(|path| assert!(takes(&exclude, path), "{rules:?} takes {path}"));
        left_out.iter().for_each(|path| assert!(!takes(&exclude, path), "{rules:?} leaves out {path}"));
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        check(&[], &["a", "a/b"], &[]);
        check(&["*.iso"], &["a", "a/b"], &["x.iso", "a/x.iso"]);
        check(&["- big/"], &["big", "a/b"], &["big/", "big/x", "a/big/x"]);
        check(&["+ keep.log", "*.log"], &["keep.log", "a/keep.log", "a"], &["x.log"]);
        check(&["*.log", "+ keep.log"], &[], &["keep.log"]);
        check(&["/a/***"], &["a", "b/a/x"], &["a/", "a/x", "a/b/c"]);
        check(&["a/**"], &["a/"], &["a/x", "a/b/c"]);
    }

    #[test]
    fn the_way_to_what_is_included_is_open() {
        check(&["+ docs/***", "*"], &["docs/", "docs/a", "docs/a/b"], &["x", "x/", "a/docs/b"]);
        check(&["+ docs/**", "*"], &["docs/", "docs/a/b"], &["x", "x/y"]);
        check(&["+ /a/b/c", "*"], &["a/", "a/b/", "a/b/c"], &["a/x", "a/b/x", "b"]);
        check(&["+ /a/**/c", "*"], &["a/x/y/c", "a/c", "a/x/"], &["a/x/y/d", "b"]);
        check(&["+ */", "+ *.txt", "*"], &["a/b/c.txt", "a/b/"], &["a/b/c.md"]);
        check(&["+ docs/", "*"], &["docs/"], &["docs/a"]);
        check(&["*.tmp", "+ /docs/***", "*"], &["docs/a"], &["docs/a.tmp", "a"]);
    }

    #[test]
    fn rules_that_only_include_leave_the_rest_out() {
        check(&["+ *.txt"], &["a.txt", "a/b.txt", "a/"], &["a.md", "a/b.md"]);
        check(&["+ /docs"], &["docs/", "docs/a/b"], &["x", "x/y", "x/docs/"]);
        check(&["+ docs/"], &["docs/", "docs/a", "x/docs/b"], &["x/y", "y"]);
        check(&["+ /a/b", "+ /c/***"], &["a/", "a/b/c", "c/d"], &["a/x", "x/"]);
    }

    #[test]
    fn wrong_rules_are_refused_and_right_ones_written_as_they_are_read() {
        for wrong in ["", "/", "+ ", "- ", "!a", "+ !a", "a[b"] {
            assert!(Filter::parse([wrong], false).is_err(), "{wrong}");
        }
        let filter = Filter::parse(["a", "+ b", "- c d"], true).unwrap();
        assert_eq!(filter.texts(), ["- a", "+ b", "- c d"]);
        assert_eq!(Filter::parse(filter.texts(), true).unwrap(), filter);
    }

    #[test]
    fn files_of_rules_have_comments_and_spaces() {
        let text = "# comment\n\n*.tmp  \r\n+ a b\n\\#b\nend\\ \n   \n";
        assert_eq!(rules_of_text(text).collect::<Vec<_>>(), ["*.tmp", "+ a b", "\\#b", "end\\ "]);
    }
}
