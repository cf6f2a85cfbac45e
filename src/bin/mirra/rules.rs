//! `--include`, `--exclude` and `--exclude-from`: rules in the order of the command line, which decides.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use mirra::{Exit, Failure};

/// Rules as they were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules(Vec<Given>);

#[derive(Debug, Clone)]
enum Given {
    Include(String),
    Exclude(String),
    /// Rules, one a line.
    From(PathBuf),
}

impl Rules {
    /// The rules as texts, files read; `None` if none were given.
    pub(crate) fn read(self) -> Result<Option<Vec<String>>, Failure> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut rules = Vec::new();
        for given in self.0 {
            match given {
                Given::Include(pattern) => rules.push(format!("+ {pattern}")),
                Given::Exclude(pattern) => rules.push(pattern),
                Given::From(path) => {
                    #[expect(clippy::disallowed_methods, reason = "the operator names the path")]
                    let text = std::fs::read_to_string(&path).map_err(|error| {
                        let fix = "name a readable text file with one pattern a line";
                        let what = format!("cannot read the rules in {}", path.display());
                        Failure { exit: Exit::Usage, fix: fix.into(), ..Failure::local(what, &error) }
                    })?;
                    rules.extend(mirra::rules_of_text(&text).map(ToOwned::to_owned));
                }
            }
        }
        Ok(Some(rules))
    }
}

impl Args for Rules {
    fn augment_args(command: Command) -> Command {
        let many = |name: &'static str| Arg::new(name).long(name).action(ArgAction::Append);
        command
            .arg(
                many("include")
                    .value_name("PAT")
                    .help("Take what fits, whatever rules behind this one say; repeatable"),
            )
            .arg(
                many("exclude").value_name("PAT").help("Leave out what fits; of all rules the first that fits decides"),
            )
            .arg(
                many("exclude-from")
                    .value_name("FILE")
                    .value_parser(value_parser!(PathBuf))
                    .help("Rules from a file, one a line: PAT or \"- PAT\" leaves out, \"+ PAT\" takes"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Rules {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given: Vec<(usize, Given)> = Vec::new();
        let texts = |name: &str, make: fn(String) -> Given| {
            let values = matches.get_many::<String>(name).into_iter().flatten().cloned().map(make);
            matches.indices_of(name).into_iter().flatten().zip(values).collect::<Vec<_>>()
        };
        given.extend(texts("include", Given::Include));
        given.extend(texts("exclude", Given::Exclude));
        let files = matches.get_many::<PathBuf>("exclude-from").into_iter().flatten().cloned().map(Given::From);
        given.extend(matches.indices_of("exclude-from").into_iter().flatten().zip(files));
        given.sort_by_key(|(at, _)| *at);
        Ok(Self(given.into_iter().map(|(_, given)| given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
