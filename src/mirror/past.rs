//! How much of a module's past is kept: the last heads with their pages, so that a node that was at one of them is
//! brought up to date by the difference.

use super::dial::chain;
use crate::disk::index::heads::HeadState;
use crate::disk::index::{Index, IndexError, ModuleNumber};

/// Heads whose pages are kept at least.
const HEADS_MIN: u32 = 16;
/// Milliseconds for which those of every head are kept, as far as they are not more than [`HEADS_MAX`].
const HEADS_KEPT_MS: u64 = 7 * 24 * 3_600_000;
/// Heads whose pages are kept at most, of a module that changes all the time.
const HEADS_MAX: u32 = 1_024;
/// Heads beyond those that gather before they are dropped: to collect their pages means to look at every page, so it is
/// done once for many.
const HEADS_SPARE: u32 = 256;

/// Drops old heads once there are many, and the pages that only they needed; `now` in Unix milliseconds. Collection waits
/// for a quiet moment: if something is being built, a later call does it.
///
/// # Errors
/// [`IndexError`].
pub(super) fn forget_old(index: &Index, module: ModuleNumber, now: u64) -> Result<(), IndexError> {
    let reader = index.reader()?;
    let heads = reader.count_heads(module, 0)?;
    // A sequence is never below the milliseconds at which its head was made.
    let recent = reader.count_heads(module, now.saturating_sub(HEADS_KEPT_MS))?;
    drop(reader);
    let keep = recent.clamp(HEADS_MIN, HEADS_MAX);
    if heads > keep + HEADS_SPARE {
        let mut batch = index.batch()?;
        batch.prune_heads(module, keep)?;
        batch.commit()?;
    } else if !index.collection_waits() {
        return Ok(());
    }
    let reader = index.reader()?;
    let mut kept = Vec::new();
    for (number, _) in reader.modules()? {
        if let Some(part) = reader.part(number)? {
            // Of its heads not everything is held.
            kept.push(part.tree.id);
            continue;
        }
        kept.extend(reader.last_heads(number, HeadState::Published, u32::MAX)?.iter().map(|head| head.snapshot));
    }
    drop(reader);
    match index.collect(&kept) {
        Ok(_) => Ok(()),
        // Nothing was removed: what is there is kept until the next time.
        Err(error) => {
            tracing::debug!(error = %chain(&error), "old pages are not collected");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
