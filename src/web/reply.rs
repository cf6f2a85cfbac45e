//! Answers, put together: every header value goes through one function that lets nothing through that could end a line.

use hyper::body::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;

/// An answer on its way.
pub type Answer = Response<Body>;

/// What kind of text this is.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Pages.
pub const HTML: &str = "text/html; charset=utf-8";
/// For programs.
pub const JSON: &str = "application/json";

/// The snapshot that an answer is of.
pub const SNAPSHOT: HeaderName = HeaderName::from_static("x-mirra-snapshot");
/// And its head's sequence.
pub const SEQUENCE: HeaderName = HeaderName::from_static("x-mirra-sequence");
/// Hashes of the whole content.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// An answer without content.
#[must_use]
pub fn bare(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::Empty);
    *answer.status_mut() = status;
    set(&mut answer, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    answer
}

/// An answer of bytes that are here.
#[must_use]
pub fn full(status: StatusCode, kind: &str, body: impl Into<Bytes>) -> Answer {
    let (mut answer, body) = (bare(status), body.into());
    set(&mut answer, header::CONTENT_TYPE, kind);
    set(&mut answer, header::CONTENT_LENGTH, &body.len().to_string());
    *answer.body_mut() = Body::Bytes(body);
    answer
}

/// Sends the visitor to `path` on this server; `None` when that is no path to send anybody to.
#[must_use]
pub fn elsewhere(status: StatusCode, path: &str) -> Option<Answer> {
    let mut answer = full(status, TEXT, format!("It is at {path}\n"));
    (path.starts_with('/') && !path.starts_with("//") && set(&mut answer, header::LOCATION, path)).then_some(answer)
}

/// Sets a header; says whether its value may be one. One that may not is left out.
pub fn set(answer: &mut Answer, name: HeaderName, value: &str) -> bool {
    let Some(value) = checked(value) else { return false };
    answer.headers_mut().insert(name, value);
    true
}

/// A header value without control characters.
fn checked(value: &str) -> Option<HeaderValue> {
    let clean = value.bytes().all(|b| b >= 0x20 && b != 0x7f);
    HeaderValue::from_str(value).ok().filter(|_| clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_ends_a_line() {
        for bad in ["a\r\nSet-Cookie: b", "a\nb", "a\0", "\x7f", "\tb", "\x1b[2J"] {
            let mut answer = bare(StatusCode::OK);
            assert!(!set(&mut answer, header::LOCATION, bad) && !answer.headers().contains_key(header::LOCATION));
        }
        assert!(elsewhere(StatusCode::FOUND, "/a\r\nb").is_none());
        assert!(elsewhere(StatusCode::FOUND, "//other.example/").is_none());
        assert!(elsewhere(StatusCode::FOUND, "/m/a%0D%0Ab/").is_some());
    }
}
