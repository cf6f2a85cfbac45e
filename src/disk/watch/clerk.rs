//! What the thread of `notify` calls for each event, and what it does about a batch that costs too much.
//!
//! Two things `notify` does not let be chosen. It asks the system to tell of every opening as well; that ends in
//! `signs`. And after a batch of events it compares the path of each directory that went with all that are watched: five
//! thousand of twenty thousand are a hundred million comparisons, during which it neither reads nor answers. To watch
//! everything anew takes less, so from a certain number on that is done.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use notify::event::{ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventHandler, EventKind};

use super::errand::{Answer, Slot};
use super::signs::{Inbox, Notice, notice, path_in_tree};

/// Takes the events.
pub(super) struct Clerk {
    top: PathBuf,
    inbox: Arc<Inbox>,
    slot: Slot,
    answers: Sender<Answer>,
    /// Held for its end.
    _alive: Sender<()>,
    toll: Toll,
    /// All of it is given up: what comes now is nobody's.
    is_over: bool,
}

impl Clerk {
    /// Puts what happens in the tree at `top` into `inbox`. `alive` is dropped when the thread has ended.
    pub(super) fn new(top: PathBuf, inbox: Arc<Inbox>, slot: Slot, answers: Sender<Answer>, alive: Sender<()>) -> Self {
        Self { top, inbox, slot, answers, _alive: alive, toll: Toll::default(), is_over: false }
    }

    fn file(&self, event: &notify::Result<Event>) {
        match event.as_ref().map(notice) {
            Ok(Notice::Nothing) => {}
            Ok(Notice::Sign(sign)) => {
                let paths = event.iter().flat_map(|event| &event.paths);
                paths.filter_map(|path| path_in_tree(&self.top, path)).for_each(|path| self.inbox.put(path, sign));
            }
            Ok(Notice::Lost) | Err(_) => self.inbox.lose(),
        }
    }

    /// Ends this thread before it turns to its batch, and gives back what it holds. Not while somebody waits for its
    /// answer, who would panic: then it works the batch off, for nobody.
    fn leave(&self) {
        if let Some(mut slot) = self.slot.try_lock().ok().filter(|_| cfg!(panic = "unwind")) {
            // It sends to this thread, and panics when that has ended.
            drop(slot.take());
            drop(slot);
            resume_unwind(Box::new("given up"));
        }
    }
}

impl EventHandler for Clerk {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        if self.is_over {
            return self.leave();
        }
        self.file(&event);
        let halves = event.as_ref().map_or(0, halves);
        if halves == 0 {
            return;
        }
        let watched = self.inbox.watched();
        self.inbox.note_work(
            COMPARISON.saturating_mul(u32::try_from(watched.saturating_mul(halves) / 2).unwrap_or(u32::MAX)),
        );
        if self.toll.add(Instant::now(), halves, watched) {
            self.is_over = true;
            self.inbox.give_up();
            // One that has been closed meanwhile does not care.
            let _ = self.answers.send(Answer::GivenUp);
            self.leave();
        }
    }
}

impl Drop for Clerk {
    /// Should the thread end by itself, the keeper learns of it.
    fn drop(&mut self) {
        if !self.is_over {
            self.inbox.lose();
        }
    }
}

/// How much of a directory that went an event is: of one that is removed its parent tells as well as itself. A move of
/// which something tells itself, and so has no partner, is that of a directory.
fn halves(event: &Event) -> usize {
    match event.kind {
        EventKind::Remove(RemoveKind::Folder) => 1,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) if event.tracker().is_none() => 2,
        _ => 0,
    }
}

/// Directories that may go in a [`SPAN`] whatever is watched.
const GONE_MAX: usize = 256;
/// Comparisons of paths that may then be due: about a second's.
const COMPARISONS_MAX: usize = 4 * 1024 * 1024;
/// The time of one, rather more than less.
const COMPARISON: Duration = Duration::from_nanos(300);
/// Longer than it takes to read a batch.
const SPAN: Duration = Duration::from_secs(1);

/// What the directories cost that went.
#[derive(Debug, Default)]
struct Toll {
    since: Option<Instant>,
    halves: usize,
}

impl Toll {
    /// Whether it is too much.
    fn add(&mut self, now: Instant, halves: usize, watched: usize) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) > SPAN) {
            *self = Self { since: Some(now), halves: 0 };
        }
        self.halves = self.halves.saturating_add(halves);
        let gone = self.halves / 2;
        gone > GONE_MAX && gone.saturating_mul(watched) > COMPARISONS_MAX
    }
}

#[cfg(test)]
mod tests {
    use notify::event::CreateKind;

    use super::*;

    #[test]
    fn only_directories_that_go_count() {
        let moved = || Event::new(EventKind::Modify(ModifyKind::Name(RenameMode::From)));
        let table = [
            (Event::new(EventKind::Remove(RemoveKind::Folder)), 1),
            (Event::new(EventKind::Remove(RemoveKind::File)), 0),
            (moved(), 2),
            (moved().set_tracker(7), 0),
            (Event::new(EventKind::Create(CreateKind::Folder)), 0),
        ];
        for (event, wanted) in table {
            assert_eq!(halves(&event), wanted, "{event:?}");
        }
    }

    #[test]
    fn many_of_many_at_once_are_too_much() {
        let begin = Instant::now();
        // How many go, one each so many milliseconds, before it is too much.
        let endured = |watched, every: u64| {
            let mut toll = Toll::default();
            (0..20_000u64).position(|n| toll.add(begin + Duration::from_millis(n * every), 2, watched))
        };
        assert_eq!(endured(1_000_000, 0), Some(GONE_MAX));
        assert_eq!(endured(4_096, 0), Some(1_024));
        assert_eq!(endured(100, 0), None);
        assert_eq!(endured(1_000_000, 5), None);
    }
}
