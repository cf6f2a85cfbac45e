//! What is set in `.mirra/Mirra.toml`, as checked values. Unknown keys are refused: a misspelt one would do nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml_edit::{Document, Item, TableLike};

use super::failure::{Exit, Failure};
use super::filter::Filter;
use super::gate::{Gate, Span};
use super::proxies::Net;
use crate::protocol::compress::Level;
use crate::protocol::effort::Compress;
use crate::protocol::limits::TITLE_MAX;
use crate::tree::address::Address;
use crate::tree::signed::check_module_name;

/// All settings of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[module.NAME]`, in the order of the file.
    pub modules: Vec<Module>,
}

/// What concerns the mirra as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// What it is called.
    pub name: String,
    /// The port others call.
    pub port: u16,
    /// The address it listens on, with its own port, if not all addresses and `port`.
    pub listen: Option<SocketAddr>,
    /// Whether it has web pages.
    pub web: bool,
    /// The port of the web pages, if it is set.
    pub web_port: Option<u16>,
    /// The address of the web pages, with its own port, if not all addresses.
    pub web_listen: Option<SocketAddr>,
    /// The address of this machine at which programs may watch it, if there is one.
    pub metrics_listen: Option<SocketAddr>,
    /// Who is believed to say for whom he asks for a page.
    pub trusted_proxies: Vec<Net>,
    /// How long the newest head of a followed module may stay unconfirmed until it counts as stale.
    pub stale_after: Span,
    /// How hard content is packed for others.
    pub compress: Compress,
}

/// A module of this home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, which is also that of its section.
    pub name: String,
    /// Own or followed.
    pub kind: Kind,
    /// Whether it rests: nothing is published or fetched, what is there is served on.
    pub paused: bool,
    /// What its web pages show beside the rest.
    pub shown: Shown,
}

/// What the web pages of a module show that others keep to themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shown {
    /// Names that begin with a dot, in lists.
    pub hidden: bool,
    /// Who follows it from here, and how far each is.
    pub nodes: bool,
}

/// Where a module's snapshots come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// From a directory here.
    Own(Own),
    /// From another mirra.
    Followed(Followed),
}

/// A directory that is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// The directory; relative to the one that holds `.mirra`.
    pub path: PathBuf,
    /// When changes are published.
    pub publish: Gate,
    /// Patterns of what is not part of the module.
    pub exclude: Vec<String>,
    /// A line for people.
    pub title: Option<String>,
    /// Whether lists of blocks are kept of its files, so that little is sent of what changes in place.
    pub block_lists: bool,
}

/// A module of another mirra.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Host, module and, once it is pinned, key.
    pub from: Address,
    /// The directory; relative to the one that holds `.mirra`.
    pub into: PathBuf,
    /// What is taken of it.
    pub filter: Filter,
    /// Whether the source is told the name of this mirra, so that it can show who follows it.
    pub show_name: bool,
}

/// How long a head may stay unconfirmed when nothing is set.
const STALE_AFTER: Span = Span(Duration::from_secs(3_600));
/// Bytes of a mirra's name.
const NAME_MAX: usize = 64;
/// The usual port of web pages.
pub const WEB_PORT: u16 = 80;
/// The port of the metrics where none is named.
pub const METRICS_PORT: u16 = 9607;
/// A list of patterns in words.
const PATTERNS: &str = "patterns such as [\"*.tmp\"]";

impl Server {
    /// The settings of a mirra called `name` that is called at `port`.
    ///
    /// # Errors
    /// A sentence, when the name is empty, long or not printable.
    pub fn new(name: &str, port: u16) -> Result<Self, String> {
        if name.trim().is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(format!("a mirra's name is 1 to {NAME_MAX} bytes of printable text"));
        }
        Ok(Self {
            name: name.trim().to_owned(),
            port,
            listen: None,
            web: true,
            web_port: None,
            web_listen: None,
            metrics_listen: None,
            trusted_proxies: Vec::new(),
            stale_after: STALE_AFTER,
            compress: Compress::Auto,
        })
    }

    /// Where it listens: `listen`, or `port` on all addresses.
    #[must_use]
    pub fn listen_address(&self) -> SocketAddr {
        self.listen.unwrap_or((Ipv6Addr::UNSPECIFIED, self.port).into())
    }
}

/// Reads `IP`, `IP:PORT` or `[IPV6]:PORT`.
///
/// # Errors
/// A sentence.
pub fn parse_listen(text: &str, port: u16) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).or_else(|_| text.parse());
    address.map_err(|_| format!("\"{text}\" is no address to listen on, such as 0.0.0.0, [::]:6007 or 10.0.0.1:6007"))
}

impl Config {
    /// The module called `name`.
    #[must_use]
    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// Reads the text of a config; `path` is for messages.
    ///
    /// # Errors
    /// [`Failure`] with file and line.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let document = Document::parse(text).map_err(|e| {
            let fix = "correct that line; strings stand in double quotes";
            at_line(text, path, e.span(), e.message().to_owned(), fix.into())
        })?;
        let source = Source { text, path };
        let top = Section { source: &source, title: "the file".into(), table: document.as_table() };
        top.allow(&["server", "module"])?;
        let server = read_server(&top.section("server", "[server]")?)?;
        let mut modules = Vec::new();
        if document.get("module").is_some() {
            let all = top.section("module", "[module]")?;
            for (name, _) in all.table.iter() {
                modules.push(read_module(name, &all)?);
            }
        }
        Ok(Self { server, modules })
    }
}

fn read_server(section: &Section<'_>) -> Result<Server, Failure> {
    section.allow(&[
        "name",
        "port",
        "listen",
        "web",
        "web_port",
        "web_listen",
        "metrics_listen",
        "trusted_proxies",
        "stale_after",
        "compress",
    ])?;
    let name = section.string("name")?.ok_or_else(|| section.missing("name"))?;
    let port = section.port("port")?.unwrap_or(crate::tree::address::DEFAULT_PORT);
    let server = Server::new(&name, port).map_err(|why| section.wrong("name", why))?;
    let listen = section.parsed("listen", |text| parse_listen(text, port))?;
    let web = section.boolean("web")?.unwrap_or(true);
    let stale_after = section.parsed("stale_after", stale_after)?.unwrap_or(STALE_AFTER);
    let compress = section.value("compress", "\"auto\" or a level from 0 to 19", compress)?.unwrap_or_default();
    let web_port = section.port("web_port")?;
    let web_listen = section.parsed("web_listen", |text| parse_listen(text, web_port.unwrap_or(WEB_PORT)))?;
    let metrics_listen = section.parsed("metrics_listen", |text| parse_listen(text, METRICS_PORT))?;
    let proxies = section.texts("trusted_proxies", "addresses such as [\"127.0.0.1\", \"10.0.0.0/8\"]")?;
    let trusted_proxies = proxies.iter().map(|text| text.parse()).collect::<Result<_, _>>();
    let trusted_proxies = trusted_proxies.map_err(|why| section.wrong("trusted_proxies", why))?;
    Ok(Server { listen, web, web_port, web_listen, metrics_listen, trusted_proxies, stale_after, compress, ..server })
}

/// `"auto"`, or the number of a level.
fn compress(item: &Item) -> Option<Compress> {
    if item.as_str() == Some("auto") {
        return Some(Compress::Auto);
    }
    u8::try_from(item.as_integer()?).ok().and_then(Level::new).map(Compress::Fixed)
}

/// A span of time that a module can be older than.
fn stale_after(text: &str) -> Result<Span, String> {
    let span = text.parse::<Span>()?;
    if span.0.is_zero() {
        Err("nothing is ever so fresh: write a longer span, such as 1h".to_owned())
    } else {
        Ok(span)
    }
}

fn read_module(name: &str, all: &Section<'_>) -> Result<Module, Failure> {
    check_module_name(name).map_err(|e| all.wrong(name, e.to_string()))?;
    let section = all.section(name, &format!("[module.{name}]"))?;
    let followed = section.table.contains_key("from");
    let known: &[&str] = if followed {
        &["from", "into", "include", "exclude", "delete_excluded", "show_name", "paused", "show_hidden", "show_nodes"]
    } else {
        &["path", "publish", "exclude", "title", "block_lists", "from", "paused", "show_hidden", "show_nodes"]
    };
    section.allow(known)?;
    let flag = |key| Ok::<_, Failure>(section.boolean(key)?.unwrap_or(false));
    let kind = if followed {
        let from = section.parsed("from", |text| {
            let address = Address::parse(text).map_err(|e| e.to_string())?;
            if address.module.is_none() || !address.path.is_empty() {
                return Err("it names no module: mirra://HOST/MODULE".to_owned());
            }
            Ok(address)
        })?;
        let from = from.ok_or_else(|| section.missing("from"))?;
        let into = section.string("into")?.unwrap_or_else(|| name.to_owned()).into();
        Kind::Followed(Followed { from, into, filter: read_filter(&section)?, show_name: flag("show_name")? })
    } else {
        let path = section.string("path")?.ok_or_else(|| section.missing("path"))?;
        Kind::Own(Own {
            path: path.into(),
            publish: section.parsed("publish", str::parse)?.unwrap_or_default(),
            exclude: section.patterns("exclude")?,
            title: read_title(&section)?,
            block_lists: section.boolean("block_lists")?.unwrap_or(true),
        })
    };
    let shown = Shown { hidden: flag("show_hidden")?, nodes: flag("show_nodes")? };
    Ok(Module { name: name.to_owned(), kind, paused: flag("paused")?, shown })
}

/// Rules of `include`, then those of `exclude`, which may be of both kinds.
fn read_filter(section: &Section<'_>) -> Result<Filter, Failure> {
    let kept = section.texts("include", PATTERNS)?.into_iter().map(|pattern| format!("+ {pattern}"));
    let rules: Vec<String> = kept.chain(section.texts("exclude", PATTERNS)?).collect();
    let delete_excluded = section.boolean("delete_excluded")?.unwrap_or(false);
    Filter::parse(rules, delete_excluded).map_err(|why| section.wrong("exclude", why))
}

/// A title that others will take: longer ones are refused by whoever lists this mirra.
fn read_title(section: &Section<'_>) -> Result<Option<String>, Failure> {
    let title = section.string("title")?;
    let Some(len) = title.as_ref().map(String::len).filter(|len| *len > TITLE_MAX) else { return Ok(title) };
    let span = section.table.get("title").and_then(Item::span);
    let why = format!("the title in {} has {len} bytes, of {TITLE_MAX} that it may have", section.title);
    Err(section.source.wrong(span, why, format!("shorten the title in {}", section.title)))
}

/// The file that is read.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

/// One table of it, with the words for messages.
struct Section<'a> {
    source: &'a Source<'a>,
    title: String,
    table: &'a dyn TableLike,
}

impl<'a> Section<'a> {
    fn section(&self, key: &str, title: &str) -> Result<Section<'a>, Failure> {
        let item = self.table.get(key).ok_or_else(|| self.missing(title))?;
        let table = item.as_table_like().ok_or_else(|| self.wrong(key, format!("{key} is not a section")))?;
        Ok(Section { source: self.source, title: title.to_owned(), table })
    }

    /// Refuses keys that are not in `known`.
    fn allow(&self, known: &[&str]) -> Result<(), Failure> {
        let Some((key, _)) = self.table.iter().find(|(key, _)| !known.contains(key)) else { return Ok(()) };
        let span = self.table.key(key).and_then(toml_edit::Key::span);
        let fix = match closest(key, known) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("known here: {}", known.join(", ")),
        };
        Err(self.source.wrong(span, format!("unknown key \"{key}\" in {}", self.title), fix))
    }

    fn value<T>(&self, key: &str, kind: &str, read: impl Fn(&'a Item) -> Option<T>) -> Result<Option<T>, Failure> {
        let Some(item) = self.table.get(key) else { return Ok(None) };
        read(item).map(Some).ok_or_else(|| self.wrong(key, format!("{key} in {} is not {kind}", self.title)))
    }

    fn string(&self, key: &str) -> Result<Option<String>, Failure> {
        let filled = |item: &'a Item| item.as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        self.value(key, "text in double quotes", filled)
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        self.value(key, "true or false", Item::as_bool)
    }

    fn port(&self, key: &str) -> Result<Option<u16>, Failure> {
        let port = |item: &'a Item| u16::try_from(item.as_integer()?).ok().filter(|port| *port != 0);
        self.value(key, "a port from 1 to 65535", port)
    }

    fn parsed<T>(&self, key: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, Failure> {
        let text = self.string(key)?;
        text.map(|text| read(&text).map_err(|why| self.wrong(key, why))).transpose()
    }

    fn texts(&self, key: &str, what: &str) -> Result<Vec<String>, Failure> {
        let list = |item: &'a Item| {
            item.as_array()?.iter().map(|value| value.as_str().map(ToOwned::to_owned)).collect::<Option<Vec<_>>>()
        };
        Ok(self.value(key, &format!("a list of {what}"), list)?.unwrap_or_default())
    }

    fn patterns(&self, key: &str) -> Result<Vec<String>, Failure> {
        let patterns = self.texts(key, PATTERNS)?;
        patterns.iter().try_for_each(|pattern| check_pattern(pattern)).map_err(|why| self.wrong(key, why))?;
        Ok(patterns)
    }

    fn wrong(&self, key: &str, why: String) -> Failure {
        let span = self.table.get(key).and_then(Item::span);
        self.source.wrong(span, why, format!("correct {key} in {}", self.title))
    }

    fn missing(&self, key: &str) -> Failure {
        let why = format!("{key} is missing in {}", self.title);
        self.source.wrong(None, why, format!("add {key} to {}", self.title))
    }
}

impl Source<'_> {
    fn wrong(&self, span: Option<std::ops::Range<usize>>, why: String, fix: String) -> Failure {
        at_line(self.text, self.path, span, why, fix)
    }
}

fn at_line(text: &str, path: &Path, span: Option<std::ops::Range<usize>>, why: String, fix: String) -> Failure {
    let line = span.and_then(|span| text.get(..span.start)).map(|before| 1 + before.matches('\n').count());
    let place = line.map_or_else(String::new, |line| format!(":{line}"));
    Failure::new(Exit::Config, format!("{}{place} is not right", path.display()), why, fix)
}

/// Checks a pattern of `exclude`.
///
/// # Errors
/// A sentence.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    match globset::Glob::new(pattern) {
        Ok(_) if !pattern.is_empty() => Ok(()),
        Ok(_) => Err("a pattern is empty".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// The word of `known` that `word` was probably meant to be.
fn closest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let by_distance = known.iter().map(|known| (distance(word, known), *known)).min()?;
    (by_distance.0 <= 1 + word.len() / 4).then_some(by_distance.1)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(x != y);
            let mut best = replaced.min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(text, Path::new("Mirra.toml"))
    }

    const SERVER: &str = "[server]\nname = \"here\"\n";

    #[test]
    fn all_settings_are_read() {
        let text = format!(
            "{SERVER}port = 7\nlisten = \"127.0.0.1\"\nweb = false\nweb_port = 81\nweb_listen = \"::1\"\nmetrics_listen = \"127.0.0.1\"\n\
             trusted_proxies = [\"10.0.0.0/8\"]\nstale_after = \"90s\"\ncompress = 9\n\
             [module.own]\npath = \"pub\"\npublish = \"quiet=5m\"\nexclude = [\"*.tmp\"]\ntitle = \"T\"\n\
             block_lists = false\npaused = true\nshow_hidden = true\n[module.far]\nfrom = \"mirra://h:9/far\"\npaused = false\nshow_nodes = true\nshow_name = true\n"
        );
        let config = parse(&text).unwrap();
        assert_eq!(config.server.listen_address().to_string(), "127.0.0.1:7");
        assert_eq!((config.server.web, config.server.web_port), (false, Some(81)));
        assert_eq!(config.server.web_listen.unwrap().to_string(), "[::1]:81");
        assert_eq!(config.server.metrics_listen.unwrap().to_string(), "127.0.0.1:9607");
        assert!(config.server.trusted_proxies.iter().all(|net| net.holds("10.9.8.7".parse().unwrap())));
        let shown = [Shown { hidden: true, nodes: false }, Shown { hidden: false, nodes: true }];
        assert_eq!(config.modules.iter().map(|module| module.shown).collect::<Vec<_>>(), shown);
        assert!(matches!(&config.module("far").unwrap().kind, Kind::Followed(Followed { show_name: true, .. })));
        assert_eq!(config.server.stale_after.to_string(), "90s");
        assert_eq!(config.server.compress, Compress::Fixed(Level::THOROUGH));
        assert_eq!(parse(&format!("{SERVER}compress = \"auto\"")).unwrap().server.compress, Compress::Auto);
        assert_eq!(config.modules.iter().map(|module| module.paused).collect::<Vec<_>>(), [true, false]);
        let Kind::Own(own) = &config.module("own").unwrap().kind else { panic!() };
        assert_eq!((own.publish.to_string().as_str(), own.exclude.len(), own.block_lists), ("quiet=5m", 1, false));
        let Kind::Followed(far) = &config.module("far").unwrap().kind else { panic!() };
        assert_eq!((far.from.host.port, far.into.as_path()), (9, Path::new("far")));
        assert!(!far.filter.is_partial());
    }

    #[test]
    fn rules_of_a_followed_module_are_read_in_order() {
        let rules = "include = [\"/a/***\"]\nexclude = [\"*.tmp\", \"+ /b\", \"*\"]\ndelete_excluded = true\n";
        let config = parse(&format!("{SERVER}[module.far]\nfrom = \"mirra://h/far\"\n{rules}")).unwrap();
        let Kind::Followed(far) = &config.module("far").unwrap().kind else { panic!() };
        assert_eq!(far.filter.texts(), ["+ /a/***", "- *.tmp", "+ /b", "- *"]);
        assert!(far.filter.delete_excluded);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let check = |rest: &str, line: &str, why: &str, fix: &str| {
            let failure = parse(&format!("{SERVER}{rest}")).unwrap_err();
            assert_eq!(failure.exit, Exit::Config);
            assert!(failure.what.contains(line), "{failure}");
            assert!(failure.why.contains(why) && failure.fix.contains(fix), "{failure}");
        };
        check("prot = 7", "Mirra.toml:3", "unknown key \"prot\" in [server]", "did you mean \"port\"?");
        check("colour = 7", "Mirra.toml:3", "unknown key", "known here: name, port");
        check("[modul.a]", "Mirra.toml", "\"modul\" in the file", "\"module\"");
        check("stale_after = \"soon\"", ":3", "no span of time", "stale_after");
        check("stale_after = \"0s\"", ":3", "ever so fresh", "stale_after");
        check("trusted_proxies = [\"10.0.0.0/33\"]", ":3", "no address", "correct trusted_proxies");
        check("trusted_proxies = \"::1\"", ":3", "a list of addresses", "");
        check("compress = 20", ":3", "a level from 0 to 19", "correct compress in [server]");
        check("compress = \"fast\"", ":3", "\"auto\" or a level", "");
        check("[module.a]\npath = \"p\"\npaused = 1", ":5", "true or false", "");
        check("port = 70000", ":3", "a port from 1 to 65535", "");
        check("port = \"7\"", ":3", "a port", "");
        check("listen = \"x\"", ":3", "no address to listen on", "");
        check("[module.a]\n", "Mirra.toml", "path is missing in [module.a]", "");
        check("[module.a]\npath = \"p\"\nexculde = []", ":5", "", "\"exclude\"");
        check("[module.a]\npath = \"p\"\nexclude = [\"[\"]", ":5", "", "");
        check("[module.a]\npath = \"p\"\npublish = \"now\"", ":5", "none of live, quiet", "");
        let title = |len: usize| format!("[module.a]\npath = \"p\"\ntitle = \"{}\"", "ä".repeat(len / 2));
        check(&title(258), ":5", "the title in [module.a] has 258 bytes, of 256", "shorten the title in [module.a]");
        assert!(parse(&format!("{SERVER}{}", title(256))).is_ok());
        check("[module.a]\nfrom = \"h\"", ":4", "names no module", "");
        check("[module.a]\nfrom = \"h/a\"\npath = \"p\"", ":5", "unknown key \"path\"", "");
        check("[module.\".a\"]\npath = \"p\"", "", "module's name", "");
        check("name = \"again\"", ":3", "duplicate", "");
        check("port = ", ":3", "", "");
        assert!(parse("").unwrap_err().why.contains("[server] is missing"));
        assert!(parse("server = 1").unwrap_err().why.contains("not a section"));
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [("port", "port", 0), ("prot", "port", 1), ("por", "port", 1), ("", "ab", 2)] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
