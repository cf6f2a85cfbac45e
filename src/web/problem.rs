//! Answers in place of what was asked for: a page, lines of text or JSON, as the visitor reads it.

use hyper::StatusCode;
use hyper::header;
use serde::Serialize;

use super::asked::Asked;
use super::cards::site;
use super::pages::model::{Card, Problem};
use super::pages::{POLICY, problem};
use super::reply::{Answer, HTML, JSON, TEXT, full, set};
use crate::mirror::clock::now_ms;
use crate::mirror::front::Front;

/// What did not work, why, and what the visitor can do.
#[derive(Debug, Clone, Copy)]
pub struct Trouble<'a> {
    /// The status.
    pub status: StatusCode,
    /// What did not work.
    pub what: &'a str,
    /// Why.
    pub why: &'a str,
    /// What helps.
    pub fix: &'a str,
    /// Seconds after which it may work.
    pub retry: Option<&'static str>,
}

#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    status: u16,
    what: &'a str,
    why: &'a str,
    fix: &'a str,
}

impl Trouble<'_> {
    /// The answer; `module` is what it is about, if that may be named.
    #[must_use]
    pub fn answer(&self, front: &Front, asked: &Asked, module: Option<Card>) -> Answer {
        let (status, what, why, fix) = (self.status, self.what, self.why, self.fix);
        let mut answer = if asked.wants_json() {
            let json = Json { schema: "mirra.problem/1", status: status.as_u16(), what, why, fix };
            full(status, JSON, serde_json::to_vec(&json).unwrap_or_default())
        } else if asked.wants_html() {
            let [what, why, fix] = [what, why, fix].map(str::to_owned);
            let page = Problem { site: site(front, asked.host()), code: status.as_u16(), what, why, fix, module };
            let mut answer = full(status, HTML, problem(&page, now_ms()));
            set(&mut answer, header::CONTENT_SECURITY_POLICY, POLICY);
            answer
        } else {
            full(status, TEXT, format!("{what}: {why}\n{fix}\n"))
        };
        set(&mut answer, header::VARY, "Accept");
        set(&mut answer, header::CACHE_CONTROL, "no-store");
        if let Some(retry) = self.retry {
            set(&mut answer, header::RETRY_AFTER, retry);
        }
        answer
    }
}

/// There is nothing of that name.
pub const NOWHERE: Trouble<'static> = Trouble {
    status: StatusCode::NOT_FOUND,
    what: "There is nothing here",
    why: "no snapshot that is served here has this path",
    fix: "start at the list of modules",
    retry: None,
};

/// It is not kept here.
pub const ELSEWHERE: Trouble<'static> = Trouble {
    status: StatusCode::NOT_FOUND,
    what: "This is not kept here",
    why: "only a part of the module is mirrored here, and this is not in it",
    fix: "ask the mirror that this one follows",
    retry: None,
};

/// It changes at the moment.
pub const CHANGING: Trouble<'static> = Trouble {
    status: StatusCode::SERVICE_UNAVAILABLE,
    what: "This changes at the moment",
    why: "what is on the disk is not what the snapshot that is served says",
    fix: "ask again in a moment",
    retry: Some(super::limits::RETRY_SOON),
};

/// There is nothing yet.
pub const NOT_YET: Trouble<'static> = Trouble {
    status: StatusCode::SERVICE_UNAVAILABLE,
    what: "This is not here yet",
    why: "the first snapshot of the module is on its way",
    fix: "ask again later",
    retry: Some(super::limits::RETRY_LATER),
};

/// Too much is going on.
pub const BUSY: Trouble<'static> = Trouble {
    status: StatusCode::SERVICE_UNAVAILABLE,
    what: "Too many ask for this",
    why: "it takes work, and as much of that is done as may be at once",
    fix: "ask again later",
    retry: Some(super::limits::RETRY_LATER),
};

/// Something is wrong on this side.
pub const FAILED: Trouble<'static> = Trouble {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    what: "This did not work",
    why: "something is wrong here, which the operator sees in the log",
    fix: "ask again later",
    retry: None,
};
