//! When a root publishes a module's changes, and how spans of time are written.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a module's changes become a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Gate {
    /// As they happen.
    #[default]
    Live,
    /// When nothing has changed for a while.
    Quiet(Duration),
    /// When `mirra publish` says so.
    Manual,
}

/// How long `quiet` waits when nothing is said.
const QUIET: Duration = Duration::from_secs(30);

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Quiet(span) => write!(f, "quiet={}", Span(*span)),
            Self::Manual => f.write_str("manual"),
        }
    }
}

impl FromStr for Gate {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            None if text == "live" => Ok(Self::Live),
            None if text == "quiet" => Ok(Self::Quiet(QUIET)),
            None if text == "manual" => Ok(Self::Manual),
            Some(("quiet", span)) => Ok(Self::Quiet(span.parse::<Span>()?.0)),
            _ => Err(format!("\"{text}\" is none of live, quiet, quiet=30s and manual")),
        }
    }
}

impl TryFrom<String> for Gate {
    type Error = String;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Gate> for String {
    fn from(gate: Gate) -> Self {
        gate.to_string()
    }
}

/// A span of time as people write it: `500ms`, `90s`, `5m`, `2h`, `7d`; a bare number is seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// The units, the longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("\"{text}\" is no span of time such as 90s, 5m, 2h or 7d");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = if unit.is_empty() { "s" } else { unit };
        let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
        let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = UNITS.iter().find(|(_, factor)| millis >= *factor && millis % factor == 0);
        let (unit, factor) = whole.unwrap_or(&("s", 1_000));
        write!(f, "{}{unit}", millis / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_and_spans_are_written_as_they_are_read() {
        for text in ["live", "manual", "quiet=30s", "quiet=5m", "quiet=1500ms", "quiet=7d", "quiet=90s", "quiet=0s"] {
            assert_eq!(text.parse::<Gate>().unwrap().to_string(), text);
        }
        assert_eq!("quiet".parse::<Gate>().unwrap(), Gate::Quiet(QUIET));
        assert_eq!("90".parse::<Span>().unwrap().0, Duration::from_secs(90));
        for text in ["", "quiet=", "quiet=s", "quiet=5x", "quiet=-1s", "now", "live=1s", "quiet=99999999999999999d"] {
            assert!(text.parse::<Gate>().is_err(), "{text}");
        }
    }
}
