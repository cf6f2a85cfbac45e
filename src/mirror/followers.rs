//! Who follows a module from here, and how far each is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::tree::hash::HeadId;

/// One that follows, as it tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Follower {
    /// What it wants to be called where it is shown; empty if it does not want that.
    pub name: String,
    /// The head that it has published; `None` before the first, or while it takes nothing that is pushed.
    pub at: Option<HeadId>,
}

/// The streams on which news of a module is waited for.
#[derive(Debug, Clone, Default)]
pub struct Followers(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    next: u64,
    /// By when they came.
    open: BTreeMap<u64, Follower>,
}

impl Followers {
    /// Counts one until the place is dropped.
    #[must_use]
    pub fn enter(&self, follower: Follower) -> Place {
        let mut all = self.all();
        let number = all.next;
        all.next += 1;
        all.open.insert(number, follower);
        Place { followers: self.clone(), number }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.all().open.len() as u64
    }

    /// All of them, in the order in which they came.
    #[must_use]
    pub fn list(&self) -> Vec<Follower> {
        self.all().open.values().cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is counted until this is dropped.
#[derive(Debug)]
pub struct Place {
    followers: Followers,
    number: u64,
}

impl Place {
    /// It has published another head.
    pub fn is_at(&self, head: Option<HeadId>) {
        if let Some(follower) = self.followers.all().open.get_mut(&self.number) {
            follower.at = head;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.followers.all().open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_listed_as_long_as_they_are_there() {
        let followers = Followers::default();
        let follower = |name: &str| Follower { name: name.into(), at: None };
        let (one, two) = (followers.enter(follower("one")), followers.enter(follower("two")));
        two.is_at(Some(HeadId::of(b"head")));
        let names: Vec<_> =
            followers.list().into_iter().map(|follower| (follower.name, follower.at.is_some())).collect();
        assert_eq!(names, [("one".to_owned(), false), ("two".to_owned(), true)]);
        drop(one);
        assert_eq!((followers.count(), followers.list()[0].name.as_str()), (1, "two"));
        drop(two);
        assert_eq!(followers.count(), 0);
    }
}
