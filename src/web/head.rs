//! What a request may look like: nothing but GET and HEAD, no body, a host that is one. Everything else is refused, and
//! the connection with it, before anything is looked up.

use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode, Version};

use super::condition::one;

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// What is wrong.
    pub why: &'static str,
}

/// Checks all of a head but its path.
///
/// # Errors
/// [`Refused`].
pub fn check<B>(request: &Request<B>) -> Result<(), Refused> {
    let refused = |status, why| Err(Refused { status, why });
    let headers = request.headers();
    // Before the method: what follows a body that nobody reads must not pass for a request.
    if headers.contains_key(header::TRANSFER_ENCODING) || !has_no_length(headers) {
        return refused(StatusCode::BAD_REQUEST, "a request has no body here");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD work here");
    }
    if headers.get(header::EXPECT).is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return refused(StatusCode::EXPECTATION_FAILED, "nothing of the kind is to be expected");
    }
    if request.uri().scheme_str().is_some_and(|scheme| scheme != "http") {
        return refused(StatusCode::BAD_REQUEST, "this is no proxy");
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    let must = request.version() == Version::HTTP_11;
    if hosts > 1 || must && hosts == 0 || hosts == 1 && host(headers).is_none() {
        return refused(StatusCode::BAD_REQUEST, "there is not one host in the head");
    }
    Ok(())
}

/// The host that the visitor called, as it may be repeated to him: a name or an address, without its port.
#[must_use]
pub fn host(headers: &HeaderMap) -> Option<String> {
    let text = one(headers, &header::HOST)?;
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let good = plain(address, ":.") && (rest.is_empty() || rest.starts_with(':'));
            (good.then(|| format!("[{address}]"))?, rest.strip_prefix(':'))
        }
        None => {
            let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
            (plain(name, ".-_").then(|| name.to_owned())?, port)
        }
    };
    let digits = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    (name.len() <= 255 && port.is_none_or(digits)).then_some(name)
}

/// Whether no content is announced; several announcements are one too many.
fn has_no_length(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::CONTENT_LENGTH) || one(headers, &header::CONTENT_LENGTH) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, uri: &str, lines: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).map_or_else(|refused| refused.status.as_u16(), |()| 200)
    }

    #[test]
    fn heads() {
        let host = ("host", "h");
        assert_eq!(status("GET", "/", &[host]), 200);
        assert_eq!(status("HEAD", "http://h/a", &[host]), 200);
        assert_eq!(status("GET", "https://h/a", &[host]), 400);
        assert_eq!(status("GET", "/", &[host, ("expect", "100-continue")]), 200);
        assert_eq!(status("GET", "/", &[host, ("expect", "miracles")]), 417);
        assert_eq!(status("GET", "/", &[host, ("upgrade", "h2c")]), 200);
        assert_eq!(status("GET", "/", &[host, ("content-length", "0")]), 200);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            assert_eq!(status(method, "/", &[host]), 405, "{method}");
        }
        for lines in [
            &[host, ("content-length", "1")][..],
            &[host, ("content-length", "0"), ("content-length", "0")],
            &[host, ("transfer-encoding", "chunked")],
            &[host, ("transfer-encoding", "identity"), ("content-length", "0")],
            &[],
            &[host, host],
            &[("host", "")],
            &[("host", "a b")],
            &[("host", "a/b")],
            &[("host", "a:b")],
            &[("host", "[::1")],
            &[("host", "[::1]x")],
            &[("host", "a@b")],
        ] {
            assert_eq!(status("GET", "/", lines), 400, "{lines:?}");
        }
    }

    #[test]
    fn hosts_are_repeated_without_their_port() {
        for (text, expected) in [("a.example:8080", "a.example"), ("[::1]:80", "[::1]"), ("127.0.0.1", "127.0.0.1")] {
            let headers = HeaderMap::from_iter([(header::HOST, text.parse().unwrap())]);
            assert_eq!(host(&headers).as_deref(), Some(expected));
        }
    }
}
