//! temporary
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use super::gate::Gate;
use crate::disk::scan::Depth;
use crate::disk::watch::Hint;
use crate::tree::name::TreePath;
pub struct Gathering { w: BTreeSet<TreePath> }
pub struct Ready { pub paths: BTreeMap<TreePath, Depth>, pub all: bool }
impl Gathering {
    pub fn new(_: Gate) -> Self { Self { w: BTreeSet::new() } }
    pub fn hint(&mut self, _: Hint, _: Duration) {}
    pub fn due(&self) -> Option<Duration> { None }
    pub fn take(&mut self, _: Duration) -> Option<Ready> { None }
    pub fn put_back(&mut self, _: Ready, _: Duration) {}
    pub fn writing(&self) -> &BTreeSet<TreePath> { &self.w }
}
