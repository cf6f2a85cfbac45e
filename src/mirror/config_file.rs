//! `.mirra/Mirra.toml` itself: made by `init`, edited by people and by mirra, which leaves their comments alone.

use std::path::PathBuf;

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::config::{Config, Kind, Module, Server, Shown};
use super::failure::{Exit, Failure};
use super::filter::{Filter, Rule};
use super::register::check_apart;
use crate::disk::home::Home;

/// The config's name in `.mirra`.
pub const CONFIG: &str = "Mirra.toml";
/// Bytes of a config, at most.
const CONFIG_MAX: usize = 1024 * 1024;

const HEADING: &str =
    "# Settings of this mirra. Edit them as you like: mirra changes single values and keeps your comments.\n\n";

/// The file's text with all its comments, and what it says.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    document: DocumentMut,
    config: Config,
    path: PathBuf,
}

impl ConfigFile {
    /// Reads the config of `home`.
    ///
    /// # Errors
    /// [`Failure`] when it is missing, or with the line that is wrong.
    pub fn load(home: &Home) -> Result<Self, Failure> {
        let path = home.inner().path().join(CONFIG);
        let bytes = home.inner().read(CONFIG, CONFIG_MAX)?.ok_or_else(|| {
            let what = format!("{} is missing", path.display());
            Failure::new(Exit::Config, what, "mirra init did not finish here", "run mirra init")
        })?;
        let text = String::from_utf8(bytes).map_err(|e| {
            let what = format!("{} is not right", path.display());
            Failure::new(Exit::Config, what, e.to_string(), "save it as UTF-8")
        })?;
        let file = Self::parse(text, path)?;
        file.config.modules.iter().try_for_each(|module| file.check_place(home, module))?;
        Ok(file)
    }

    /// Refuses a module whose directory and the home hold each other: an edit by hand must not expose the keys.
    fn check_place(&self, home: &Home, module: &Module) -> Result<(), Failure> {
        let path = match &module.kind {
            Kind::Own(own) => &own.path,
            Kind::Followed(followed) => &followed.into,
        };
        match check_apart(home.base(), &home.base().join(path), "use") {
            // A directory that cannot be looked at is no danger; whoever uses it says what is wrong with it.
            Err(failure) if failure.exit == Exit::Usage => {
                let what = format!("[module.{}] of {} is not right", module.name, self.path.display());
                Err(Failure { exit: Exit::Config, what, ..failure })
            }
            _ => Ok(()),
        }
    }

    /// Whether `home` has a config: the last thing that `init` writes.
    ///
    /// # Errors
    /// [`Failure`] when it is there but cannot be read.
    pub fn exists(home: &Home) -> Result<bool, Failure> {
        Ok(home.inner().read(CONFIG, CONFIG_MAX)?.is_some())
    }

    /// A first config.
    ///
    /// # Errors
    /// [`Failure`] when `server` could not be read back.
    pub fn create(home: &Home, server: &Server) -> Result<Self, Failure> {
        let mut table = Table::new();
        table.insert("name", toml_edit::value(&server.name));
        table.insert("port", toml_edit::value(i64::from(server.port)));
        if let Some(listen) = server.listen {
            table.insert("listen", toml_edit::value(listen.to_string()));
        }
        if !server.web {
            table.insert("web", toml_edit::value(false));
        }
        if let Some(port) = server.web_port {
            table.insert("web_port", toml_edit::value(i64::from(port)));
        }
        table.decor_mut().set_prefix(HEADING);
        let mut document = DocumentMut::new();
        document.insert("server", Item::Table(table));
        Self::parse(document.to_string(), home.inner().path().join(CONFIG))
    }

    fn parse(text: String, path: PathBuf) -> Result<Self, Failure> {
        let config = Config::parse(&text, &path)?;
        let document = text.parse::<DocumentMut>().map_err(|e| {
            Failure::new(Exit::Config, format!("{} is not right", path.display()), e.message(), "correct it")
        })?;
        Ok(Self { document, config, path })
    }

    /// What the file says.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// Adds or changes a module; values that stay the same keep their spelling, all keep their comments.
    ///
    /// # Errors
    /// [`Failure`] when the module would not be read back: a bad name, pattern or path.
    pub fn put(&mut self, module: &Module) -> Result<(), Failure> {
        let mut document = self.document.clone();
        let all = document.entry("module").or_insert_with(|| {
            let mut all = Table::new();
            all.set_implicit(true);
            Item::Table(all)
        });
        let not_section = || self.wrong("module is not a section");
        let all = all.as_table_like_mut().ok_or_else(not_section)?;
        if all.get(&module.name).is_none() {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            all.insert(&module.name, Item::Table(table));
        }
        let section = all.get_mut(&module.name).and_then(Item::as_table_like_mut).ok_or_else(not_section)?;
        let Shown { hidden, nodes } = module.shown;
        let flags = [("paused", module.paused), ("show_hidden", hidden), ("show_nodes", nodes)];
        let flags = flags.map(|(key, set)| (key, set.then(|| Value::from(true))));
        for (key, value) in values(module).map_err(|why| self.wrong(&why))?.into_iter().chain(flags) {
            match (section.get_mut(key), value) {
                (Some(_), None) => {
                    section.remove(key);
                }
                (Some(Item::Value(old)), Some(mut new)) => {
                    if bare(old) != bare(&new) {
                        *new.decor_mut() = old.decor().clone();
                        *old = new;
                    }
                }
                (_, Some(new)) => {
                    section.insert(key, Item::Value(new));
                }
                (None, None) => {}
            }
        }
        *self = Self::parse(document.to_string(), self.path.clone())?;
        Ok(())
    }

    /// Takes a module out, with the comments in its section; says whether it was there.
    ///
    /// # Errors
    /// [`Failure`] when the file is not as it was read.
    pub fn remove(&mut self, name: &str) -> Result<bool, Failure> {
        let mut document = self.document.clone();
        let all = document.get_mut("module").and_then(Item::as_table_like_mut);
        let found = all.and_then(|all| all.remove(name)).is_some();
        *self = Self::parse(document.to_string(), self.path.clone())?;
        Ok(found)
    }

    /// Lets a module rest, or ends its rest: one value, which is not there where it would be `false`. A module that is
    /// not in the file stays so.
    ///
    /// # Errors
    /// [`Failure`] when the file is not as it was read.
    pub fn set_paused(&mut self, name: &str, paused: bool) -> Result<(), Failure> {
        match self.config.module(name).cloned() {
            Some(module) if module.paused != paused => self.put(&Module { paused, ..module }),
            _ => Ok(()),
        }
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn save(&self, home: &Home) -> Result<(), Failure> {
        Ok(home.inner().write(CONFIG, self.text().as_bytes())?)
    }

    fn wrong(&self, why: &str) -> Failure {
        let what = format!("{} cannot be changed", self.path.display());
        Failure::new(Exit::Config, what, why, "use another name or path")
    }
}

/// What a module's section holds, key by key; `None` where a key is to be left out.
fn values(module: &Module) -> Result<Vec<(&'static str, Option<Value>)>, String> {
    let text = |path: &std::path::Path| match path.to_str() {
        Some(text) if !text.is_empty() => Ok(Some(Value::from(text))),
        Some(_) => Err("the path is empty".to_owned()),
        None => Err(format!("the path {} is not UTF-8, which the config cannot hold", path.display())),
    };
    Ok(match &module.kind {
        Kind::Own(own) => {
            let exclude = (!own.exclude.is_empty()).then(|| Value::Array(own.exclude.iter().collect::<Array>()));
            vec![
                ("from", None),
                ("into", None),
                ("include", None),
                ("delete_excluded", None),
                ("show_name", None),
                ("path", text(&own.path)?),
                ("publish", Some(own.publish.to_string().into())),
                ("exclude", exclude),
                ("title", own.title.as_deref().map(Value::from)),
                ("block_lists", (!own.block_lists).then(|| Value::from(false))),
            ]
        }
        Kind::Followed(followed) => {
            let (include, exclude) = filter_values(&followed.filter);
            vec![
                ("path", None),
                ("publish", None),
                ("title", None),
                ("block_lists", None),
                ("from", Some(followed.from.to_string().into())),
                ("into", text(&followed.into)?),
                ("include", include),
                ("exclude", exclude),
                ("delete_excluded", followed.filter.delete_excluded.then(|| Value::from(true))),
                ("show_name", followed.show_name.then(|| Value::from(true))),
            ]
        }
    })
}

/// The rules as two lists: those that include and stand before all others, and the rest.
fn filter_values(filter: &Filter) -> (Option<Value>, Option<Value>) {
    let first = filter.rules.iter().take_while(|rule| rule.keeps).count();
    let (include, exclude) = filter.rules.split_at(first.min(filter.rules.len()));
    let list = |texts: Vec<String>| (!texts.is_empty()).then(|| Value::Array(texts.iter().collect::<Array>()));
    let bare = |rule: &Rule| {
        // A pattern that would be read as a rule of its own keeps its sign.
        let plain = !rule.keeps && !rule.pattern.starts_with("+ ") && !rule.pattern.starts_with("- ");
        if plain { rule.pattern.clone() } else { rule.to_string() }
    };
    let include = include.iter().map(|rule| rule.pattern.clone()).collect();
    (list(include), list(exclude.iter().map(bare).collect()))
}

/// A value as it is written without the space and comments around it, and around its parts.
fn bare(value: &Value) -> String {
    match value {
        Value::Array(array) => array.iter().map(|part| bare(part) + ",").collect(),
        Value::String(text) => format!("{:?}", text.value()),
        other => other.clone().decorated("", "").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::config::Own;

    const TEXT: &str = "\
# top\n[server] # s\nname = 'here' # n\n\n# about a\n[module.a]\npath = \"x\" # p\nexclude = [ \"*.o\",\n # inside\n \"b\" ] # e\n
# about b\n[module.b]\nfrom = \"h/b\"\n# end\n";

    fn file() -> ConfigFile {
        ConfigFile::parse(TEXT.into(), "Mirra.toml".into()).unwrap()
    }

    fn own(name: &str, path: &str, title: Option<&str>) -> Module {
        let own = Own {
            path: path.into(),
            publish: Default::default(),
            exclude: vec!["*.o".into(), "b".into()],
            title: title.map(Into::into),
            block_lists: true,
        };
        Module { name: name.into(), kind: Kind::Own(own), paused: false, shown: Shown::default() }
    }

    #[test]
    fn a_change_touches_its_value_alone() {
        let mut file = file();
        file.put(&own("a", "y", None)).unwrap();
        let expected = TEXT.replace("\"x\"", "\"y\"").replace("\"b\" ] # e\n", "\"b\" ] # e\npublish = \"live\"\n");
        assert_eq!(file.text(), expected);
        let again = file.clone();
        file.put(&own("a", "y", None)).unwrap();
        assert_eq!(file.text(), again.text());
    }

    #[test]
    fn modules_come_and_go_without_their_neighbours() {
        let mut file = file();
        file.put(&own("c", "z", Some("A \"title\""))).unwrap();
        assert!(file.text().starts_with(TEXT.trim_end_matches("# end\n")), "{}", file.text());
        assert_eq!(file.config().module("c"), Some(&own("c", "z", Some("A \"title\""))));
        assert!(file.remove("c").unwrap() && !file.remove("c").unwrap());
        assert_eq!(file.text(), TEXT);
    }

    #[test]
    fn a_filter_is_read_back_as_it_was_written() {
        let mut file = file();
        for rules in [vec!["+ a", "- b", "+ c", "*"], vec!["*.iso", "- + odd"], vec!["+ only"], vec![]] {
            let filter = Filter::parse(rules, true).unwrap();
            let from = crate::tree::address::Address::parse("h/b").unwrap();
            let followed = crate::mirror::config::Followed { from, into: "b".into(), filter, show_name: true };
            let module = Module {
                name: "b".into(),
                kind: Kind::Followed(followed),
                paused: false,
                shown: Shown { hidden: false, nodes: true },
            };
            file.put(&module).unwrap();
            assert_eq!(file.config().module("b"), Some(&module), "{}", file.text());
        }
    }

    #[test]
    fn a_module_that_rests_says_so_in_one_line_that_goes_again() {
        let mut file = file();
        for name in ["a", "b"] {
            file.set_paused(name, true).unwrap();
            file.set_paused(name, true).unwrap();
        }
        file.set_paused("none", true).unwrap();
        assert!(file.config().modules.iter().all(|module| module.paused));
        assert_eq!(file.text().matches("paused = true\n").count(), 2);
        let again = file.config().modules.clone();
        again.iter().for_each(|module| file.put(module).unwrap());
        assert!(file.config().modules.iter().all(|module| module.paused));
        for name in ["a", "b"] {
            file.set_paused(name, false).unwrap();
        }
        assert_eq!(ConfigFile::parse(TEXT.into(), "Mirra.toml".into()).unwrap().config(), file.config());
        assert!(!file.text().contains("paused"));
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let mut file = file();
        for module in [own(".c", "z", None), own("c", "", None)] {
            assert_eq!(file.put(&module).unwrap_err().exit, Exit::Config);
        }
        assert_eq!(file.text(), TEXT);
    }

    #[test]
    fn a_file_without_modules_gets_its_first() {
        let mut file = ConfigFile::parse("[server]\nname = \"n\"\n".into(), "Mirra.toml".into()).unwrap();
        file.put(&own("a", "x", None)).unwrap();
        let text =
            "[server]\nname = \"n\"\n\n[module.a]\npath = \"x\"\npublish = \"live\"\nexclude = [\"*.o\", \"b\"]\n";
        assert_eq!(file.text(), text);
    }
}
