//! `mirra ls`: the modules of another mirra, or what lies in one of them, entry by entry as it comes.

use mirra::report::{EntryKind, RemoteEntry};
use mirra::{Address, Exit, Failure, Place, authority_from_text};
use serde::Serialize;

use crate::args::Ls;
use crate::screen::Screen;
use crate::words::{escaped, iso};
use crate::{JSON_VERSION, finish, print_json, signals};

/// Lists what `args` names.
pub(crate) fn ls(args: &Ls, screen: &Screen) -> Result<Exit, Failure> {
    let address = address(args)?;
    if address.module.is_none() {
        return finish(args.json, screen, |progress| mirra::list(&address.host, args.timeout.0, progress));
    }
    let stop = mirra::Stop::new();
    signals::listen(&stop)?;
    let place = Place { address, recursive: args.recursive, timeout: args.timeout.0 };
    let progress = screen.progress(&stop);
    let print = Print::new(args, &place);
    let looked = mirra::look(&place, &progress, &mut |entries| {
        let lines: Result<String, Failure> = entries.iter().map(|entry| print.line(entry)).collect();
        screen.out(&lines?)
    });
    drop(progress);
    match looked {
        Ok(looked) => {
            if !looked.key_named {
                let (host, module, key) = (&place.address.host, &looked.module, &looked.key);
                screen.say(&format!(
                    "Signed by the key that {host} names: compare it with its owner's, and name it:\n  \
                     mirra ls mirra://{host}/{module}#{key}"
                ));
            }
            Ok(Exit::Ok)
        }
        // Whoever closed the pipe has what he wants.
        Err(failure) if failure.exit == Exit::Ok => Ok(Exit::Ok),
        Err(failure) => {
            if args.json {
                print_json(&serde_json::json!({ "failure": failure }))?;
            }
            Err(failure)
        }
    }
}

fn address(args: &Ls) -> Result<Address, Failure> {
    let fix = "mirra ls HOST[:PORT][/MODULE[/PATH]]";
    let wrong = |why: String| Failure::new(Exit::Usage, format!("cannot list {}", args.source), why, fix);
    let mut address = Address::parse(&args.source).map_err(|e| wrong(e.to_string()))?;
    if let Some(text) = &args.key {
        let key = authority_from_text(text).ok_or_else(|| wrong("--key is not 52 characters of base32".into()))?;
        if address.key.is_some_and(|named| named != key) {
            return Err(wrong("it names another key than --key".into()));
        }
        address.key = Some(key);
    }
    if address.module.is_none() && (args.recursive || address.key.is_some()) {
        return Err(wrong("it names no module, which -R and --key are about".into()));
    }
    Ok(address)
}

/// How an entry is printed.
struct Print<'a> {
    long: bool,
    json: bool,
    /// What paths are shown relative to, as far as they lie below it.
    top: &'a [u8],
}

/// An entry as `--json` gives it.
#[derive(Serialize)]
struct Line<'a> {
    version: u32,
    path: String,
    kind: &'a str,
    mode: String,
    mtime: String,
    /// Bytes: of a file, or of all files below a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Entries below a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl<'a> Print<'a> {
    fn new(args: &Ls, place: &'a Place) -> Self {
        Self { long: args.long, json: args.json, top: place.address.path.as_bytes() }
    }

    fn line(&self, entry: &RemoteEntry) -> Result<String, Failure> {
        if self.json {
            return json(entry);
        }
        let below = entry.path.strip_prefix(self.top).and_then(|rest| rest.strip_prefix(b"/"));
        let mut name = escaped(below.unwrap_or(&entry.path));
        let (sign, size) = match &entry.kind {
            EntryKind::File { size } => ('-', *size),
            EntryKind::Directory { bytes, .. } => ('d', *bytes),
            EntryKind::Link { target } => ('l', target.len() as u64),
        };
        match &entry.kind {
            EntryKind::Directory { .. } => name.push('/'),
            EntryKind::Link { target } if self.long => name = format!("{name} -> {}", escaped(target)),
            _ => {}
        }
        if !self.long {
            return Ok(format!("{name}\n"));
        }
        let (mode, time) = (rights(entry.mode), iso(entry.mtime.0, None));
        Ok(format!("{sign}{mode} {size:>14} {time} {name}\n"))
    }
}

fn json(entry: &RemoteEntry) -> Result<String, Failure> {
    let (kind, size, entries, target) = match &entry.kind {
        EntryKind::File { size } => ("file", Some(*size), None, None),
        EntryKind::Directory { entries, bytes } => ("directory", Some(*bytes), Some(*entries), None),
        EntryKind::Link { target } => ("link", None, None, Some(escaped(target))),
    };
    let (mode, mtime) = (format!("{:04o}", entry.mode), iso(entry.mtime.0, Some(entry.mtime.1)));
    let line = Line { version: JSON_VERSION, path: escaped(&entry.path), kind, mode, mtime, size, entries, target };
    let text = serde_json::to_string(&line);
    text.map(|text| text + "\n")
        .map_err(|e| Failure::new(Exit::Other, "cannot print JSON", e.to_string(), "leave --json out"))
}

/// `rwxr-xr-x`
fn rights(mode: u16) -> String {
    (0..9).rev().zip("rwxrwxrwx".chars()).map(|(bit, sign)| if mode >> bit & 1 == 1 { sign } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8], kind: EntryKind) -> RemoteEntry {
        RemoteEntry { path: path.to_vec(), kind, mode: 0o754, mtime: (0, 5) }
    }

    #[test]
    fn an_entry_is_one_line_whatever_its_name() {
        let entries = [
            entry(b"sub/a\nb\\c\x1b[2J", EntryKind::File { size: 7 }),
            entry(b"sub/d\xff", EntryKind::Directory { entries: 3, bytes: 9 }),
            entry("sub/l\u{202e}".as_bytes(), EntryKind::Link { target: b"../\xfe".to_vec() }),
        ];
        let print = |long, json| {
            let print = Print { long, json, top: b"sub" };
            entries.iter().map(|entry| print.line(entry).unwrap()).collect::<String>()
        };
        assert_eq!(print(false, false), "a\\x0ab\\\\c\\x1b[2J\nd\\xff/\nl\\xe2\\x80\\xae\n");
        let long = print(true, false);
        assert_eq!(long.lines().next(), Some("-rwxr-xr--              7 1970-01-01T00:00:00Z a\\x0ab\\\\c\\x1b[2J"));
        assert!(long.lines().nth(2).unwrap().ends_with("l\\xe2\\x80\\xae -> ../\\xfe"), "{long}");
        let json: Vec<serde_json::Value> =
            print(false, true).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&json[0]["path"], &json[0]["size"]), (&"sub/a\\x0ab\\\\c\\x1b[2J".into(), &7.into()));
        assert_eq!((&json[0]["mode"], &json[0]["mtime"]), (&"0754".into(), &"1970-01-01T00:00:00.000000005Z".into()));
        assert_eq!((&json[1]["entries"], &json[2]["target"]), (&3.into(), &"../\\xfe".into()));
    }
}
