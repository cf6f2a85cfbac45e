//! The pages, as functions from values to HTML: no clock, no files, no sockets.
//!
//! [`model`] is what goes in, [`order`] what a query may ask for, [`assets`] what stands beside the pages under its own
//! address. A page needs no more of a browser than HTML; with [`POLICY`] it can do no more.

pub mod assets;
mod card;
mod index;
mod listing;
pub mod model;
pub mod order;
mod plot;
mod problem;
mod status;
pub mod text;

use askama::Template;

pub use index::index;
pub use listing::listing;
pub use problem::problem;
pub use status::status;

use crate::mirror::words;
use model::Site;

/// The `Content-Security-Policy` that the pages work under: no script and no style in the page itself, nothing from
/// elsewhere.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
                          base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What stands around every page.
struct Frame<'a> {
    site: &'a Site,
    /// The site's name.
    name: String,
    title: String,
    style: String,
    script: String,
    favicon: String,
}

impl<'a> Frame<'a> {
    /// `title` names the page; the site's name follows it.
    fn new(site: &'a Site, title: &str) -> Self {
        let name = shown(&site.name);
        let title = if title.is_empty() { name.clone() } else { format!("{title} · {name}") };
        let [style, script, favicon] = [assets::STYLE, assets::SCRIPT, assets::FAVICON].map(|asset| asset.link());
        Self { site, name, title, style, script, favicon }
    }
}

/// Text from outside, without what would control or reorder the text around it.
fn shown(text: &str) -> String {
    words::escaped(text.as_bytes())
}

/// The page that a template makes. Writing to memory does not fail, and no filter here does.
fn render(template: &impl Template) -> String {
    template.render().unwrap_or_else(|error| error.to_string())
}
