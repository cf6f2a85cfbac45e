//! A directory as the list that nginx makes, for programs that read such lists: all of it, however large, as it is taken.
//! Directories link to their own plain lists, so that `wget -r` meets nothing else.

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use super::pages::text::encoded;
use super::resolve::follow;
use super::rows::Rows;
use crate::mirror::front::View;
use crate::tree::entry::{Body, Entry};
use crate::tree::name::TreePath;
use crate::tree::page::PageError;

/// Entries that are read at once.
const STEP: usize = 256;
/// Columns for a name.
const WIDTH: usize = 50;
/// The last second that is written as a date.
const LAST_SECOND: u64 = 253_402_300_799;

/// The list, on its way.
pub struct Plain {
    view: View,
    path: TreePath,
    rows: Rows,
    at: u64,
    state: State,
}

enum State {
    Begin,
    Rows,
    Over,
}

impl Plain {
    /// Lists `rows` of the directory at `path`.
    #[must_use]
    pub fn new(view: View, path: TreePath, rows: Rows) -> Self {
        Self { view, path, rows, at: 0, state: State::Begin }
    }

    fn begin(&self) -> String {
        let title = format!("Index of /{}/{}", self.view.served().name, self.path);
        let title = html(&title);
        let up = if self.path.is_top() { "../" } else { "../?plain" };
        format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<h1>{title}</h1><hr><pre><a href=\"{up}\">../</a>\r\n"
        )
    }

    fn more(&mut self) -> Result<String, PageError> {
        let entries = self.rows.read(self.view.pages(), self.at, STEP)?;
        if entries.is_empty() {
            self.state = State::Over;
            return Ok("</pre><hr></body>\r\n</html>\r\n".to_owned());
        }
        self.at += entries.len() as u64;
        let mut text = String::new();
        for entry in &entries {
            text.push_str(&self.line(entry)?);
        }
        Ok(text)
    }

    /// The line of an entry; of a link, that of what it leads to.
    fn line(&self, entry: &Entry) -> Result<String, PageError> {
        let (name, mut shown) = (&entry.name, entry.clone());
        if let (Body::Link { target }, Some(top)) = (&entry.body, self.view.top()) {
            match follow(self.view.pages(), top, &self.path, target) {
                Err(PageError::Missing { .. }) | Ok(None) => return Ok(String::new()),
                Ok(Some(found)) => shown = found.entry.unwrap_or_else(|| entry.clone()),
                Err(error) => return Err(error),
            }
        }
        let (slash, query, size) = match shown.body {
            Body::File { size, .. } => ("", "", size.to_string()),
            Body::Directory { .. } | Body::Link { .. } => ("/", "?plain", "-".to_owned()),
        };
        let label = format!("{name}{slash}");
        let short: String = match label.char_indices().nth(WIDTH) {
            Some(_) => label.chars().take(WIDTH - 3).chain("..>".chars()).collect(),
            None => label,
        };
        let pad = WIDTH + 1 - short.chars().count().min(WIDTH);
        let (href, label, date) = (encoded(name.as_bytes()), html(&short), date(shown.meta.mtime.seconds));
        Ok(format!("<a href=\"./{href}{slash}{query}\">{label}</a>{:pad$}{date} {size:>19}\r\n", ""))
    }
}

impl super::body::Source for Plain {
    fn next(&mut self, _: usize) -> io::Result<Option<Vec<u8>>> {
        let text = match self.state {
            State::Begin => {
                self.state = State::Rows;
                self.begin()
            }
            State::Rows => self.more().map_err(io::Error::other)?,
            State::Over => return Ok(None),
        };
        Ok(Some(text.into_bytes()))
    }
}

/// `22-Nov-2026 18:30`
fn date(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or(0).min(LAST_SECOND);
    // Such as "Sun, 22 Nov 2026 18:30:00 GMT".
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().unwrap_or_default();
    let (day, month, year, time) = (word(), word(), word(), word());
    format!("{day}-{month}-{year} {}", time.get(..5).unwrap_or_default())
}

fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_nginx() {
        assert_eq!(date(784_111_777), "06-Nov-1994 08:49");
        assert_eq!((date(-5), date(i64::MAX)), ("01-Jan-1970 00:00".to_owned(), "31-Dec-9999 23:59".to_owned()));
    }
}
