//! A module enters the config: the checks before anything is read, sent or written.

use std::path::{Path, PathBuf};

use super::command::{Share, Sync};
use super::config::{Config, Followed, Kind, Module, Own, check_pattern};
use super::failure::{Exit, Failure};
use super::filter::Filter;
use crate::disk::dir::Dir;
use crate::disk::home::{Overlap, overlap};
use crate::tree::address::Address;
use crate::tree::signed::check_module_name;

/// The module that `share` asks for in the home of `base`: what it leaves out stays as `config` has it.
///
/// # Errors
/// [`Failure`] when the directory, the name or a pattern will not do.
pub fn own_module(base: &Path, config: &Config, share: &Share) -> Result<Module, Failure> {
    let shown = share.dir.display();
    Dir::open_operator(&share.dir).map_err(|e| Failure::local(format!("cannot share {shown}"), &e))?;
    check_apart(base, &share.dir, "share")?;
    let name = match &share.name {
        Some(name) => name.clone(),
        None => share.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    check_module_name(&name).map_err(|e| {
        let what = format!("cannot share {shown} as \"{name}\"");
        Failure::new(Exit::Usage, what, e.to_string(), "choose a name: --name NAME")
    })?;
    share.exclude.iter().try_for_each(|pattern| check_pattern(pattern)).map_err(|why| {
        Failure::new(
            Exit::Usage,
            "a pattern of --exclude is not right",
            why,
            "write it as in a shell: '*.tmp', 'cache/**'",
        )
    })?;
    let path = from_base(base, &share.dir);
    let (paused, shown) = config.module(&name).map_or_else(Default::default, |module| (module.paused, module.shown));
    let known = match config.module(&name).map(|module| &module.kind) {
        Some(Kind::Own(own)) if base.join(&own.path) == base.join(&path) => Some(own.clone()),
        Some(kind) => {
            let why = match kind {
                Kind::Own(own) => format!("it is the name of {}", base.join(&own.path).display()),
                Kind::Followed(followed) => format!("it follows {}", followed.from),
            };
            let fix = format!("choose another: --name NAME; or take [module.{name}] out of .mirra/Mirra.toml");
            return Err(Failure::new(Exit::Config, format!("the name {name} is taken"), why, fix));
        }
        None => None,
    };
    let first = || Own { path, publish: Default::default(), exclude: Vec::new(), title: None, block_lists: true };
    let known = known.unwrap_or_else(first);
    let exclude = if share.exclude.is_empty() { known.exclude } else { share.exclude.clone() };
    Ok(Module {
        name,
        kind: Kind::Own(Own {
            path: known.path,
            publish: share.publish.unwrap_or(known.publish),
            exclude,
            title: share.title.clone().or(known.title),
            block_lists: known.block_lists,
        }),
        paused,
        shown,
    })
}

/// The module that `sync` asks for in the home of `base`. A key that `config` has stays; one that contradicts it is refused.
///
/// # Errors
/// [`Failure`] when address, directory or key will not do.
pub fn followed_module(base: &Path, config: &Config, sync: &Sync) -> Result<Module, Failure> {
    let usage = |why: String| {
        let fix = "mirra sync HOST[:PORT] MODULE, or mirra sync mirra://HOST[:PORT]/MODULE#KEY";
        Failure::new(Exit::Usage, format!("cannot sync {}", sync.address), why, fix)
    };
    let mut from = Address::parse(&sync.address).map_err(|e| usage(e.to_string()))?;
    let name = from.module.clone().ok_or_else(|| usage("it names no module".into()))?;
    if !from.path.is_empty() {
        return Err(usage("it names a path in the module; only whole modules are followed".into()));
    }
    let known = match config.module(&name).map(|module| &module.kind) {
        Some(Kind::Followed(followed)) => Some(followed),
        Some(Kind::Own(own)) => {
            let why = format!("this mirra shares {} under that name", base.join(&own.path).display());
            let fix = "follow it from another home: -C DIR";
            return Err(Failure::new(Exit::Config, format!("the name {name} is taken"), why, fix));
        }
        None => None,
    };
    if let Some(pinned) = known.and_then(|known| known.from.key) {
        if from.key.is_some_and(|key| key != pinned) {
            let what = format!("the key of {name} is not the one that is pinned");
            let fix = format!("ask its owner which is right; to accept the other, change from in [module.{name}]");
            return Err(Failure::new(Exit::Trust, what, "the address names another owner of the module", fix));
        }
        from.key = Some(pinned);
    }
    let asked = sync.into.as_ref().map(|into| from_base(base, into));
    let into = match (known.map(|known| known.into.clone()), asked) {
        (Some(known), Some(asked)) if base.join(&known) != base.join(&asked) => {
            let why = format!("it goes into {} already", base.join(&known).display());
            let fix = format!("leave --into out, or change into in [module.{name}] of .mirra/Mirra.toml");
            return Err(Failure::new(Exit::Config, format!("cannot put {name} into another directory"), why, fix));
        }
        (known, asked) => known.or(asked).unwrap_or_else(|| PathBuf::from(&name)),
    };
    check_apart(base, &base.join(&into), "sync into")?;
    let (paused, shown) = config.module(&name).map_or_else(Default::default, |module| (module.paused, module.shown));
    let filter = filter_of(known.map(|known| &known.filter), sync)?;
    let show_name = known.is_some_and(|known| known.show_name);
    Ok(Module { name, kind: Kind::Followed(Followed { from, into, filter, show_name }), paused, shown })
}

/// The rules that were named now; without any, those that were there before.
fn filter_of(known: Option<&Filter>, sync: &Sync) -> Result<Filter, Failure> {
    let Some(rules) = &sync.filter else {
        let known = known.cloned().unwrap_or_default();
        return Ok(Filter { delete_excluded: known.delete_excluded || sync.delete_excluded, ..known });
    };
    Filter::parse(rules, sync.delete_excluded).map_err(|why| {
        let fix = "write patterns as in .gitignore: --exclude '*.iso', --include '/docs/***'";
        Failure::new(Exit::Usage, "a rule of --include or --exclude is not right", why, fix)
    })
}

/// Refuses a directory that holds the home in `base`, or lies within it, whether or not they exist yet: keys are never
/// part of a module.
///
/// # Errors
/// [`Failure`] with what to do.
pub fn check_apart(base: &Path, dir: &Path, verb: &str) -> Result<(), Failure> {
    let what = format!("cannot {verb} {}", dir.display());
    let found = overlap(base, dir)?;
    let (why, fix) = match found {
        Overlap::Apart => return Ok(()),
        Overlap::HoldsHome => (
            format!("within it is the place of {}/.mirra, with the keys of this mirra", base.display()),
            "choose a directory beside .mirra, or keep the home elsewhere: mirra -C OTHER_DIR",
        ),
        Overlap::WithinHome => ("it lies within .mirra, among the keys of this mirra".to_owned(), "choose another one"),
    };
    Err(Failure::new(Exit::Usage, what, why, fix))
}

/// How the config names `path`: relative to `base` where it lies below, so that both can be moved together.
fn from_base(base: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(base).unwrap_or(path).components().collect()
}
