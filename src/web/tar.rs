//! A directory as an archive: POSIX `ustar` with `pax` headers where that is too narrow. The same snapshot gives the same
//! bytes; a file that is not what the snapshot says ends it where it is, so that no archive is whole and wrong.

use std::collections::VecDeque;
use std::io;

use super::body::Source;
use super::limits::CHUNK_MIN;
use super::rows::Rows;
use crate::mirror::checked::Checked;
use crate::mirror::front::View;
use crate::tree::dir::look_up;
use crate::tree::entry::{Body, Entry, Meta, Mtime};
use crate::tree::name::TreePath;

/// Bytes of a header, to which contents are filled up.
const BLOCK: usize = 512;
/// What a header takes of a name.
const NAME_MAX: usize = 100;
/// Digits of a size or time in a header hold less than this.
const NUMBER_END: u64 = 1 << 33;
/// Entries that are read at once.
const STEP: usize = 128;

/// The archive, on its way.
pub struct Tar {
    view: View,
    /// The name of the directory in the archive.
    name: Vec<u8>,
    /// The directories that lead to where it is, and how many of their entries are done.
    way: Vec<Frame>,
    /// The next entries of the last of them.
    ready: VecDeque<Entry>,
    file: Option<(Checked, u64)>,
    /// The beginning, if it was read before it was asked for.
    first: Option<Vec<u8>>,
    begun: bool,
    over: bool,
}

struct Frame {
    rows: Rows,
    path: TreePath,
    done: u64,
}

impl Tar {
    /// Archives the directory at `path`, all of whose entries are `rows`, as `name`.
    #[must_use]
    pub fn new(view: View, path: TreePath, rows: Rows, name: Vec<u8>) -> Self {
        let first = Frame { rows, path, done: 0 };
        let (ready, way) = (VecDeque::new(), vec![first]);
        Self { view, name, way, ready, file: None, first: None, begun: false, over: false }
    }

    /// Reads the first bytes, so that what cannot even be begun is known before anything is answered.
    ///
    /// # Errors
    /// Of the kind `InvalidData` where a file is not what the snapshot says, or else of the disk.
    pub fn begin(&mut self) -> io::Result<()> {
        self.first = self.next(CHUNK_MIN)?;
        Ok(())
    }

    /// Where `path` is in the archive.
    fn place(&self, path: &TreePath) -> Vec<u8> {
        let top = self.way.first().map_or(0, |top| top.path.depth());
        let mut place = self.name.clone();
        for part in path.names().skip(top) {
            place.push(b'/');
            place.extend_from_slice(part);
        }
        place
    }

    /// Goes one step on, and appends what comes of it.
    fn step(&mut self, out: &mut Vec<u8>, want: usize) -> io::Result<()> {
        if let Some((file, at)) = self.file.take() {
            return self.content(file, at, out, want);
        }
        if !self.begun {
            self.begun = true;
            let top = self.way.first().map_or_else(TreePath::top, |first| first.path.clone());
            let meta = self.meta_of(&top)?;
            header(out, b'5', &[&self.name[..], b"/"].concat(), &meta, 0, b"");
            return Ok(());
        }
        if let Some(entry) = self.ready.pop_front() {
            return self.entry(&entry, out);
        }
        let Some(here) = self.way.last() else {
            out.resize(out.len() + 2 * BLOCK, 0);
            self.over = true;
            return Ok(());
        };
        self.ready = here.rows.read(self.view.pages(), here.done, STEP).map_err(io::Error::other)?.into();
        if self.ready.is_empty() {
            self.way.pop();
        }
        Ok(())
    }

    /// The metadata of the directory `path`.
    fn meta_of(&self, path: &TreePath) -> io::Result<Meta> {
        let Some(newest) = self.view.newest() else { return Ok(Meta::default()) };
        let entry = look_up(self.view.pages(), newest.head.snapshot, path).map_err(io::Error::other)?;
        Ok(entry.map_or(newest.head.meta(), |entry| entry.meta))
    }

    fn entry(&mut self, entry: &Entry, out: &mut Vec<u8>) -> io::Result<()> {
        let Some(here) = self.way.last_mut() else { return Ok(()) };
        here.done += 1;
        let path = here.path.join(&entry.name);
        let mut place = self.place(&path);
        match &entry.body {
            Body::File { size, .. } => {
                let opened = self.view.open(&path, entry).map_err(io::Error::other)?;
                let changed = || io::Error::new(io::ErrorKind::InvalidData, "a file is not what the snapshot says");
                let file = opened.map_err(|_| changed())?;
                header(out, b'0', &place, &entry.meta, *size, b"");
                self.file = (*size > 0).then_some((file, 0));
            }
            Body::Link { target } => header(out, b'2', &place, &entry.meta, 0, target),
            Body::Directory { id, .. } => {
                place.push(b'/');
                header(out, b'5', &place, &entry.meta, 0, b"");
                let rows = Rows::of(self.view.pages(), *id, true).map_err(io::Error::other)?;
                self.way.push(Frame { rows, path, done: 0 });
                self.ready.clear();
            }
        }
        Ok(())
    }

    fn content(&mut self, file: Checked, at: u64, out: &mut Vec<u8>, want: usize) -> io::Result<()> {
        let left = file.size().saturating_sub(at);
        let len = usize::try_from(left).unwrap_or(want).min(want.saturating_sub(out.len()).max(BLOCK));
        out.extend_from_slice(&file.read(at, len)?);
        let at = at + len as u64;
        if at < file.size() {
            self.file = Some((file, at));
        } else {
            fill_up(out, file.size());
        }
        Ok(())
    }
}

impl Source for Tar {
    fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let mut out = Vec::with_capacity(want);
        while !self.over && out.len() < want {
            self.step(&mut out, want)?;
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

/// Fills up a content of `size` bytes.
fn fill_up(out: &mut Vec<u8>, size: u64) {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    out.resize(out.len() + (BLOCK - over) % BLOCK, 0);
}

/// Appends the header of one entry, behind one of `pax` for what it cannot say.
fn header(out: &mut Vec<u8>, kind: u8, name: &[u8], meta: &Meta, size: u64, target: &[u8]) {
    let mut more = Vec::new();
    let seconds = u64::try_from(meta.mtime.seconds).ok().filter(|seconds| *seconds < NUMBER_END);
    if name.len() > NAME_MAX {
        record(&mut more, "path", name);
    }
    if target.len() > NAME_MAX {
        record(&mut more, "linkpath", target);
    }
    if size >= NUMBER_END {
        record(&mut more, "size", size.to_string().as_bytes());
    }
    if seconds.is_none() || meta.mtime.nanos > 0 {
        record(&mut more, "mtime", decimal(&meta.mtime).as_bytes());
    }
    if !more.is_empty() {
        block(out, b'x', b"pax", 0o644, more.len() as u64, 0, b"");
        out.extend_from_slice(&more);
        fill_up(out, more.len() as u64);
    }
    let size = if size < NUMBER_END { size } else { 0 };
    block(out, kind, name, meta.mode, size, seconds.unwrap_or(0), target);
}

/// Seconds with as many decimals as there are (POSIX `pax`, "pax Extended Header File Times").
fn decimal(time: &Mtime) -> String {
    let (seconds, nanos) = (time.seconds, time.nanos);
    // Nanoseconds count upwards before 1970 as well, and decimals do not.
    let (sign, whole, part) = match nanos {
        0 => return seconds.to_string(),
        _ if seconds < 0 => ("-", seconds.saturating_add(1).unsigned_abs(), 1_000_000_000_u32.saturating_sub(nanos)),
        _ => ("", seconds.unsigned_abs(), nanos),
    };
    let digits = format!("{part:09}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

/// `LENGTH KEY=VALUE` and a line's end, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut len = bare + bare.to_string().len();
    len = bare + len.to_string().len();
    out.extend_from_slice(format!("{len} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn block(out: &mut Vec<u8>, kind: u8, name: &[u8], mode: u16, size: u64, seconds: u64, target: &[u8]) {
    let mut fields = Vec::with_capacity(BLOCK);
    let mut field = |bytes: &[u8], width: usize| {
        fields.extend(bytes.iter().copied().take(width));
        fields.extend(std::iter::repeat_n(0, width.saturating_sub(bytes.len())));
    };
    field(name, NAME_MAX);
    field(format!("{mode:07o}").as_bytes(), 8);
    field(b"0000000", 8);
    field(b"0000000", 8);
    field(format!("{size:011o}").as_bytes(), 12);
    field(format!("{seconds:011o}").as_bytes(), 12);
    // The sum counts itself as spaces.
    let sum_at = NAME_MAX + 48;
    field(b"        ", 8);
    field(&[kind], 1);
    field(target, NAME_MAX);
    field(b"ustar\x0000", 8);
    field(b"", BLOCK - sum_at - 8 - 1 - NAME_MAX - 8);
    let sum: u32 = fields.iter().map(|b| u32::from(*b)).sum();
    let text = format!("{sum:06o}\0 ");
    for (to, from) in fields.iter_mut().skip(sum_at).zip(text.bytes()) {
        *to = from;
    }
    out.extend_from_slice(&fields);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for len in [0, 1, 80, 86, 87, 88, 89, 90, 91, 500, 985, 986, 987, 988, 989, 990, 991, 4_000] {
            let mut out = Vec::new();
            record(&mut out, "path", &vec![b'x'; len]);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.split(' ').next().unwrap(), text.len().to_string(), "{len}");
        }
    }

    #[test]
    fn times_have_their_decimals() {
        for (seconds, nanos, expected) in [
            (0, 0, "0"),
            (784_111_777, 5, "784111777.000000005"),
            (784_111_777, 120_000_000, "784111777.12"),
            (-1, 0, "-1"),
            (-1, 500_000_000, "-0.5"),
            (-2, 999_999_999, "-1.000000001"),
            (i64::MIN, 1, "-9223372036854775807.999999999"),
            (i64::MAX, 999_999_999, "9223372036854775807.999999999"),
        ] {
            assert_eq!(decimal(&Mtime { seconds, nanos }), expected);
        }
    }

    #[test]
    fn headers_are_blocks() {
        let meta = Meta { mode: 0o640, mtime: Mtime { seconds: 784_111_777, nanos: 0 } };
        let mut out = Vec::new();
        header(&mut out, b'0', b"a/b", &meta, 10, b"");
        assert_eq!(out.len(), BLOCK);
        assert_eq!((&out[..4], &out[100..107], &out[124..135]), (&b"a/b\0"[..], &b"0000640"[..], &b"00000000012"[..]));
        assert_eq!((&out[136..147], out[156], &out[257..265]), (&b"05657114241"[..], b'0', &b"ustar\x0000"[..]));
        let sum: u32 =
            out.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) }).sum();
        assert_eq!(&out[148..156], format!("{sum:06o}\0 ").as_bytes());
        let mut out = Vec::new();
        let early = Meta { mtime: Mtime { seconds: -1, nanos: 0 }, ..meta };
        header(&mut out, b'2', &[b'n'; 300], &early, NUMBER_END, &[b't'; 101]);
        assert_eq!(out.len() % BLOCK, 0);
        for text in ["310 path=n", "linkpath=t", "size=8589934592\n", "mtime=-1\n"] {
            assert!(out.windows(text.len()).any(|part| part == text.as_bytes()), "{text}");
        }
    }
}
