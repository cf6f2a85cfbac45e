//! What can go wrong with a channel, by where it went wrong.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::protocol::connection::SendError;
use crate::protocol::error::{ProtocolError, Timer};

/// Why a channel or a stream on it gives nothing more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChannelError {
    /// The address could not be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The socket failed.
    #[error("the connection was lost")]
    Io(#[source] Arc<io::Error>),
    /// The peer broke the protocol, speaks another one, or was too slow.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The connection ended in order, by either side.
    #[error("the connection was closed with code {code}")]
    Closed {
        /// The reason given.
        code: u16,
    },
    /// The peer ended the stream.
    #[error("the peer reset the stream with code {code}")]
    Reset {
        /// The reason it gave.
        code: u16,
    },
    /// The call cannot be carried out.
    #[error(transparent)]
    Refused(#[from] SendError),
    /// The own hello does not fit a handshake message.
    #[error("the hello does not fit a handshake message")]
    HelloTooLong,
    /// The system gives no random bytes.
    #[error("no random bytes")]
    Random,
    /// The connection's task ended without a word.
    #[error("the connection's task ended")]
    Lost,
}

impl ChannelError {
    pub(super) fn io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ProtocolError::Truncated.into(),
            _ => ChannelError::Io(Arc::new(error)),
        }
    }

    pub(super) fn handshake_timeout() -> Self {
        ProtocolError::TimedOut { timer: Timer::Handshake }.into()
    }
}
