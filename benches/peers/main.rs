//! mirra beside its peers: `cargo bench --bench peers -- [--tools ...] [--thin] NAME=OLD:NEW ...`
//!
//! Each tool brings an empty directory to the old tree, then to it again, and then to the new one, and is judged by the
//! trees: names, kinds, contents, modes, mtimes and targets. What it needed, both ways and in seconds, becomes tables in
//! Markdown, with the ratios to one peer, or JSON. A peer that is not installed is left out, and that is said.
//!
//! `args` what is asked for; `line` and `relay` what joins the two ends and counts; `stand` the directories and programs
//! of a run; `tools` mirra and its peers; `trees` a version put in place; `cell` the runs; `table` and `main` what is said.
#![allow(clippy::disallowed_methods, reason = "a program that makes the trees it measures")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "results and progress of a program")]

mod args;
mod cell;
#[path = "../../src/bin/mirra/demo/compare.rs"]
mod compare;
mod line;
mod relay;
mod sample;
#[allow(dead_code, reason = "a measurement is no daemon")]
#[path = "../../src/bin/mirra/signals.rs"]
mod signals;
mod stand;
mod table;
mod tools;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use mirra::{Exit, Stop};
use serde_json::{Value, json};

use crate::args::{Args, Pair, Shape};
use crate::cell::{Cell, Phase};
use crate::line::Line;
use crate::table::Round;
use crate::tools::Name;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let stop = Stop::new();
    match run(&Args::parse(), &stop) {
        _ if stop.requested() => Exit::Interrupted.code().into(),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("peers: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all ran, and all trees were equal.
fn run(args: &Args, stop: &Stop) -> Result<bool> {
    signals::listen(stop)?;
    if args.against.is_some_and(|peer| peer.is_ours() || !args.tools.contains(&peer)) {
        return Err("--against takes a peer that runs".into());
    }
    let work = args.work.clone().unwrap_or_else(std::env::temp_dir);
    let work = tempfile::Builder::new().prefix("mirra-peers-").tempdir_in(work)?;
    let pairs = match args.pairs.as_slice() {
        [] => {
            let (old, new) = sample::make(work.path())?;
            vec![Pair { name: "made".into(), old, new }]
        }
        pairs => pairs.to_vec(),
    };
    let mut called = BTreeSet::new();
    if let Some(pair) = pairs.iter().find(|pair| !called.insert(&pair.name)) {
        return Err(format!("two trees are called {}", pair.name).into());
    }
    let missing: Vec<_> = args.tools.iter().filter_map(|name| Some((*name, name.missing()?))).collect();
    let is_here = |name: &&Name| !missing.iter().any(|(absent, _)| absent == *name);
    let names: Vec<Name> = args.tools.iter().filter(is_here).copied().collect();
    let mut rounds = Vec::new();
    for shape in [None].into_iter().chain(args.thin_line().map(Some)) {
        let line = Line::new(shape, args.loopback)?;
        rounds.push(round(shape, &line, &pairs, &names, args.reps, work.path(), stop));
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all(&rounds, &names, &missing, args.reps))?);
    } else {
        let runs = if args.reps == 1 { "one run".into() } else { format!("medians of {} runs", args.reps) };
        let cores = std::thread::available_parallelism()?;
        println!("# Beside its peers\n\n{}, {runs} of each cell on a machine with {cores} cores.\n", today());
        println!(
            "- After each phase names, kinds, contents, modes, mtimes and targets are compared; ✗ marks what is not equal."
        );
        println!(
            "- A first sync and an update of mirra contain the scan and the signature of the new snapshot at the root."
        );
        println!("{}\n{}", table::tools(&names, &missing), table::trees(&pairs));
        println!("{}", rounds.iter().map(|round| round.tables(&names, args.against)).collect::<Vec<_>>().join("\n"));
    }
    let is_well = |cell: &Cell| cell.failed.is_none() && cell.measures.iter().all(|it| it.difference.is_none());
    Ok(rounds.iter().all(|round| round.cells.iter().all(is_well)))
}

/// All tools on all pairs, over one line.
fn round(
    shape: Option<Shape>,
    line: &Line,
    pairs: &[Pair],
    names: &[Name],
    reps: u32,
    work: &Path,
    stop: &Stop,
) -> Round {
    let title = shape.map_or("Fast line".into(), |shape| format!("Thin line, {shape}"));
    let mut cells = Vec::new();
    for (pair, name) in pairs.iter().flat_map(|pair| names.iter().map(move |name| (pair, *name))) {
        if stop.requested() {
            break;
        }
        let cell = Cell::fill(name, pair, reps, work, line, stop);
        let typical = Phase::ALL.iter().filter_map(|phase| cell.typical(*phase)).map(table::figures);
        let typical = typical.collect::<Vec<_>>().join("; ");
        let failed = cell.failed.as_ref().map(|why| format!(" failed: {why}")).unwrap_or_default();
        eprintln!("{title}: {}, {}: {typical}{failed}", pair.name, name.word());
        cells.push(cell);
    }
    Round { title, words: line.words.clone(), is_thin: shape.is_some(), cells }
}

/// All that was measured.
fn all(rounds: &[Round], names: &[Name], missing: &[(Name, String)], reps: u32) -> Value {
    let cell = |cell: &Cell| json!({"tree": cell.tree, "tool": cell.tool.word(), "syncs": cell.measures, "failed": cell.failed});
    let line = |round: &Round| {
        let cells: Vec<_> = round.cells.iter().map(cell).collect();
        json!({"line": round.title, "counted": round.words, "cells": cells})
    };
    json!({
        "date": today(),
        "reps": reps,
        "debug": cfg!(debug_assertions),
        "versions": names.iter().map(|name| (name.word(), name.version())).collect::<BTreeMap<_, _>>(),
        "left_out": missing.iter().map(|(name, why)| (name.word(), why)).collect::<BTreeMap<_, _>>(),
        "lines": rounds.iter().map(line).collect::<Vec<_>>(),
    })
}

/// The date in UTC, by Howard Hinnant's rule for days since 1970.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}
