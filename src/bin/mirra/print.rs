//! Results for people: what happened on stdout, what to do next on stderr.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use mirra::report::{Following, Listing, Paused, Published, RemoteModule, Removed, Report, Role, Synced};
use mirra::{Address, DEFAULT_PORT, Exit, Failure};

use crate::status;
use crate::words::{age, bytes, count, cut, entries, span};

/// Columns of a terminal that every line of a table fits.
pub(crate) const WIDTH: usize = 80;
/// Skipped paths that are shown; `--json` has them all.
const SKIPPED_SHOWN: usize = 10;

/// What goes to stdout, and what is said besides.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) result: String,
    pub(crate) advice: String,
}

/// Writes to stdout. Whoever closed it early has what he wants.
pub(crate) fn out(text: &str) -> Result<Exit, Failure> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::local("cannot write to stdout", &e)),
        _ => Ok(Exit::Ok),
    }
}

/// Puts `report` into words.
pub(crate) fn text(report: &Report, now: SystemTime) -> Text {
    match report {
        Report::Shared(one) => shared(one),
        Report::Published(all) => {
            let skipped = all.modules.iter().map(|one| skipped(&one.skipped)).collect();
            let advice =
                if all.modules.is_empty() { "Nothing is shared here yet: mirra share DIR".into() } else { skipped };
            Text { result: all.modules.iter().map(published).collect(), advice }
        }
        Report::Synced(one) => synced(one),
        Report::Following(one) => following(one),
        Report::Removed(one) => removed(one),
        Report::Paused(some) => paused(some),
        Report::Status(status) => status::text(status, now),
        Report::Listing(listing) => listed(listing, now),
    }
}

fn published(one: &Published) -> String {
    let word = if one.changed { "published" } else { "unchanged" };
    let (entries, bytes) = (entries(one.entries), bytes(one.bytes));
    format!("{}: {word}, {entries}, {bytes}, sequence {}\n", one.module, one.sequence)
}

fn shared(one: &Published) -> Text {
    let host = if one.port == DEFAULT_PORT { "HOST".to_owned() } else { format!("HOST:{}", one.port) };
    let advice = format!(
        "{}Others follow it with\n  mirra sync {host} {} --key {}\nIt is served while mirra runs here: mirra run",
        skipped(&one.skipped),
        one.module,
        one.key
    );
    Text { result: published(one), advice }
}

fn synced(one: &Synced) -> Text {
    let changes = match (one.added, one.updated, one.removed) {
        (0, 0, 0) => "up to date".to_owned(),
        (added, updated, removed) => {
            format!("{} added, {} updated, {} removed", count(added), count(updated), count(removed))
        }
    };
    let what = if one.partial { "a part of it, " } else { "" };
    let mut result =
        format!("{}: {changes}; {what}{}, {} in {}", one.module, entries(one.entries), bytes(one.bytes), one.into);
    let took = Duration::from_millis(one.elapsed_ms);
    let time = if took.as_secs() < 10 { format!("{:.1}s", took.as_secs_f64()) } else { span(took) };
    // Writing to a string cannot fail.
    let _ = writeln!(result, "; received {}, sent {}, {time}", bytes(one.received), bytes(one.sent));
    let mut advice = skipped(&one.skipped);
    if one.put_aside > 0 {
        let _ = writeln!(advice, "Put aside, because the module does not hold it: {}", entries(one.put_aside));
    }
    if one.first_contact {
        let _ = writeln!(
            advice,
            "First contact: the key was taken on trust and kept. Compare it with its owner's:\n  {}",
            one.address
        );
    }
    Text { result, advice: advice.trim_end().to_owned() }
}

fn following(one: &Following) -> Text {
    let mut advice = String::new();
    match (one.sequence, one.free) {
        (None, _) => {
            advice.push_str("It has no snapshot there yet; the first one is taken as soon as it is published.\n")
        }
        (Some(_), Some(free)) => {
            let _ = writeln!(
                advice,
                "It has {}, {}; {} are free here.",
                entries(one.entries),
                bytes(one.bytes),
                bytes(free)
            );
        }
        (Some(_), None) => {
            let _ = writeln!(advice, "It has {}, {}.", entries(one.entries), bytes(one.bytes));
        }
    }
    if one.first_contact {
        advice.push_str("First contact: the key behind # was taken on trust and kept. Compare it with its owner's.\n");
    }
    if one.running {
        advice.push_str("The daemon brings it up to date and keeps it so: mirra status");
    } else {
        let again = Address::parse(&one.address).map_or_else(|_| one.address.clone(), |a| a.to_string());
        let _ = write!(
            advice,
            "Nothing runs here yet. To keep it up to date:\n  mirra run\nOr to bring it up to date now:\n  mirra sync '{again}' --once"
        );
    }
    Text { result: format!("{}: follows {} into {}\n", one.module, one.address, one.into), advice }
}

fn removed(one: &Removed) -> Text {
    let (word, again) = match one.role {
        Role::Root => ("shared", format!("mirra share {}", one.path)),
        Role::Node => ("followed", format!("mirra sync HOST {} --into {} --adopt", one.module, one.path)),
    };
    let (data, advice) = if one.data_deleted {
        ("is removed", String::new())
    } else {
        ("stays", format!("To take it up again:\n  {again}"))
    };
    Text { result: format!("{}: no longer {word}; {} {data}\n", one.module, one.path), advice }
}

fn paused(some: &Paused) -> Text {
    let (word, advice) = match (some.modules.is_empty(), some.paused) {
        (true, _) => ("", "No modules yet. Share one: mirra share DIR; or follow one: mirra sync HOST MODULE"),
        (false, true) => ("paused", "What is there is served on. To go on: mirra resume"),
        (false, false) => ("resumed", ""),
    };
    let result = some.modules.iter().map(|name| format!("{name}: {word}\n")).collect();
    Text { result, advice: advice.to_owned() }
}

fn listed(listing: &Listing, now: SystemTime) -> Text {
    let wide = listing.modules.iter().map(|one| one.module.len()).max().unwrap_or(0);
    let advice = match listing.modules.first() {
        Some(first) => format!("Follow one with\n  mirra sync {} {}", listing.host, first.module),
        None => format!("{} shares nothing", listing.host),
    };
    Text { result: listing.modules.iter().map(|one| row(wide, one, now)).collect(), advice }
}

/// The modules to choose from, numbered if the number may be named.
pub(crate) fn choices(listing: &Listing, numbered: bool, now: SystemTime) -> String {
    let wide = listing.modules.iter().map(|one| one.module.len()).max().unwrap_or(0);
    let line = |(i, one): (usize, &RemoteModule)| {
        let number = if numbered { format!("{:>3}  ", i + 1) } else { String::new() };
        format!("{}\n", cut(&(number + row(wide, one, now).trim_end()), WIDTH))
    };
    listing.modules.iter().enumerate().map(line).collect()
}

/// One module in one line of at most [`WIDTH`] columns.
fn row(wide: usize, one: &RemoteModule, now: SystemTime) -> String {
    let wide = wide.min(22);
    let (name, figures) = (cut(&one.module, wide), (entries(one.entries), bytes(one.bytes)));
    let (age, title) = (age(one.created_ms, now), cut(&one.title, WIDTH));
    let part = if one.partial { "(partial) " } else { "" };
    let line = format!("{name:wide$}  {:>15}  {:>8}  {age:>8}  {part}{title}", figures.0, figures.1);
    format!("{}\n", cut(line.trim_end(), WIDTH))
}

fn skipped(paths: &[String]) -> String {
    let mut text = String::new();
    for path in paths.iter().take(SKIPPED_SHOWN) {
        let _ = writeln!(text, "left out: {}", cut(path, 1_000));
    }
    if paths.len() > SKIPPED_SHOWN {
        let _ =
            writeln!(text, "left out: {} more (--json names them all)", count((paths.len() - SKIPPED_SHOWN) as u64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_listing_fits_the_terminal() {
        let long = RemoteModule {
            module: "m".repeat(64),
            title: "words ".repeat(60),
            entries: 123_456_789,
            bytes: u64::MAX,
            ..RemoteModule::default()
        };
        let text = text(&Report::Listing(Listing { host: "h".into(), modules: vec![long] }), SystemTime::now());
        assert_eq!((text.result.lines().count(), text.result.chars().count()), (1, WIDTH + 1), "{}", text.result);
    }

    #[test]
    fn sharing_says_what_others_type() {
        let one = Published { module: "m".into(), key: "k".into(), port: 6008, changed: true, ..Published::default() };
        let text = text(&Report::Shared(one), SystemTime::now());
        assert_eq!(text.result, "m: published, 0 entries, 0 B, sequence 0\n");
        assert!(text.advice.contains("mirra sync HOST:6008 m --key k"));
    }

    #[test]
    fn a_sync_says_what_changed_and_what_it_cost() {
        let one =
            Synced { module: "m".into(), into: "/m".into(), received: 2_048, first_contact: true, ..Synced::default() };
        let text = text(&Report::Synced(Box::new(one)), SystemTime::now());
        assert_eq!(text.result, "m: up to date; 0 entries, 0 B in /m; received 2.0 KiB, sent 0 B, 0.0s\n");
        assert!(text.advice.starts_with("First contact"));
    }
}
