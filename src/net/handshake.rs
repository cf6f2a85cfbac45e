//! The handshake on a socket: preface, three messages, and nothing said to who fails it.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::ChannelError;
use crate::protocol::connection::MaxBody;
use crate::protocol::error::{ProtocolError, Rule};
use crate::protocol::hello::Hello;
use crate::protocol::limits::{MESSAGE_1_LEN, MESSAGE_2_MAX, MESSAGE_3_MAX};
use crate::protocol::noise::{Initiator, NoiseError, PublicKey, Responder, SecretKey, Transport};
use crate::protocol::preface::{
    PREFACE, PREFACE_LEN, REJECT, begins_reject, check_preface, framed, message_length, read_reject,
};

/// Judges a peer before anything is told to it that only friends may know.
///
/// An initiator asks it between messages 2 and 3, a responder after message 3.
pub type Check = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Who this side is, and what it speaks.
#[derive(Clone)]
pub struct Params {
    /// The static key; for clients without identity one made for this connection alone.
    pub key: SecretKey,
    /// What this side states in the handshake.
    pub hello: Hello,
    /// The bound on message bodies by tag.
    pub max_body: MaxBody,
    /// Whom to speak with.
    pub check: Check,
}

/// Who the other side has proved to be, and what it stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its static key.
    pub key: PublicKey,
    /// Its statement.
    pub hello: Hello,
}

/// What a finished handshake gives.
pub(super) struct Established {
    pub(super) transport: Transport,
    pub(super) peer: Peer,
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// A socket that counts.
struct Wire<'a, S> {
    io: &'a mut S,
    sent: u64,
    received: u64,
}

/// The dialling side.
pub(super) async fn initiate<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    params: &Params,
) -> Result<Established, ChannelError> {
    let hello = own_hello(params)?;
    let mut wire = Wire { io, sent: 0, received: 0 };
    let start = <Initiator<_>>::new(&PREFACE, params.key.clone(), fresh_secret()?);
    let mut first = Vec::with_capacity(MESSAGE_1_LEN);
    let await_second = start.write_first(&[], &mut first)?;
    wire.write(&[&PREFACE, &framed(&first)]).await?;

    let field = wire.read::<2>().await?;
    if begins_reject(field) {
        let [a, b] = field;
        let [c, d, e, f, g, h] = wire.read::<{ PREFACE_LEN - 2 }>().await?;
        return Err(read_reject(&[a, b, c, d, e, f, g, h]).into());
    }
    let second = wire.read_message(field, 1, MESSAGE_2_MAX).await?;
    let (send_third, payload) = await_second.read_second(&second)?;
    let peer = judge(params, *send_third.remote_key(), &payload)?;

    let mut third = Vec::with_capacity(MESSAGE_3_MAX);
    let transport = send_third.write_third(&hello, &mut third)?;
    wire.write(&[&framed(&third)]).await?;
    Ok(Established { transport, peer, sent: wire.sent, received: wire.received })
}

/// The answering side.
pub(super) async fn respond<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    params: &Params,
) -> Result<Established, ChannelError> {
    let hello = own_hello(params)?;
    let mut wire = Wire { io, sent: 0, received: 0 };
    let preface = wire.read::<PREFACE_LEN>().await?;
    if let Err(error) = check_preface(&preface) {
        if matches!(error, ProtocolError::PeerIncompatible { .. }) {
            wire.refuse().await?;
        }
        return Err(error.into());
    }
    let field = wire.read::<2>().await?;
    let first = wire.read_message(field, MESSAGE_1_LEN, MESSAGE_1_LEN).await?;
    let start = <Responder<_>>::new(&PREFACE, params.key.clone(), fresh_secret()?);
    let (send_second, _) = start.read_first(&first)?;
    let mut second = Vec::with_capacity(MESSAGE_2_MAX);
    let await_third = send_second.write_second(&hello, &mut second)?;
    wire.write(&[&framed(&second)]).await?;

    let field = wire.read::<2>().await?;
    let third = wire.read_message(field, 1, MESSAGE_3_MAX).await?;
    let (transport, payload) = await_third.read_third(&third)?;
    let peer = judge(params, transport.remote_key, &payload)?;
    Ok(Established { transport, peer, sent: wire.sent, received: wire.received })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<'_, S> {
    async fn write(&mut self, parts: &[&[u8]]) -> Result<(), ChannelError> {
        let bytes = parts.concat();
        self.io.write_all(&bytes).await.map_err(ChannelError::io)?;
        self.io.flush().await.map_err(ChannelError::io)?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// Answers a version that is not spoken. What the peer has sent behind it is read, for a
    /// socket that is closed with unread input takes its last words back.
    async fn refuse(&mut self) -> Result<(), ChannelError> {
        self.write(&[&REJECT]).await?;
        self.io.shutdown().await.map_err(ChannelError::io)?;
        let mut scrap = [0; MESSAGE_3_MAX];
        // However this ends, the refusal is what counts.
        let _ = self.io.read_exact(&mut scrap).await;
        Ok(())
    }

    async fn read<const N: usize>(&mut self) -> Result<[u8; N], ChannelError> {
        let mut bytes = [0; N];
        self.io.read_exact(&mut bytes).await.map_err(ChannelError::io)?;
        self.received += N as u64;
        Ok(bytes)
    }

    /// Reads a handshake message whose length field has been read; no more is allocated than
    /// the bound of the message.
    async fn read_message(&mut self, field: [u8; 2], min: usize, max: usize) -> Result<Vec<u8>, ChannelError> {
        let length = message_length(field, min..=max)?;
        let mut message = vec![0; length];
        self.io.read_exact(&mut message).await.map_err(ChannelError::io)?;
        self.received += length as u64;
        Ok(message)
    }
}

fn judge(params: &Params, key: PublicKey, payload: &[u8]) -> Result<Peer, ChannelError> {
    let hello = Hello::decode(payload).map_err(|_| ProtocolError::from(Rule::Hello))?;
    let peer = Peer { key, hello };
    if (params.check)(&peer) { Ok(peer) } else { Err(ProtocolError::from(Rule::Identity).into()) }
}

fn own_hello(params: &Params) -> Result<Vec<u8>, ChannelError> {
    if params.hello.fits() { Ok(params.hello.encode()) } else { Err(ChannelError::HelloTooLong) }
}

fn fresh_secret() -> Result<[u8; 32], ChannelError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| ChannelError::Random)?;
    Ok(bytes)
}

impl From<NoiseError> for ChannelError {
    fn from(error: NoiseError) -> Self {
        ProtocolError::from(error).into()
    }
}
