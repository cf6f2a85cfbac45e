//! One tool on one pair of trees: what its runs needed.

use std::path::Path;
use std::time::Instant;

use mirra::Stop;
use serde::Serialize;

use crate::Result;
use crate::args::Pair;
use crate::compare::difference;
use crate::line::Line;
use crate::stand::Stand;
use crate::tools::Name;
use crate::trees::place;

/// The three syncs of a run, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    First,
    Nothing,
    Update,
}

impl Phase {
    pub(crate) const ALL: [Self; 3] = [Self::First, Self::Nothing, Self::Update];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::First => "First sync",
            Self::Nothing => "Nothing changed",
            Self::Update => "Update, old to new",
        }
    }
}

/// What one sync needed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measure {
    pub(crate) phase: Phase,
    /// Bytes to the follower.
    pub(crate) down: u64,
    /// Bytes to the source.
    pub(crate) up: u64,
    /// From the change at the source to the end of the sync.
    pub(crate) seconds: f64,
    /// Of that, what the source did first.
    pub(crate) publish_seconds: f64,
    /// What is not equal afterwards.
    pub(crate) difference: Option<String>,
}

/// All runs of a tool on a pair.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) tree: String,
    pub(crate) tool: Name,
    pub(crate) measures: Vec<Measure>,
    /// Why there are no more runs.
    pub(crate) failed: Option<String>,
}

/// The medians of a phase.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Typical {
    /// Both ways.
    pub(crate) bytes: f64,
    pub(crate) seconds: f64,
    /// Whether the trees were equal after every run.
    pub(crate) equal: bool,
}

impl Cell {
    /// Runs the tool as often as asked for, or until it fails.
    pub(crate) fn fill(name: Name, pair: &Pair, reps: u32, work: &Path, line: &Line, stop: &Stop) -> Self {
        let mut cell = Self { tree: pair.name.clone(), tool: name, measures: Vec::new(), failed: None };
        for _ in 0..reps {
            if let Err(e) = run(name, pair, work, line, stop, &mut cell.measures) {
                cell.failed = Some(e.to_string());
                break;
            }
        }
        cell
    }

    /// `None` where no run came so far.
    pub(crate) fn typical(&self, phase: Phase) -> Option<Typical> {
        let of_phase = || self.measures.iter().filter(|measure| measure.phase == phase);
        let bytes = median(of_phase().map(|measure| (measure.down + measure.up) as f64).collect())?;
        let seconds = median(of_phase().map(|measure| measure.seconds).collect())?;
        Some(Typical { bytes, seconds, equal: of_phase().all(|measure| measure.difference.is_none()) })
    }
}

/// From nothing to the old tree, to it again, and to the new one.
fn run(name: Name, pair: &Pair, work: &Path, line: &Line, stop: &Stop, measures: &mut Vec<Measure>) -> Result<()> {
    let mut stand = Stand::new(work, line, stop)?;
    let mut tool = name.make();
    tool.serve(&mut stand)?;
    for (phase, version) in Phase::ALL.into_iter().zip([Some(&pair.old), None, Some(&pair.new)]) {
        if let Some(version) = version {
            place(version, &stand.live, &stand.aside, stop)?;
        }
        tool.prepare(&stand)?;
        let (before, begun) = (line.counted()?, Instant::now());
        if version.is_some() {
            tool.publish(&stand)?;
        }
        let published = begun.elapsed();
        tool.sync(&stand)?;
        let seconds = begun.elapsed().as_secs_f64();
        let after = line.counted()?;
        measures.push(Measure {
            phase,
            down: after.down.saturating_sub(before.down),
            up: after.up.saturating_sub(before.up),
            seconds,
            publish_seconds: published.as_secs_f64(),
            difference: difference(&stand.live, &stand.copy, stop)?,
        });
    }
    Ok(())
}

/// The middle of some figures, or between the two in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    let upper = *figures.get(middle)?;
    let lower = if figures.len().is_multiple_of(2) { *figures.get(middle.checked_sub(1)?)? } else { upper };
    Some((lower + upper) / 2.0)
}
