//! One stream of a channel, as the application holds it.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::blocking::wait_for;
use super::channel::{Handle, Inner, Shared};
use super::error::ChannelError;
use crate::protocol::connection::{Priority, SendError, StreamId};
use crate::protocol::error::reset;
use crate::protocol::limits::SEND_QUEUE_MARK;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub tag: u8,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Messages both ways between this side and the peer.
///
/// Dropping a stream that is not finished resets it; dropping a finished one still sends what is
/// queued, and lets go what comes.
pub struct Stream {
    handle: Arc<Handle>,
    id: OnceLock<StreamId>,
    priority: Priority,
    waiters: Arc<Waiters>,
}

/// Those who wait on a stream.
#[derive(Default)]
pub(super) struct Waiters {
    received: Notify,
    drained: Notify,
}

/// What has come for a stream and is not taken.
#[derive(Default)]
pub(super) struct Inbox {
    messages: VecDeque<Message>,
    end: Option<InboxEnd>,
    waiters: Arc<Waiters>,
    /// Nobody will take anything.
    detached: bool,
}

#[derive(Clone, Copy)]
enum InboxEnd {
    Finished,
    Reset(u16),
}

impl Stream {
    pub(super) fn new(handle: Arc<Handle>, priority: Priority) -> Self {
        Self { handle, id: OnceLock::new(), priority, waiters: Arc::default() }
    }

    pub(super) fn accepted(handle: Arc<Handle>, id: StreamId, waiters: Arc<Waiters>) -> Self {
        Self { handle, id: OnceLock::from(id), priority: Priority::Bulk, waiters }
    }

    /// The stream's number; `None` until the first message of a new stream is sent.
    pub fn id(&self) -> Option<StreamId> {
        self.id.get().copied()
    }

    /// Waits for the next message; `None` when the peer has finished.
    pub async fn recv(&self) -> Result<Option<Message>, ChannelError> {
        loop {
            let notified = self.waiters.received.notified();
            {
                let shared = self.shared();
                let mut inner = shared.lock();
                let taken = self.take(&mut inner);
                shared.nudge(&inner);
                if let Some(result) = taken {
                    return result;
                }
            }
            notified.await;
        }
    }

    /// Sends a message; waits while much is queued already, and on a new stream while as many
    /// as allowed are open.
    pub async fn send(&self, tag: u8, body: Vec<u8>) -> Result<(), ChannelError> {
        let mut body = Some(body);
        loop {
            let drained = self.waiters.drained.notified();
            let slot = self.shared().slots.notified();
            let new = {
                let shared = self.shared();
                let mut inner = shared.lock();
                let done = self.try_send(&mut inner, tag, &mut body)?;
                shared.nudge(&inner);
                if done {
                    return Ok(());
                }
                self.id.get().is_none()
            };
            if new {
                slot.await;
            } else {
                drained.await;
            }
        }
    }

    /// As [`Stream::recv`], for a thread outside the runtime.
    pub fn blocking_recv(&self) -> Result<Option<Message>, ChannelError> {
        wait_for(self.recv())
    }

    /// As [`Stream::send`], for a thread outside the runtime.
    pub fn blocking_send(&self, tag: u8, body: Vec<u8>) -> Result<(), ChannelError> {
        wait_for(self.send(tag, body))
    }

    /// Says that nothing more will be sent; what is queued still goes out.
    pub fn finish(&self) -> Result<(), ChannelError> {
        let shared = self.shared();
        let mut inner = shared.lock();
        if let Some(end) = &inner.end {
            return Err(end.clone());
        }
        let id = self.id().ok_or(SendError::NoStream)?;
        inner.connection.finish(id)?;
        shared.nudge(&inner);
        Ok(())
    }

    /// Ends both directions at once, with a reason from [`reset`].
    pub fn reset(&self, code: u16) {
        if let Some(id) = self.id() {
            let shared = self.shared();
            let mut inner = shared.lock();
            discard(&mut inner, id, true);
            inner.connection.reset(id, code);
            self.waiters.wake();
            shared.slots.notify_waiters();
            shared.nudge(&inner);
        }
    }

    /// Sets how urgent what is sent from here on is.
    pub fn set_priority(&mut self, priority: Priority) {
        self.priority = priority;
        if let Some(id) = self.id() {
            self.shared().lock().connection.set_priority(id, priority);
        }
    }

    /// The hash of the handshake of its channel: the same at both ends, and of no other channel.
    pub fn handshake_hash(&self) -> &[u8] {
        &self.shared().facts.handshake_hash
    }

    /// Bytes queued and not yet on their way.
    pub fn pending(&self) -> usize {
        self.id().map_or(0, |id| self.shared().lock().connection.pending(id))
    }

    /// Whether all of that waits for the peer to let more come.
    pub fn is_held(&self) -> bool {
        self.id().is_some_and(|id| self.shared().lock().connection.is_held(id))
    }

    fn shared(&self) -> &Shared {
        &self.handle.0
    }

    /// The next message or the end of them, if there is either.
    fn take(&self, inner: &mut Inner) -> Option<Result<Option<Message>, ChannelError>> {
        if let Some(id) = self.id() {
            let Some(inbox) = inner.inboxes.get_mut(&id) else {
                return Some(Err(SendError::NoStream.into()));
            };
            if let Some(message) = inbox.messages.pop_front() {
                inner.connection.release(id, message.body.len());
                return Some(Ok(Some(message)));
            }
            match inbox.end {
                Some(InboxEnd::Finished) => return Some(Ok(None)),
                Some(InboxEnd::Reset(code)) => return Some(Err(ChannelError::Reset { code })),
                None => {}
            }
        }
        inner.end.clone().map(Err)
    }

    /// Queues the message if there is room, and says whether there was.
    fn try_send(&self, inner: &mut Inner, tag: u8, body: &mut Option<Vec<u8>>) -> Result<bool, ChannelError> {
        if let Some(end) = &inner.end {
            return Err(end.clone());
        }
        let Some(id) = self.id() else {
            if !inner.connection.can_open() {
                return Ok(false);
            }
            let id = inner.connection.open(self.priority, tag, body.take().unwrap_or_default())?;
            let inbox = Inbox { waiters: Arc::clone(&self.waiters), ..Inbox::default() };
            inner.inboxes.insert(id, inbox);
            self.id.get_or_init(|| id);
            return Ok(true);
        };
        if let Some(InboxEnd::Reset(code)) = inner.inboxes.get(&id).and_then(|inbox| inbox.end) {
            return Err(ChannelError::Reset { code });
        }
        if inner.connection.pending(id) >= SEND_QUEUE_MARK {
            inner.waiting.push(id);
            return Ok(false);
        }
        inner.connection.send(id, tag, body.take().unwrap_or_default())?;
        Ok(true)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Some(id) = self.id() else { return };
        let shared = self.shared();
        let mut inner = shared.lock();
        let ended = discard(&mut inner, id, false);
        if !inner.connection.is_finishing(id) {
            inner.connection.reset(id, reset::CANCELLED);
            inner.inboxes.remove(&id);
            shared.slots.notify_waiters();
        } else if ended {
            inner.inboxes.remove(&id);
        }
        shared.nudge(&inner);
    }
}

/// Releases what has come for a stream and says whether it has ended; `gone` removes the inbox,
/// else whatever else comes is let go too.
fn discard(inner: &mut Inner, id: StreamId, gone: bool) -> bool {
    let Some(inbox) = inner.inboxes.get_mut(&id) else {
        return true;
    };
    inbox.detached = true;
    let (messages, ended) = (std::mem::take(&mut inbox.messages), inbox.end.is_some());
    if gone {
        inner.inboxes.remove(&id);
    }
    for message in messages {
        inner.connection.release(id, message.body.len());
    }
    ended
}

impl Waiters {
    fn wake(&self) {
        self.received.notify_waiters();
        self.drained.notify_waiters();
    }
}

impl Inbox {
    pub(super) fn waiters(&self) -> Arc<Waiters> {
        Arc::clone(&self.waiters)
    }

    /// Wakes all who wait on the stream.
    pub(super) fn wake(&self) {
        self.waiters.wake();
    }

    /// Wakes those who wait to send.
    pub(super) fn wake_senders(&self) {
        self.waiters.drained.notify_waiters();
    }

    /// Takes a message in, or gives it back when nobody will take it.
    pub(super) fn put(&mut self, message: Message) -> Option<Message> {
        if self.detached {
            return Some(message);
        }
        self.messages.push_back(message);
        self.waiters.received.notify_waiters();
        None
    }

    /// Notes that the peer has finished; says whether the inbox may be forgotten.
    pub(super) fn finish(&mut self) -> bool {
        self.end = Some(InboxEnd::Finished);
        self.wake();
        self.detached
    }

    /// Notes that the peer has reset the stream; gives what nobody will read.
    pub(super) fn reset(&mut self, code: u16) -> (VecDeque<Message>, bool) {
        self.end = Some(InboxEnd::Reset(code));
        self.wake();
        (std::mem::take(&mut self.messages), self.detached)
    }
}
