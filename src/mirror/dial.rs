//! Calling another mirra, and saying in three lines why that failed.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use crate::net::{Channel, ChannelError, Params, connect};
use crate::protocol::error::{ProtocolError, Timer};
use crate::protocol::hello::Hello;
use crate::protocol::message::{Message, Refused, body_max, refusal, tag};
use crate::protocol::noise::SecretKey;
use crate::tree::address::Host;
use crate::tree::codec::decode;

/// What both sides of a channel say of themselves when they have nothing to say.
fn hello(certificate: Option<Vec<u8>>) -> Hello {
    Hello { certificate, ..Hello::default() }
}

/// How this mirra answers: with its channel key and the certificate over it.
#[must_use]
pub fn answering(key: &[u8; 32], certificate: Vec<u8>) -> Params {
    let key = SecretKey::from_bytes(*key);
    Params { key, hello: hello(Some(certificate)), max_body: body_max, check: Arc::new(|_| true) }
}

/// How an unknown client calls: with a key made for this connection alone.
fn anonymous() -> Result<Params, Failure> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut()).map_err(|e| {
        Failure::new(Exit::Other, "cannot make a key", e.to_string(), "run it on a system that has getrandom(2)")
    })?;
    let key = SecretKey::from_bytes(*key);
    Ok(Params { key, hello: hello(None), max_body: body_max, check: Arc::new(|_| true) })
}

/// Calls `host`, at each of its addresses in turn, within `timeout` each.
///
/// # Errors
/// [`Failure`] with exit 5 or 30.
pub async fn dial(host: &Host, timeout: Duration) -> Result<Channel, Failure> {
    let name = (host.host.clone(), host.port);
    let found =
        tokio::task::spawn_blocking(move || (name.0.as_str(), name.1).to_socket_addrs().map(Vec::from_iter)).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) if !addresses.is_empty() => addresses,
        Ok(Err(e)) => return Err(unreachable(host, &e.to_string())),
        _ => return Err(unreachable(host, "it has no address")),
    };
    let mut last = None;
    for address in addresses {
        match connect(address, &anonymous()?, timeout).await {
            Ok(channel) => return Ok(channel),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| unreachable(host, "it has no address"), |error| not_connected(host, &error)))
}

fn unreachable(host: &Host, why: &str) -> Failure {
    let fix = "check its name and port, that mirra runs there, and that no firewall is between";
    Failure::new(Exit::Connect, format!("cannot reach {host}"), why, fix)
}

fn not_connected(host: &Host, error: &ChannelError) -> Failure {
    match error {
        ChannelError::Connect { source, .. } => unreachable(host, &source.to_string()),
        ChannelError::Protocol(ProtocolError::TimedOut { .. }) => {
            let fix = "try again, or give it longer with --timeout; check that the port is mirra's";
            Failure::new(Exit::Timeout, format!("cannot reach {host}"), "it did not answer in time", fix)
        }
        ChannelError::Protocol(ProtocolError::PeerIncompatible { theirs }) => Failure::new(
            Exit::Connect,
            format!("cannot talk to {host}"),
            format!("it speaks version {theirs} of the protocol, this mirra another"),
            "update the older of the two",
        ),
        other => {
            let fix = "check that the port is mirra's and not that of another program";
            Failure::new(Exit::Connect, format!("cannot talk to {host}"), chain(other), fix)
        }
    }
}

/// What to say when a connection that stood has failed.
#[must_use]
pub fn lost(host: &Host, error: &ChannelError) -> Failure {
    let (exit, fix) = match error {
        ChannelError::Protocol(ProtocolError::PeerMisbehaved { .. } | ProtocolError::Tampered) => (
            Exit::Connect,
            "the other end or something on the way breaks the protocol: update mirra there, or use another source",
        ),
        ChannelError::Protocol(ProtocolError::TimedOut { timer: Timer::Silence | Timer::Drain | Timer::Credit }) => {
            (Exit::Timeout, "run the same command again: it goes on where it stopped")
        }
        _ => (Exit::Network, "run the same command again: it goes on where it stopped"),
    };
    Failure::new(exit, format!("the connection to {host} failed"), chain(error), fix)
}

/// What to say when the other end refuses a request.
#[must_use]
pub fn refused(host: &Host, module: &str, message: &Message) -> Failure {
    let code = decode::<Refused>("refusal", &message.body).map_or(0, |refused| refused.0);
    let (exit, why, fix) = match code {
        refusal::NO_MODULE => (
            Exit::NoModule,
            format!("{host} has no module \"{module}\""),
            format!("mirra ls {host} lists the modules it has"),
        ),
        refusal::NO_SNAPSHOT => (
            Exit::Network,
            format!("\"{module}\" has no snapshot there yet"),
            "wait until its first snapshot is published".to_owned(),
        ),
        refusal::NO_HEAD => (
            Exit::Network,
            "the snapshot is no longer held there".to_owned(),
            "run the same command again: it takes the newest one".to_owned(),
        ),
        refusal::PARTIAL => return not_in_part(host, module),
        _ => (
            Exit::Network,
            format!("{host} refused a request with code {code}"),
            "its log says more; update mirra there and here".to_owned(),
        ),
    };
    Failure::new(exit, format!("cannot get {module} from {host}"), why, fix)
}

/// What to say when the other end has only a part of a module, and what is wanted is not in it.
#[must_use]
pub fn not_in_part(host: &Host, module: &str) -> Failure {
    Failure::new(
        Exit::Partial,
        format!("cannot get all of {module} from {host}"),
        format!("{host} mirrors {module} in part, and not all that is wanted here is in its part"),
        format!(
            "sync it from the root, or from a mirra that has all of it; or take no more than {host} does: --exclude"
        ),
    )
}

/// What to say when the other end sends something that no mirra sends.
#[must_use]
pub fn nonsense(host: &Host, why: &dyn std::error::Error) -> Failure {
    let fix = "use another source; if it is your own, update mirra there and run mirra publish";
    Failure::new(Exit::Trust, format!("{host} sent what cannot be right"), chain(why), fix)
}

/// What to say when it answers with a message that does not belong there.
#[must_use]
pub fn unexpected(host: &Host, module: &str, message: &Message) -> Failure {
    if message.tag == tag::REFUSED {
        return refused(host, module, message);
    }
    let why = crate::tree::codec::Malformed::Rule { what: "answer", rule: "a message of another kind came" };
    nonsense(host, &why)
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}
