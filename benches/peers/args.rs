//! What the caller chooses.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::tools::Name;

/// Runs mirra beside its peers on pairs of trees and says what each needed: bytes both ways and seconds, for a first
/// sync, for one with nothing new, and for the update from the old tree to the new one.
#[derive(Debug, Parser)]
#[command(name = "peers", bin_name = "cargo bench --bench peers --")]
pub(crate) struct Args {
    /// A tree in two versions, each a directory; a small one is made where none is given
    #[arg(value_name = "NAME=OLD:NEW", value_parser = Pair::parse)]
    pub(crate) pairs: Vec<Pair>,

    /// The tools to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Name::ALL)]
    pub(crate) tools: Vec<Name>,

    /// How often each is run; medians are shown
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) reps: u32,

    /// The peer of the ratios [default: the one nearest to mirra, with compression]
    #[arg(long, value_name = "TOOL", value_enum)]
    pub(crate) against: Option<Name>,

    /// All once more over a thin line, of 20mbit,40ms
    #[arg(long)]
    thin: bool,

    /// All once more over a line of this rate, each way, and this time there and back
    #[arg(long, value_name = "RATE,TIME", value_parser = Shape::parse)]
    line: Option<Shape>,

    /// Measure on loopback, even where two network namespaces could be made
    #[arg(long)]
    pub(crate) loopback: bool,

    /// Where the trees are made and removed again [default: the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) work: Option<PathBuf>,

    /// Print all runs as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Cargo says so to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// The thin line, if one is asked for.
    pub(crate) fn thin_line(&self) -> Option<Shape> {
        self.line.or(self.thin.then_some(Shape { rate: 20e6, delay: Duration::from_millis(20) }))
    }
}

/// A tree in two versions.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// What the tables call it.
    pub(crate) name: String,
    pub(crate) old: PathBuf,
    pub(crate) new: PathBuf,
}

impl Pair {
    fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(':')?)));
        let Some((name, (old, new))) = parts.filter(|(name, _)| !name.is_empty()) else {
            return Err("write NAME=OLD:NEW".into());
        };
        let directory = |path: &str| {
            let path = PathBuf::from(path);
            if path.is_dir() { Ok(path) } else { Err(format!("{} is not a directory", path.display())) }
        };
        Ok(Self { name: name.into(), old: directory(old)?, new: directory(new)? })
    }
}

/// What a line may be, in bits a second.
const RATES: std::ops::RangeInclusive<f64> = 1e3..=1e12;

/// How thin a line is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Bits a second, each way.
    pub(crate) rate: f64,
    /// One way.
    pub(crate) delay: Duration,
}

impl Shape {
    fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| "write a rate and a time, as 20mbit,40ms".into())
    }

    fn read(text: &str) -> Option<Self> {
        let (rate, time) = text.split_once(',')?;
        let units = [("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3)];
        let rate = units.iter().find_map(|(unit, bits)| Some(rate.strip_suffix(unit)?.parse::<f64>().ok()? * bits))?;
        let there_and_back = time.strip_suffix("ms")?.parse::<u32>().ok()?;
        let delay = Duration::from_millis(there_and_back.into()) / 2;
        (RATES.contains(&rate)).then_some(Self { rate, delay })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} Mbit/s and {} ms there and back", self.rate / 1e6, (self.delay * 2).as_millis())
    }
}
