//! The results for people: a table for each phase, with ratios, and where mirra does not win.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

use crate::args::Pair;
use crate::cell::{Cell, Phase, Typical, median};
use crate::tools::Name;

/// A peer is better where our figure is larger by more than is shown.
const EVEN: f64 = 1.005;

/// One of the typical figures.
type Figure = fn(Typical) -> f64;

/// What ran over one line.
pub(crate) struct Round {
    /// The thin line or the fast one, for a heading.
    pub(crate) title: String,
    /// How it was made and counted.
    pub(crate) words: String,
    pub(crate) is_thin: bool,
    pub(crate) cells: Vec<Cell>,
}

/// Which tools ran, with what, and what was left out.
pub(crate) fn tools(names: &[Name], missing: &[(Name, String)]) -> String {
    let mut text = String::new();
    for name in names {
        let version = name.version().map(|version| format!(" ({version})")).unwrap_or_default();
        let _ = writeln!(text, "- `{}` {}{version}.", name.word(), name.meaning());
    }
    for (name, why) in missing {
        let _ = writeln!(text, "- `{}` was left out: {why}.", name.word());
    }
    if cfg!(debug_assertions) {
        text.push_str("- This mirra was built for debugging: its times say little.\n");
    }
    text
}

/// How large the trees are.
pub(crate) fn trees(pairs: &[Pair]) -> String {
    let mut text = row(&["tree", "files", "bytes", "files of the update", "bytes"].map(String::from), true);
    for pair in pairs {
        let sizes = [&pair.old, &pair.new].map(|tree| measure(tree).unwrap_or_default());
        let cells = sizes.map(|(files, bytes)| [files.to_string(), size(bytes as f64)]).concat();
        text += &row(&[vec![pair.name.clone()], cells].concat(), false);
    }
    text
}

impl Round {
    /// All tables of this line.
    pub(crate) fn tables(&self, names: &[Name], against: Option<Name>) -> String {
        let mut text = format!("## {}\n\n{}\n", self.title, self.words);
        let peer = against.or_else(|| self.nearest(names)).filter(|peer| names.contains(peer));
        for phase in Phase::ALL {
            let _ = write!(text, "\n### {}\n\n{}", phase.title(), self.table(phase, names, peer));
        }
        let losses = self.losses();
        if !losses.is_empty() {
            let _ = write!(text, "\n### Where mirra does not win\n\n{losses}");
        } else if self.cells.iter().any(|cell| !cell.tool.is_ours() && !cell.measures.is_empty()) {
            text.push_str("\nNo peer that ran was better in any cell.\n");
        }
        for cell in &self.cells {
            let found = cell.measures.iter().find_map(|measure| Some((measure.phase, measure.difference.as_ref()?)));
            if let Some((phase, difference)) = found {
                let _ = writeln!(text, "\n✗ {}, {}, {}: {difference}", cell.tree, cell.tool.word(), phase.title());
            }
            if let Some(why) = &cell.failed {
                let _ = writeln!(text, "\n{}, {}: failed: {why}", cell.tree, cell.tool.word());
            }
        }
        text
    }

    /// The peer that is most like mirra on this line: with compression, and over a thin line with encryption too.
    fn nearest(&self, names: &[Name]) -> Option<Name> {
        let ran = |name: &Name| self.cells.iter().any(|cell| cell.tool == *name && !cell.measures.is_empty());
        let likeness = |name: &Name| (name.compresses(), name.is_encrypted() == self.is_thin);
        names.iter().copied().filter(|name| !name.is_ours() && ran(name)).max_by_key(likeness)
    }

    /// A row for each tree, a column for each tool, and one for the ratio of each of ours to the peer.
    fn table(&self, phase: Phase, names: &[Name], peer: Option<Name>) -> String {
        let ours: Vec<Name> = names.iter().copied().filter(|name| peer.is_some() && name.is_ours()).collect();
        let mut head = vec!["tree".to_owned()];
        head.extend(names.iter().map(|name| name.word().to_owned()));
        head.extend(ours.iter().map(|name| format!("{} : {}", name.word(), peer.map_or("", Name::word))));
        let mut text = row(&head, true);
        let mut all: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); ours.len()];
        let mut trees = 0;
        for (tree, cells) in self.rows() {
            let typical = |name| cells.iter().find(|cell| cell.tool == name)?.typical(phase);
            let mut line = vec![tree.to_owned()];
            line.extend(names.iter().map(|name| typical(*name).map_or("–".into(), figures)));
            for (name, sums) in ours.iter().zip(&mut all) {
                let both = typical(*name).zip(peer.and_then(typical));
                line.push(both.map_or("–".into(), |(our, their)| {
                    let (bytes, seconds) = (our.bytes / their.bytes, our.seconds / their.seconds);
                    sums.0.push(bytes);
                    sums.1.push(seconds);
                    times(bytes, seconds)
                }));
            }
            text += &row(&line, false);
            trees += 1;
        }
        if trees > 1 && !ours.is_empty() {
            let mut line = vec!["median".to_owned()];
            line.extend(names.iter().map(|_| String::new()));
            let medians = all.into_iter().map(|(bytes, seconds)| median(bytes).zip(median(seconds)));
            line.extend(medians.map(|both| both.map_or("–".into(), |(bytes, seconds)| times(bytes, seconds))));
            text += &row(&line, false);
        }
        text
    }

    /// The cells of each tree, in the order of the trees.
    fn rows(&self) -> impl Iterator<Item = (&str, &[Cell])> {
        self.cells.chunk_by(|a, b| a.tree == b.tree).filter_map(|cells| Some((cells.first()?.tree.as_str(), cells)))
    }

    /// A line for each phase, measure and tool of ours in which some peer was better, with the best peer of each tree.
    fn losses(&self) -> String {
        let mut text = String::new();
        let measures: [(&str, Figure); 2] = [("bytes", |it| it.bytes), ("time", |it| it.seconds)];
        for (phase, (word, value)) in Phase::ALL.into_iter().flat_map(|phase| measures.map(|it| (phase, it))) {
            for ours in Name::ALL.into_iter().filter(|name| name.is_ours()) {
                let lost = self.rows().filter_map(|(tree, cells)| {
                    let our = cells.iter().find(|cell| cell.tool == ours)?.typical(phase).map(value)?;
                    let peers = cells.iter().filter(|cell| !cell.tool.is_ours());
                    // Who did not do it has not won.
                    let done = |cell: &Cell| cell.typical(phase).filter(|it| it.equal).map(value);
                    let peers = peers.filter_map(|cell| Some((done(cell)?, cell.tool)));
                    let (least, best) = peers.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
                    let many = our / least;
                    (many > EVEN).then(|| format!("{tree} {} × `{}`", ratio(many), best.word()))
                });
                let lost: Vec<String> = lost.collect();
                if !lost.is_empty() {
                    let _ = writeln!(text, "- {}, {word} of `{}`: {}.", phase.title(), ours.word(), lost.join(", "));
                }
            }
        }
        text
    }
}

/// Files and bytes below `top`.
fn measure(top: &Path) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        let (files, bytes) = if meta.is_dir() { measure(&entry.path())? } else { (1, meta.len()) };
        sum = (sum.0 + files, sum.1 + bytes);
    }
    Ok(sum)
}

fn row(cells: &[String], is_head: bool) -> String {
    let mut text = format!("| {} |\n", cells.join(" | "));
    if is_head {
        text += &format!("|---|{}\n", "--:|".repeat(cells.len().saturating_sub(1)));
    }
    text
}

/// Bytes and seconds, and a mark where trees were not equal.
pub(crate) fn figures(typical: Typical) -> String {
    let mark = if typical.equal { "" } else { " ✗" };
    format!("{}, {:.2} s{mark}", size(typical.bytes), typical.seconds)
}

fn times(bytes: f64, seconds: f64) -> String {
    format!("{} ×, {} ×", ratio(bytes), ratio(seconds))
}

/// Two digits that count at least.
fn ratio(value: f64) -> String {
    let digits = match value {
        0.0995.. => 2,
        0.01.. => 3,
        _ => 4,
    };
    format!("{value:.digits$}")
}

/// Three digits that count, in powers of a thousand.
fn size(bytes: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| bytes >= *unit) else { return format!("{bytes:.0} B") };
    let value = bytes / unit;
    let digits = if value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
    format!("{value:.digits$} {name}")
}
