//! What is done to a module that is there: it rests, is taken up again, or leaves. Here the config, the index and the
//! directory are changed; whoever runs the module acts on it.

use std::path::{Path, PathBuf};

use super::command::{Leave, Which};
use super::config::{Kind, Module};
use super::config_file::ConfigFile;
use super::failure::{Exit, Failure};
use super::report::{Paused, Removed, Role};
use super::seeds;
use super::take_tree::index_failure;
use crate::disk::dir::{Dir, Found};
use crate::disk::grace::remove_tree;
use crate::disk::home::Home;
use crate::disk::index::{Index, IndexError};
use crate::tree::name::Name;

/// Takes the module that `leave` names out of the config of `home`, if it is an own or a followed one as `role` says.
/// `file` is read anew before, and saved. Nothing else is touched: [`clear`] does that once nobody works on it.
///
/// # Errors
/// [`Failure`] when there is no such module in that role, its directory is not to be removed, or the config cannot be
/// written.
pub fn leave(home: &Home, file: &mut ConfigFile, role: Role, leave: &Leave) -> Result<Module, Failure> {
    *file = ConfigFile::load(home)?;
    let module = file.config().module(&leave.module).cloned().ok_or_else(|| no_module(&leave.module))?;
    if role_of(&module) != role {
        return Err(other_role(&module));
    }
    if leave.delete_data {
        let path = place(home, &module);
        let others = file.config().modules.iter().filter(|other| other.name != module.name);
        for other in others {
            let theirs = place(home, other);
            if theirs.starts_with(&path) || path.starts_with(&theirs) {
                return Err(shared_place(&path, other));
            }
        }
        hold(&path)?;
    }
    file.remove(&module.name)?;
    file.save(home)?;
    Ok(module)
}

/// Forgets what the index knows of a module that left, its heads and its pin as well, and removes its directory if
/// `delete_data`. It must no longer be served, watched or followed.
///
/// # Errors
/// [`Failure`]: the module has left even so, and its directory may be there in part.
pub fn clear(home: &Home, index: &Index, module: &Module, delete_data: bool) -> Result<Removed, Failure> {
    forget(index, &module.name).map_err(index_failure)?;
    drop_packs(home, &module.name);
    let path = place(home, module);
    if delete_data {
        remove_data(&path)?;
    }
    let path = path.display().to_string();
    Ok(Removed { module: module.name.clone(), role: role_of(module), data_deleted: delete_data, path })
}

/// Lets modules rest, or ends their rest, in the config of `home`, which is read anew before and saved.
///
/// # Errors
/// [`Failure`] when there is no such module, or the config cannot be written.
pub fn set_paused(home: &Home, file: &mut ConfigFile, which: &Which, paused: bool) -> Result<Paused, Failure> {
    *file = ConfigFile::load(home)?;
    let modules = match &which.module {
        Some(name) => vec![file.config().module(name).ok_or_else(|| no_module(name))?.name.clone()],
        None => file.config().modules.iter().map(|module| module.name.clone()).collect(),
    };
    for name in &modules {
        file.set_paused(name, paused)?;
    }
    file.save(home)?;
    Ok(Paused { modules, paused })
}

fn role_of(module: &Module) -> Role {
    match module.kind {
        Kind::Own(_) => Role::Root,
        Kind::Followed(_) => Role::Node,
    }
}

fn place(home: &Home, module: &Module) -> PathBuf {
    let path = match &module.kind {
        Kind::Own(own) => &own.path,
        Kind::Followed(followed) => &followed.into,
    };
    // Without `.` in the middle, so that the path compares with others and ends in the directory's name.
    home.base().join(path).components().collect()
}

fn forget(index: &Index, name: &str) -> Result<(), IndexError> {
    seeds::forget(index, name)?;
    let Some(number) = index.reader()?.find_module(name)? else { return Ok(()) };
    let mut batch = index.batch()?;
    batch.forget_module(number)?;
    batch.commit()
}

/// Packs are of no use to anybody then; what stays of them is only room.
fn drop_packs(home: &Home, module: &str) {
    let dropped = home.inner().sub("packs").map_err(std::io::Error::other).and_then(|packs| {
        let name = Name::new(module.as_bytes()).map_err(std::io::Error::other)?;
        match packs.dir().look(&name)? {
            Some(_) => remove_tree(packs.dir(), &name),
            None => Ok(()),
        }
    });
    if let Err(error) = dropped {
        tracing::warn!(module, %error, "packs are not removed");
    }
}

/// The directory that holds `path`, and its name there; `None` when it is gone already. What is no plain directory is
/// not removed: behind a link lies something that has another name.
fn hold(path: &Path) -> Result<Option<(Dir, Name)>, Failure> {
    let what = || format!("cannot remove {}", path.display());
    let by_hand = "leave --delete-data out, and remove by hand what is to go";
    let parts = path.parent().zip(path.file_name());
    let Some((parent, name)) =
        parts.and_then(|(parent, name)| Some((parent, Name::new(name.as_encoded_bytes()).ok()?)))
    else {
        return Err(Failure::new(Exit::Usage, what(), "its path does not end in the name of a directory", by_hand));
    };
    let looked = Dir::open_operator(parent).and_then(|parent| Ok((parent.look(&name)?, parent)));
    match looked {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::local(what(), &e)),
        Ok((None, _)) => Ok(None),
        Ok((Some(look), parent)) if look.found == Found::Directory => Ok(Some((parent, name))),
        Ok(_) => Err(Failure::new(Exit::Guard, what(), "it is a link or a file, no directory", by_hand)),
    }
}

fn remove_data(path: &Path) -> Result<(), Failure> {
    let Some((parent, name)) = hold(path)? else { return Ok(()) };
    remove_tree(&parent, &name).map_err(|e| {
        let what = format!("the module has left, but not all of {} could be removed", path.display());
        Failure { fix: "remove the rest by hand".to_owned(), ..Failure::local(what, &e) }
    })
}

fn no_module(name: &str) -> Failure {
    let fix = "mirra status lists the modules of this home";
    Failure::new(Exit::NoModule, format!("there is no module {name} here"), "the config does not name it", fix)
}

fn other_role(module: &Module) -> Failure {
    let name = &module.name;
    let (what, why, fix) = match module.kind {
        Kind::Own(_) => ("followed", "it is one of its own modules", format!("mirra unshare {name}")),
        Kind::Followed(_) => ("shared", "it follows another mirra", format!("mirra unsync {name}")),
    };
    Failure::new(Exit::Usage, format!("{name} is not {what} by this mirra"), why, fix)
}

fn shared_place(path: &Path, other: &Module) -> Failure {
    let what = format!("cannot remove {}", path.display());
    let why = format!("the directory of the module {} is the same, in it, or around it", other.name);
    Failure::new(Exit::Guard, what, why, "leave --delete-data out, and remove by hand what is to go")
}
