//! What the pages refer to: one style sheet, one script, one picture, each with a hash of its content in its link, so
//! that a browser may keep it for ever.

/// A file that the program brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its path on the server.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub kind: &'static str,
    /// Its content.
    pub body: &'static str,
}

/// How the pages look.
pub const STYLE: Asset =
    Asset { path: "/-/style.css", kind: "text/css; charset=utf-8", body: include_str!("assets/style.css") };

/// What is pleasant and can be done without.
pub const SCRIPT: Asset =
    Asset { path: "/-/script.js", kind: "text/javascript; charset=utf-8", body: include_str!("assets/script.js") };

/// The mark beside the title.
pub const FAVICON: Asset =
    Asset { path: "/-/favicon.svg", kind: "image/svg+xml", body: include_str!("assets/favicon.svg") };

/// All of them.
pub const ALL: [Asset; 3] = [STYLE, SCRIPT, FAVICON];

impl Asset {
    /// Its path with a query that is another one for another content.
    #[must_use]
    pub fn link(&self) -> String {
        let hash = blake3::hash(self.body.as_bytes()).to_hex();
        let (short, _) = hash.split_at(12);
        format!("{}?v={short}", self.path)
    }
}
