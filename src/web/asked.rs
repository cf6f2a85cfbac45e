//! A request that was found right: what it names, and how it wants to be answered.

use hyper::header::{self, HeaderMap};

use super::head;
use super::target::Target;

/// What a visitor asks for.
#[derive(Debug)]
pub struct Asked {
    /// The path and the query.
    pub target: Target,
    /// All header lines.
    pub headers: HeaderMap,
    host: Option<String>,
}

impl Asked {
    /// A request for `target` with these header lines.
    #[must_use]
    pub fn new(target: Target, headers: HeaderMap) -> Self {
        let host = head::host(&headers);
        Self { target, headers, host }
    }

    /// The host as the visitor called it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Whether the answer is for a program.
    #[must_use]
    pub fn wants_json(&self) -> bool {
        self.target.asks("json") || self.accepts("application/json") && !self.accepts("text/html")
    }

    /// Whether the answer is for a browser.
    #[must_use]
    pub fn wants_html(&self) -> bool {
        self.accepts("text/html")
    }

    fn accepts(&self, kind: &str) -> bool {
        let values = self.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|one| one.split(';').next().is_some_and(|one| one.trim().eq_ignore_ascii_case(kind)))
    }
}
