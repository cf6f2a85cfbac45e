//! A file: whole, a range of it, or word that the visitor has it already.

use std::io;

use hyper::StatusCode;
use hyper::header;

use super::asked::Asked;
use super::body::Source;
use super::condition::{Version, one};
use super::digest::{Algorithm, Wanted};
use super::kinds::kind;
use super::module::{Wrong, stamp};
use super::problem::{CHANGING, ELSEWHERE};
use super::range::{Part, part};
use super::reply::{Answer, REPR_DIGEST, TEXT, bare, full, set};
use super::serve::{Outcome, Web, now};
use crate::mirror::checked::Checked;
use crate::mirror::front::{Missing, View};
use crate::tree::entry::{Body, Entry};
use crate::tree::name::TreePath;

/// The file `entry` at `path`, asked for as `name`.
///
/// # Errors
/// [`Wrong`].
pub fn look(
    web: &Web,
    asked: &Asked,
    view: View,
    path: &TreePath,
    entry: &Entry,
    name: &[u8],
) -> Result<Outcome, Wrong> {
    let Body::File { id, .. } = entry.body else { return Ok(CHANGING.answer(&web.front, asked, None).into()) };
    let version = Version::new(&id.to_string(), entry.meta.mtime.seconds, now());
    let hash = Algorithm::ALL.into_iter().find(|algorithm| asked.target.asks(algorithm.word()));
    if hash.is_none() && version.is_unwanted(&asked.headers) {
        return Ok(
            described(full(StatusCode::PRECONDITION_FAILED, TEXT, "it is another by now\n"), &version, &view).into()
        );
    }
    if hash.is_none() && version.is_known(&asked.headers) {
        return Ok(described(bare(StatusCode::NOT_MODIFIED), &version, &view).into());
    }
    let checked = match view.open(path, entry)? {
        Ok(checked) => checked,
        Err(Missing::Now) => return Ok(CHANGING.answer(&web.front, asked, None).into()),
        Err(Missing::Elsewhere) => return Ok(ELSEWHERE.answer(&web.front, asked, None).into()),
    };
    if let Some(algorithm) = hash {
        return Ok(Outcome::Hash(Wanted { algorithm, checked, name: name.to_vec() }));
    }
    let mut answer = described(content(web, asked, &view, checked, &version), &version, &view);
    let headers = answer.headers_mut();
    headers.entry(header::CONTENT_TYPE).or_insert_with(|| kind(name));
    if asked.target.asks("download") {
        set(&mut answer, header::CONTENT_DISPOSITION, &disposition(name));
    }
    Ok(answer.into())
}

/// The bytes that are asked for.
fn content(web: &Web, asked: &Asked, view: &View, checked: Checked, version: &Version) -> Answer {
    let (size, id) = (checked.size(), checked.id());
    let wanted = one(&asked.headers, &header::RANGE).filter(|_| version.continues(&asked.headers));
    let (status, first, len) = match part(wanted, size) {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Bytes(first, last) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Part::Outside => {
            let mut answer = full(StatusCode::RANGE_NOT_SATISFIABLE, TEXT, "it has no such bytes\n");
            set(&mut answer, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return answer;
        }
    };
    let mut answer = bare(status);
    set(&mut answer, header::CONTENT_LENGTH, &len.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut answer, header::CONTENT_RANGE, &format!("bytes {first}-{}/{size}", first + len - 1));
    }
    // What a mirror holds must not act on its behalf.
    set(&mut answer, header::CONTENT_SECURITY_POLICY, "sandbox");
    if let Some(hashes) = web.digests.known(&id) {
        set(&mut answer, REPR_DIGEST, &hashes.repr_digest());
    }
    if len > 0 {
        *answer.body_mut() =
            web.stream(&view.served().name, Stretch { checked, at: first, end: first + len }, Some(len));
    }
    answer
}

/// Says what the content is.
fn described(mut answer: Answer, version: &Version, view: &View) -> Answer {
    set(&mut answer, header::ETAG, &version.tag);
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    set(&mut answer, header::CACHE_CONTROL, "no-cache");
    if let Some(modified) = version.modified {
        set(&mut answer, header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
    }
    stamp(&mut answer, view);
    answer
}

/// `attachment`, with the name as it is and as those take it who know only ASCII.
fn disposition(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let plain =
        |c: char| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | '/') || c == ' ' { c } else { '_' };
    let ascii: String = text.chars().map(plain).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", extended(text.as_bytes()))
}

/// Text in a header's value, after RFC 8187: more is `%XX` than in a path.
#[must_use]
pub fn extended(text: &[u8]) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_') => value.push(char::from(*b)),
            b => value.push_str(&format!("%{b:02X}")),
        }
    }
    value
}

/// A stretch of a file.
struct Stretch {
    checked: Checked,
    at: u64,
    end: u64,
}

impl Source for Stretch {
    fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>> {
        let len = usize::try_from(self.end - self.at).unwrap_or(want).min(want);
        if len == 0 {
            return Ok(None);
        }
        let bytes = self.checked.read(self.at, len)?;
        self.at += len as u64;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::disposition;

    #[test]
    fn a_name_to_save_under_is_one() {
        let check = |name: &[u8], expected: &str| assert_eq!(disposition(name), format!("attachment; {expected}"));
        check(b"a b.txt", "filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt");
        check("ä\"\r\n".as_bytes(), "filename=\"____\"; filename*=UTF-8''%C3%A4%22%0D%0A");
        check(b"\xff;'x=", "filename=\"_;'x=\"; filename*=UTF-8''%EF%BF%BD%3B%27x%3D");
    }
}
