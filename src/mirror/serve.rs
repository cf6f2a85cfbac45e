//! Answering peers: each stream a receiver opens is one request. Most are answered on a thread of their own; one that
//! follows waits long and costs none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;

use super::catalog::Catalog;
use super::serve_follow::follow;
use crate::net::{Channel, ChannelError, Stream};
use crate::protocol::effort::{Backlog, Controller};
use crate::protocol::error::reset;
use crate::protocol::message::{Message, refusal, tag};
use crate::protocol::sender::{Answer, Output};

/// Requests that are answered at the same time, over all connections; further ones wait their turn.
const ANSWERS_MAX: usize = 128;
/// Answers that pack content with what went before as its history at the same time: that takes some 20 MB each. Others
/// pack each batch by itself.
const HISTORIES_MAX: usize = 16;
/// Requests of one connection that are answered at the same time: nobody can keep all others waiting.
const ANSWERS_EACH_MAX: usize = 16;

/// What all connections share.
#[derive(Debug, Clone)]
pub struct Room {
    answers: Arc<Semaphore>,
    histories: Arc<Semaphore>,
    queue: Arc<AtomicU64>,
}

impl Default for Room {
    fn default() -> Self {
        let [answers, histories] = [ANSWERS_MAX, HISTORIES_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Self { answers, histories, queue: Arc::default() }
    }
}

impl Room {
    /// Requests that wait for a free hand.
    #[must_use]
    pub fn queue(&self) -> u64 {
        self.queue.load(Ordering::Relaxed)
    }
}

/// A request that is counted as waiting until this is dropped.
struct Waiting(Arc<AtomicU64>);

impl Waiting {
    fn new(queue: &Arc<AtomicU64>) -> Self {
        queue.fetch_add(1, Ordering::Relaxed);
        Self(queue.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a peer until its connection ends.
pub async fn serve(channel: Channel, catalog: Arc<Catalog>, room: Room) {
    let own = Arc::new(Semaphore::new(ANSWERS_EACH_MAX));
    while let Some(stream) = channel.accept_stream().await {
        let (catalog, room, own) = (catalog.clone(), room.clone(), own.clone());
        tokio::spawn(async move {
            if let Err(error) = begin(stream, catalog, room, own).await {
                tracing::debug!(%error, "a request was not answered to its end");
            }
        });
    }
}

async fn begin(stream: Stream, catalog: Arc<Catalog>, room: Room, own: Arc<Semaphore>) -> Result<(), ChannelError> {
    let Some(request) = stream.recv().await? else { return Ok(()) };
    let request = Message { tag: request.tag, body: request.body };
    if request.tag == tag::FOLLOW {
        return follow(stream, &catalog, &request).await;
    }
    let waiting = Waiting::new(&room.queue);
    // Its own turn first: who waits for that holds nothing that others need.
    let (Ok(own), Ok(place)) = (own.acquire_owned().await, room.answers.acquire_owned().await) else { return Ok(()) };
    drop(waiting);
    let answered = tokio::task::spawn_blocking(move || {
        let content = request.tag == tag::CONTENT;
        let history = if content { room.histories.try_acquire_owned().ok() } else { None };
        let answered = answer(&catalog, &stream, &request, history.is_some());
        drop((own, place, history));
        answered
    });
    answered.await.unwrap_or(Err(ChannelError::Lost))
}

/// Answers one request; with `history`, batches may have those before them as theirs.
fn answer(catalog: &Arc<Catalog>, stream: &Stream, request: &Message, history: bool) -> Result<(), ChannelError> {
    let library = match catalog.library() {
        Ok(library) => library.bound(stream.handshake_hash()),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the index fails");
            stream.reset(reset::APPLICATION + refusal::INTERNAL);
            return Ok(());
        }
    };
    let mut answer = Answer::start(&library, request);
    let mut controller = Controller::new(catalog.compress(), history);
    let begun = Instant::now();
    let backlog = || Backlog { bytes: stream.pending(), held: stream.is_held(), at: begun.elapsed() };
    loop {
        answer.set_effort(controller.next(backlog()));
        let before = answer.literals();
        let output = answer.next_output();
        match output {
            Output::Message(message) => {
                controller.made(answer.literals() - before, message.body.len(), backlog());
                stream.blocking_send(message.tag, message.body)?;
            }
            Output::Wait => answer.handle(receive(stream)?.as_ref()),
            Output::Done => return stream.finish(),
        }
    }
}

fn receive(stream: &Stream) -> Result<Option<Message>, ChannelError> {
    Ok(stream.blocking_recv()?.map(|message| Message { tag: message.tag, body: message.body }))
}
