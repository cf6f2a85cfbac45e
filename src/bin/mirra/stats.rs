//! What a sync was made of, for `--stats`: each byte of the socket, and each of the content.

use std::fmt::Write as _;

use mirra::report::{Report, Sources, Stats, Traffic, Wire};

use crate::words::count;

/// The table, if the report has one.
pub(crate) fn text(report: &Report) -> String {
    let Report::Synced(one) = report else { return String::new() };
    let Stats { wire, content } = &one.stats;
    let Wire { news, tree, lists, blocks, content: steps, overhead } = wire;
    let mut text = format!("\n{:<34}{:>18}{:>18}\n", "bytes on the wire", "received", "sent");
    let mut row = |name: &str, part: &Traffic| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<32}{:>18}{:>18}", count(part.received), count(part.sent));
    };
    row("heads and keys", news);
    row("entries and pages", tree);
    row("chunk lists", lists);
    row("requests and blocks of old bytes", blocks);
    row("steps and literals", steps);
    row("handshake, records, credit", overhead);
    row("all", &Traffic { received: one.received, sent: one.sent });
    let Sources {
        literal,
        literal_packed,
        steps_packed,
        from_basis,
        from_chunks,
        chunks,
        from_files,
        from_stage,
        from_seed,
    } = content;
    let _ = writeln!(text, "\nbytes of new and changed files");
    let packed = format!("sent as new, in {} with {} of steps", count(*literal_packed), count(*steps_packed));
    let sources: [(&str, &u64); 6] = [
        (&packed, literal),
        ("copied from old versions", from_basis),
        (&format!("copied, {} chunks that were here", count(*chunks)), from_chunks),
        ("the same file elsewhere", from_files),
        ("left by an earlier run", from_stage),
        ("the same file in a seed", from_seed),
    ];
    for (name, bytes) in sources {
        let _ = writeln!(text, "  {name:<50}{:>18}", count(*bytes));
    }
    text
}

#[cfg(test)]
mod tests {
    use mirra::report::Synced;

    use super::*;

    #[test]
    fn what_was_sent_and_received_stands_below_its_parts() {
        let part = |received, sent| Traffic { sent, received };
        let wire = Wire {
            news: part(1, 2),
            tree: part(10, 20),
            lists: part(100, 200),
            blocks: part(1_000, 2_000),
            content: part(10_000, 20_000),
            overhead: part(100_000, 200_000),
        };
        let stats = Stats { wire, content: Sources { literal: 7_777, ..Sources::default() } };
        let synced = Synced { received: 111_111, sent: 222_222, stats, ..Synced::default() };
        let text = text(&Report::Synced(Box::new(synced)));
        let sums = text.lines().find(|line| line.trim_start().starts_with("all")).unwrap();
        assert!(sums.contains("111,111") && sums.contains("222,222"), "{text}");
        assert!(text.contains("7,777") && text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
