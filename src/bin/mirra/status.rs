//! `mirra status`: a line for each module, and below it what needs attention; once, or again whenever it changes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, SystemTime};

use mirra::command::{Command, TIMEOUT};
use mirra::report::{ModuleStatus, Report, Role, Status, Transfer, Trouble};
use mirra::{Exit, Failure, Stop};

use crate::args;
use crate::print::{self, Text, WIDTH};
use crate::screen::Screen;
use crate::words::{age, bytes, count, cut, entries, since, span, until};
use crate::{finish, print_json, signals};

/// How often `--watch` looks.
const AGAIN: Duration = Duration::from_secs(1);
/// Clears a terminal from its first line on.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Shows how the modules of `home` are.
pub(crate) fn status(home: &Path, args: &args::Status, screen: &Screen) -> Result<Exit, Failure> {
    if !args.watch {
        return finish(args.json, screen, |progress| mirra::perform(home, &Command::Status, TIMEOUT, progress));
    }
    let stop = Stop::new();
    signals::listen(&stop)?;
    let redraw = !args.json && io::stdout().is_terminal();
    let mut last = None;
    loop {
        let progress = Screen::new(true).progress(&stop);
        let report = match mirra::perform(home, &Command::Status, TIMEOUT, &progress) {
            // Ctrl-C is how it is ended.
            Err(_) if stop.requested() => return Ok(last.as_ref().map_or(Exit::Ok, Report::exit)),
            other => other?,
        };
        if redraw || last.as_ref() != Some(&report) {
            show(&report, args.json, redraw)?;
        }
        let exit = report.exit();
        last = Some(report);
        if stop.wait(AGAIN) {
            return Ok(exit);
        }
    }
}

fn show(report: &Report, json: bool, redraw: bool) -> Result<Exit, Failure> {
    if json {
        return print_json(report);
    }
    let Text { result, advice } = print::text(report, SystemTime::now());
    let advice = if advice.is_empty() { advice } else { advice + "\n" };
    print::out(&if redraw { format!("{CLEAR}{result}{advice}") } else { format!("{result}{advice}\n") })
}

/// Puts `status` into words.
pub(crate) fn text(status: &Status, now: SystemTime) -> Text {
    let wide = status.modules.iter().map(|one| one.module.len()).max().unwrap_or(0).min(20);
    let advice = match (status.modules.is_empty(), status.running) {
        (true, _) => "No modules yet. Share one: mirra share DIR; or follow one: mirra sync HOST MODULE",
        (false, false) => "No daemon runs here: mirra run",
        (false, true) => "",
    };
    let result = status.modules.iter().map(|one| line(one, wide, now) + &attention(one, now)).collect();
    Text { result, advice: advice.to_owned() }
}

/// One module in one line of at most [`WIDTH`] columns.
fn line(one: &ModuleStatus, wide: usize, now: SystemTime) -> String {
    let role = if one.role == Role::Root { "root" } else { "node" };
    let paused = if one.paused && one.state != "paused" { "paused, " } else { "" };
    let stale = if one.stale { "stale! " } else { "" };
    let state = cut(&format!("{stale}{paused}{}", one.state), 20);
    let age = one.created_ms.map_or_else(|| "no snapshot".to_owned(), |created| age(created, now));
    let behind = one.lag_ms.map(Duration::from_millis).filter(|lag| lag.as_secs() > 0);
    let mut rest: Vec<String> = behind.iter().map(|lag| format!("{} behind", span(*lag))).collect();
    rest.extend(one.upstream.iter().map(|host| format!("from {host}")));
    if one.followers > 0 {
        rest.push(format!("{} follow", count(one.followers)));
    }
    if one.sequence.is_some() {
        rest.extend([entries(one.entries), bytes(one.bytes)]);
    }
    if one.block_lists_bytes > 0 {
        rest.push(format!("block lists {}", bytes(one.block_lists_bytes)));
    }
    if one.packs_bytes > 0 {
        rest.push(format!("packs {}", bytes(one.packs_bytes)));
    }
    let name = cut(&one.module, wide);
    let line = format!("{name:wide$}  {role}  {state:<12}  {age:>8}  {}", cut(&rest.join(", "), WIDTH));
    format!("{}\n", cut(line.trim_end(), WIDTH))
}

/// The lines below it: what goes on, and what is to be mended.
fn attention(one: &ModuleStatus, now: SystemTime) -> String {
    let mut text = one.transfer.as_ref().map(transfer).unwrap_or_default();
    if let Some(degraded) = one.watch.as_ref().and_then(|watch| watch.degraded.as_ref()) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  changes may be seen late\n    why: {}", cut(&degraded.why, 1_000));
        let _ = writeln!(text, "    fix: {}", cut(&degraded.fix, 1_000));
    }
    if let Some(Trouble { since_ms, failure, retry_ms }) = &one.error {
        let shown = failure.to_string();
        let mut lines = shown.lines();
        let again = retry_ms.map_or_else(String::new, |at| format!(", again in {}", until(at, now)));
        let time = since(*since_ms, now);
        let _ = writeln!(text, "  {} (for {time}{again})", lines.next().unwrap_or_default());
        text.extend(lines.map(|line| format!("  {line}\n")));
    }
    text
}

fn transfer(one: &Transfer) -> String {
    let of = |done: String, total: u64, shown: String| if total == 0 { done } else { format!("{done} of {shown}") };
    let mut parts = Vec::new();
    if one.files_total > 0 || one.files > 0 {
        parts.push(of(count(one.files), one.files_total, count(one.files_total)) + " files");
    }
    parts.push(of(bytes(one.bytes), one.bytes_total, bytes(one.bytes_total)));
    if one.rate > 0 {
        parts.push(format!("{}/s", bytes(one.rate)));
    }
    parts.extend(one.eta_s.map(|left| format!("{} left", span(Duration::from_secs(left)))));
    format!("  {}\n", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mirra::report::{Degraded, WatchStatus};
    use std::time::UNIX_EPOCH;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000)
    }

    fn node() -> ModuleStatus {
        ModuleStatus {
            module: "photos".into(),
            role: Role::Node,
            upstream: Some("host.example:6008".into()),
            sequence: Some(7),
            created_ms: Some(820_000),
            state: "following".into(),
            ..ModuleStatus::default()
        }
    }

    fn shown(modules: Vec<ModuleStatus>) -> String {
        text(&Status { modules, running: true, ..Status::default() }, now()).result
    }

    #[test]
    fn every_line_of_a_table_fits_the_terminal() {
        let long = ModuleStatus {
            module: "m".repeat(64),
            sequence: Some(u64::MAX),
            created_ms: Some(0),
            lag_ms: Some(u64::MAX),
            entries: 123_456_789,
            bytes: u64::MAX,
            state: "fetching ".repeat(20),
            upstream: Some("h".repeat(300)),
            followers: u64::MAX,
            stale: true,
            paused: true,
            ..ModuleStatus::default()
        };
        let first = ModuleStatus { module: "first".into(), ..ModuleStatus::default() };
        let text = shown(vec![long, first]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("no snapshot") && text.contains("stale! paused, "), "{text}");
    }

    #[test]
    fn what_is_in_order_is_one_line() {
        assert_eq!(
            shown(vec![node()]),
            "photos  node  following       3m old  from host.example:6008, 0 entries, 0 B\n"
        );
        let behind = shown(vec![ModuleStatus { lag_ms: Some(90_000), ..node() }]);
        assert!(behind.contains("  1m behind, from"), "{behind}");
        let packs = shown(vec![ModuleStatus { packs_bytes: 3 << 20, upstream: None, ..node() }]);
        assert!(packs.ends_with(", 0 B, packs 3.0 MiB\n"), "{packs}");
    }

    #[test]
    fn what_needs_attention_stands_below() {
        let failure = Failure::new(Exit::Network, "the connection\nfailed", "\x1b[2Jreset", "wait");
        let degraded = Degraded { why: "too few watches".into(), fix: "sysctl fs.inotify".into() };
        let one = ModuleStatus {
            transfer: Some(Transfer {
                files: 120,
                files_total: 400,
                bytes: 1 << 30,
                bytes_total: 4 << 30,
                rate: 34 << 20,
                eta_s: Some(90),
            }),
            watch: Some(WatchStatus { directories: 3, degraded: Some(degraded) }),
            error: Some(Trouble { since_ms: 995_000, failure, retry_ms: Some(1_012_000) }),
            ..node()
        };
        let text = shown(vec![one]);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  120 of 400 files, 1.0 GiB of 4.0 GiB, 34.0 MiB/s, 1m left",
                "  changes may be seen late",
                "    why: too few watches",
                "    fix: sysctl fs.inotify",
                "  error: the connection failed (for 5s, again in 12s)",
                "    why: \\u{1b}[2Jreset",
                "    fix: wait",
            ]
        );
    }
}
