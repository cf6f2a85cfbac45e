//! Answering peers: each stream a receiver opens is one request, answered on a thread of its own.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::catalog::Catalog;
use crate::net::{Channel, ChannelError, Stream};
use crate::protocol::error::reset;
use crate::protocol::message::{Message, refusal};
use crate::protocol::sender::{Answer, Output};

/// Requests that are answered at the same time, over all connections; further ones wait their turn.
pub const ANSWERS_MAX: usize = 128;

/// Answers a peer until its connection ends.
pub async fn serve(channel: Channel, catalog: Arc<Catalog>, answers: Arc<Semaphore>) {
    while let Some(stream) = channel.accept_stream().await {
        let Ok(place) = answers.clone().acquire_owned().await else { return };
        let catalog = catalog.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = answer(&catalog, &stream) {
                tracing::debug!(%error, "a request was not answered to its end");
            }
            drop(place);
        });
    }
}

/// Answers one request.
fn answer(catalog: &Arc<Catalog>, stream: &Stream) -> Result<(), ChannelError> {
    let Some(request) = receive(stream)? else { return Ok(()) };
    let library = match catalog.library() {
        Ok(library) => library,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the index fails");
            stream.reset(reset::APPLICATION + refusal::INTERNAL);
            return Ok(());
        }
    };
    let mut answer = Answer::start(&library, &request);
    loop {
        match answer.next_output() {
            Output::Message(message) => stream.blocking_send(message.tag, message.body)?,
            Output::Wait => answer.handle(receive(stream)?.as_ref()),
            Output::Done => return stream.finish(),
        }
    }
}

fn receive(stream: &Stream) -> Result<Option<Message>, ChannelError> {
    Ok(stream.blocking_recv()?.map(|message| Message { tag: message.tag, body: message.body }))
}
