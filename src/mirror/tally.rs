//! What went over a line and what for, so that every byte of the socket is accounted for.

use std::sync::atomic::{AtomicU64, Ordering};

use super::report::{Traffic, Wire};
use crate::protocol::message::{Message, tag};

/// Bytes of messages by what they are for, both ways.
#[derive(Default)]
pub(super) struct Tally {
    sent: Parts,
    received: Parts,
}

/// Bytes of messages, headers included.
#[derive(Default)]
struct Parts {
    news: AtomicU64,
    tree: AtomicU64,
    lists: AtomicU64,
    blocks: AtomicU64,
    content: AtomicU64,
}

impl Parts {
    fn add(&self, message: &Message) {
        let part = match message.tag {
            tag::TREE | tag::CHANGES | tag::BASE_UNKNOWN | tag::DESCEND | tag::PAGES | tag::WANT | tag::REST => {
                &self.tree
            }
            tag::LISTS | tag::PATHS | tag::CHUNKS => &self.lists,
            tag::LOOK | tag::BLOCKS | tag::FILES => &self.blocks,
            tag::CONTENT | tag::LEAVES | tag::BATCH => &self.content,
            _ => &self.news,
        };
        part.fetch_add(message.wire_len() as u64, Ordering::Relaxed);
    }

    fn get(&self) -> [u64; 5] {
        [&self.news, &self.tree, &self.lists, &self.blocks, &self.content].map(|part| part.load(Ordering::Relaxed))
    }
}

impl Tally {
    /// Counts what was sent.
    pub(super) fn sent(&self, message: &Message) {
        self.sent.add(message);
    }

    /// Counts what was received.
    pub(super) fn received(&self, message: &Message) {
        self.received.add(message);
    }

    /// Where so many bytes of the socket went: what is no message is overhead.
    pub(super) fn wire(&self, sent: u64, received: u64) -> Wire {
        let (out, back) = (self.sent.get(), self.received.get());
        let part =
            |n: usize| Traffic { sent: out.get(n).copied().unwrap_or(0), received: back.get(n).copied().unwrap_or(0) };
        let overhead = Traffic {
            sent: sent.saturating_sub(out.iter().sum()),
            received: received.saturating_sub(back.iter().sum()),
        };
        Wire { news: part(0), tree: part(1), lists: part(2), blocks: part(3), content: part(4), overhead }
    }
}
