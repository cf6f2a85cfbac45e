//! The phases of a switch: directories, new files, replaced files, links, removals, metadata, flush.

use super::gather::Prepared;
use super::order::{Moved, Pending, Turn, turns};
use super::place::{Hands, is_unmoved};
use super::{Plan, PublishError, Switched, Witness};
use crate::disk::dir::{Found, StatKey};
use crate::disk::grace::rename_new;
use crate::disk::stage::{given_name, own_name, whole_name};
use crate::tree::diff::Change;
use crate::tree::entry::{Body, Entry, Meta};
use crate::tree::name::{Name, TreePath};

/// Makes the new tree visible. The plan is the one that was prepared, and nothing has used the stage in between.
///
/// # Errors
/// [`PublishError`]. The target is then partly old and partly new: the caller scans it again, verifies what the stage
/// holds ([`leftovers`](crate::disk::stage::Stage::leftovers)), prepares and switches.
pub fn switch(plan: &Plan<'_>, prepared: &Prepared, witness: &mut dyn Witness) -> Result<Switched, PublishError> {
    let mut hands = Hands::new(plan, prepared, witness);
    hands.open_up_top()?;
    let work = &prepared.work;
    let phases: [(u64, Phase); 5] = [
        (work.directories, directories),
        (work.new_files, new_files),
        (work.replaced_files, replaced_files),
        (work.links, links),
        (work.removals, removals),
    ];
    for (_, phase) in phases.into_iter().filter(|(work, _)| *work > 0) {
        for turn in turns(plan, &prepared.moves) {
            phase(&mut hands, &turn?)?;
        }
        hands.forget();
    }
    metadata(&mut hands)?;
    hands.flush()?;
    Ok(hands.stats)
}

/// What a phase does with a change, which may be nothing.
type Phase = fn(&mut Hands<'_, '_>, &Turn) -> Result<(), PublishError>;

fn directories(hands: &mut Hands<'_, '_>, turn: &Turn) -> Result<(), PublishError> {
    let Change { path, old, new: Some(Entry { body: Body::Directory { .. }, meta, .. }) } = &turn.change else {
        return Ok(());
    };
    match (&turn.moved, old) {
        (Moved::Within(_), _) => Ok(()),
        (Moved::Whole(from), _) => move_directory(hands, from, path),
        (Moved::Apart, Some(old)) if old.is_directory() => hands.open_up(path),
        (Moved::Apart, None) => {
            let failed = |e| hands.plan.failed("make", path, e);
            hands.plan.step("make", path)?;
            let (dir, name) = hands.places.at(path).map_err(failed)?;
            match dir.make_dir(&name, meta.mode | 0o700) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => {
                    made.map_err(failed)?;
                    hands.touch_parent(path);
                    hands.stats.directories += 1;
                    return Ok(());
                }
            }
            hands.stats.unexpected += 1;
            match hands.look(path)? {
                Some(look) if look.found == Found::Directory => hands.open_up(path),
                _ => exchange_directory(hands, turn, meta),
            }
        }
        (Moved::Apart, Some(_)) => exchange_directory(hands, turn, meta),
    }
}

fn exchange_directory(hands: &mut Hands<'_, '_>, turn: &Turn, meta: &Meta) -> Result<(), PublishError> {
    let staged = own_name(&format!("dir.{}", turn.number));
    hands.plan.step("stage", &turn.change.path)?;
    let made = hands.plan.stage.dir.make_dir(&staged, meta.mode | 0o700);
    made.map_err(|e| hands.plan.failed("make", &turn.change.path, e))?;
    hands.put(&staged, &turn.change)?;
    hands.stats.directories += 1;
    Ok(())
}

fn move_directory(hands: &mut Hands<'_, '_>, from: &TreePath, path: &TreePath) -> Result<(), PublishError> {
    hands.touch_parent(from);
    hands.touch_parent(path);
    hands.open_up(from)?;
    hands.open_up_parent(from)?;
    hands.plan.step("move", from)?;
    let failed = |e| hands.plan.failed("move", from, e);
    let (source, name) = hands.places.at(from).map_err(failed)?;
    let source = source.try_clone().map_err(failed)?;
    let (target, new) = hands.places.at(path).map_err(failed)?;
    rename_new(&source, &name, target, &new).map_err(failed)?;
    hands.forget();
    hands.stats.moved_directories += 1;
    Ok(())
}

fn new_files(hands: &mut Hands<'_, '_>, turn: &Turn) -> Result<(), PublishError> {
    if turn.change.old.is_none() { file(hands, turn) } else { Ok(()) }
}

fn replaced_files(hands: &mut Hands<'_, '_>, turn: &Turn) -> Result<(), PublishError> {
    if turn.change.old.is_some() { file(hands, turn) } else { Ok(()) }
}

fn file(hands: &mut Hands<'_, '_>, turn: &Turn) -> Result<(), PublishError> {
    let Change { path, new: Some(entry @ Entry { body: Body::File { id, .. }, .. }), .. } = &turn.change else {
        return Ok(());
    };
    if turn.moved != Moved::Apart {
        return Ok(());
    }
    let given = given_name(id, turn.number);
    let before = match hands.prepared.wholes.key(turn.number) {
        Some(key) => {
            let whole = whole_name(id);
            let before = key.map_or_else(|| look_staged(hands, &whole, path), |key| Ok(Some(key)))?;
            hands.put_new(&whole, &given, &turn.change)?;
            before
        }
        None => {
            let mut before = look_staged(hands, &given, path)?;
            if before.is_none() {
                if is_metadata_only(&turn.change) {
                    return Ok(());
                }
                if !hands.take(&given, path, entry)? {
                    return Err(PublishError::Missing { path: path.clone(), id: *id });
                }
                before = look_staged(hands, &given, path)?;
            }
            hands.put(&given, &turn.change)?;
            before
        }
    };
    count_put(hands, &turn.change);
    // Renaming has changed the key; a local user may have changed more.
    if let (Some(before), Some(now)) = (before, hands.look(path)?)
        && is_unmoved(&now.key, &before)
    {
        hands.witness.published(path, entry, now.key);
    }
    Ok(())
}

fn look_staged(hands: &Hands<'_, '_>, staged: &Name, path: &TreePath) -> Result<Option<StatKey>, PublishError> {
    let look = hands.plan.stage.dir.look(staged);
    Ok(look.map_err(|e| hands.plan.failed("look at the content of", path, e))?.map(|look| look.key))
}

fn links(hands: &mut Hands<'_, '_>, turn: &Turn) -> Result<(), PublishError> {
    let Change { path, new: Some(Entry { body: Body::Link { target }, meta, .. }), .. } = &turn.change else {
        return Ok(());
    };
    if turn.moved != Moved::Apart || is_metadata_only(&turn.change) {
        return Ok(());
    }
    let staged = own_name(&format!("link.{}", turn.number));
    let stage = &hands.plan.stage.dir;
    hands.plan.step("stage", path)?;
    let made = stage.make_link(&staged, target).and_then(|()| stage.set_meta(&staged, meta, Found::Link));
    made.map_err(|e| hands.plan.failed("make", path, e))?;
    hands.put(&staged, &turn.change)?;
    count_put(hands, &turn.change);
    Ok(())
}

fn count_put(hands: &mut Hands<'_, '_>, change: &Change) {
    match change.old {
        None => hands.stats.created += 1,
        Some(_) => hands.stats.replaced += 1,
    }
}

fn removals(hands: &mut Hands<'_, '_>, turn: &Turn) -> Result<(), PublishError> {
    if turn.change.new.is_some() {
        return Ok(());
    }
    hands.remove(&turn.change)
}

/// Sets what the phases before have left: metadata alone, and that of directories when all below them is done.
fn metadata(hands: &mut Hands<'_, '_>) -> Result<(), PublishError> {
    let mut pending = Pending::default();
    for turn in turns(hands.plan, &hands.prepared.moves) {
        let Turn { change, moved, .. } = turn?;
        while let Some((path, meta)) = pending.leave(Some(&change.path)) {
            directory_metadata(hands, &path, &meta)?;
        }
        let Some(entry) = &change.new else { continue };
        match (&entry.body, &moved) {
            (Body::File { .. }, Moved::Within(from)) => vouch_moved(hands, from, &change.path, entry)?,
            (_, Moved::Within(_)) => {}
            (Body::Directory { .. }, _) => {
                pending.enter(&change.path);
                pending.wait(entry.meta);
            }
            _ if is_metadata_only(&change) => metadata_only(hands, &change, entry)?,
            _ => {}
        }
    }
    while let Some((path, meta)) = pending.leave(None) {
        directory_metadata(hands, &path, &meta)?;
    }
    top_metadata(hands)
}

fn directory_metadata(hands: &mut Hands<'_, '_>, path: &TreePath, meta: &Meta) -> Result<(), PublishError> {
    match hands.look(path)? {
        Some(look) if look.found != Found::Directory => hands.stats.unexpected += 1,
        Some(look) if look.meta != *meta => {
            hands.touch(path);
            hands.set_meta(path, meta, Found::Directory)?;
        }
        Some(_) => {}
        None => hands.stats.unexpected += 1,
    }
    Ok(())
}

fn top_metadata(hands: &mut Hands<'_, '_>) -> Result<(), PublishError> {
    let (target, top) = (hands.plan.target, TreePath::top());
    let failed = |e| hands.plan.failed("set the metadata of", &top, e);
    if target.look_self().map_err(failed)?.meta != hands.plan.top {
        hands.touch(&top);
        hands.plan.step("set the metadata of", &top)?;
        target.set_meta_self(&hands.plan.top).map_err(|e| hands.plan.failed("set the metadata of", &top, e))?;
    }
    Ok(())
}

/// A file that came with its directory: its key is the one it had.
fn vouch_moved(hands: &mut Hands<'_, '_>, from: &TreePath, path: &TreePath, entry: &Entry) -> Result<(), PublishError> {
    let key = hands.look(path)?.map(|look| look.key);
    match (key, (hands.plan.known)(from)) {
        (Some(key), Some(known)) if key == known => hands.witness.published(path, entry, key),
        _ => hands.stats.unexpected += 1,
    }
    Ok(())
}

fn metadata_only(hands: &mut Hands<'_, '_>, change: &Change, entry: &Entry) -> Result<(), PublishError> {
    let found = if matches!(entry.body, Body::File { .. }) { Found::File } else { Found::Link };
    let (path, known) = (&change.path, (hands.plan.known)(&change.path));
    let Some(look) = hands.look(path)?.filter(|look| look.found == found) else {
        hands.stats.unexpected += 1;
        return Ok(());
    };
    // What several names share was replaced before, unless the second name is younger than that.
    if found == Found::File && (look.links > 1 || known.is_some_and(|known| known != look.key)) {
        hands.stats.unexpected += u64::from(look.meta != entry.meta);
        return Ok(());
    }
    if look.meta != entry.meta {
        hands.touch_parent(path);
        hands.set_meta(path, &entry.meta, found)?;
        hands.stats.metadata += 1;
    }
    if found == Found::File
        && known.is_some()
        && let Some(now) = hands.look(path)?
        && (now.key.inode, now.key.device, now.key.size) == (look.key.inode, look.key.device, look.key.size)
    {
        hands.witness.published(path, entry, now.key);
    }
    Ok(())
}

/// Whether a change leaves content and target as they are.
fn is_metadata_only(change: &Change) -> bool {
    match (change.old.as_ref().map(|entry| &entry.body), change.new.as_ref().map(|entry| &entry.body)) {
        (Some(Body::File { id: old, .. }), Some(Body::File { id: new, .. })) => old == new,
        (Some(Body::Link { target: old }), Some(Body::Link { target: new })) => old == new,
        _ => false,
    }
}
