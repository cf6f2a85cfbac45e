//! Sockets: the handshake and the records of [`crate::protocol`] on TCP.
//!
//! A [`Channel`] is one connection to a peer; [`Stream`]s on it carry messages both ways. One
//! task per connection moves the bytes; handles are cheap, may be shared between tasks, and have
//! blocking forms for threads that are not part of the runtime. The room knows the protocol and
//! nothing of trees, disks or what the messages mean.

mod bind;
mod blocking;
mod channel;
mod driver;
mod error;
mod gate;
mod handshake;
mod listen;
mod stream;

pub use bind::{attach, bind};
pub use channel::{Channel, WeakChannel, accept, connect};
pub use error::ChannelError;
pub use handshake::{Check, Params, Peer};
pub use listen::Listener;
pub use stream::{Message, Stream};
