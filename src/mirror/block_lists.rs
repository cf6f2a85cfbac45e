//! The block lists that a root keeps of its files, and of what they held: made as files are read, bounded after each
//! publication, gone when the owner wants none.

use std::sync::Arc;

use super::catalog::Catalog;
use super::failure::{Exit, Failure};
use super::take_tree::index_failure;
use crate::delta::rabin::Rabin;
use crate::disk::index::blocks::lists_bytes_max;
use crate::disk::index::{Index, ModuleNumber};

/// What the lists of this index are made with. Its secret is drawn when it is first wanted.
///
/// # Errors
/// [`Failure`] of the index, or of a system without random numbers.
pub(super) fn hashing(catalog: &Catalog, index: &Index) -> Result<Arc<Rabin>, Failure> {
    if let Some(known) = catalog.block_hashing().map_err(index_failure)? {
        return Ok(known);
    }
    let mut drawn = [0; 32];
    getrandom::fill(&mut drawn).map_err(|e| {
        let fix = "run it on a system that has getrandom(2)";
        Failure::new(Exit::Other, "cannot draw a secret for block lists", e.to_string(), fix)
    })?;
    Ok(Arc::new(Rabin::new(&index.set_block_secret(&drawn).map_err(index_failure)?)))
}

/// Removes what is beyond the bound of a module that has `bytes`, or all lists if none are `wanted`.
///
/// # Errors
/// [`Failure`] of the index.
pub(super) fn bound(index: &Index, module: ModuleNumber, bytes: u64, wanted: bool) -> Result<(), Failure> {
    let bounded = match wanted {
        true => index.trim_block_lists(module, lists_bytes_max(bytes)),
        false => index.drop_block_lists(module),
    };
    bounded.map_err(index_failure)
}
