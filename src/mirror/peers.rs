//! Connections to the mirras that are followed: one for each, whatever the number of modules.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;

use super::dial::dial;
use super::failure::Failure;
use crate::net::{Channel, WeakChannel};
use crate::tree::address::Host;

/// Modules that share one connection: each needs a stream for its news and some for its content, and the number of
/// streams is bounded.
const SHARED_BY: usize = 24;

/// The connections that are open.
pub(super) struct Peers {
    runtime: Handle,
    hosts: Mutex<HashMap<Host, Arc<Mutex<Vec<Shared>>>>>,
}

/// A connection and who uses it.
struct Shared {
    channel: WeakChannel,
    users: std::sync::Weak<()>,
}

/// A connection that is used. It closes when nobody uses it any more.
pub(super) struct Used {
    pub(super) channel: Channel,
    /// Counts the users.
    _user: Arc<()>,
}

impl Peers {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, hosts: Mutex::default() }
    }

    /// A connection to `host`: one that is open, or a new one. Who asks meanwhile waits for it.
    ///
    /// # Errors
    /// [`Failure`] of the call.
    pub(super) fn channel(&self, host: &Host, timeout: Duration) -> Result<Used, Failure> {
        let open = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.retain(|_, open| Arc::strong_count(open) > 1 || !forget_closed(open));
            hosts.entry(host.clone()).or_default().clone()
        };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|shared| shared.channel.upgrade().is_some());
        for shared in open.iter() {
            if let (Some(channel), Some(user)) = (shared.channel.upgrade(), shared.users.upgrade())
                && Arc::strong_count(&user) <= SHARED_BY
            {
                return Ok(Used { channel, _user: user });
            }
        }
        let channel = self.runtime.block_on(dial(host, timeout))?;
        let user = Arc::new(());
        open.push(Shared { channel: channel.downgrade(), users: Arc::downgrade(&user) });
        Ok(Used { channel, _user: user })
    }
}

/// Drops what is closed; says whether nothing is left.
fn forget_closed(open: &Mutex<Vec<Shared>>) -> bool {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(|shared| shared.channel.upgrade().is_some());
    open.is_empty()
}
