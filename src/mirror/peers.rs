//! Connections to the mirras that are followed: one for each, whatever the number of modules.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex as Turn;

use super::dial::dial;
use super::failure::Failure;
use super::monitor::Monitor;
use crate::net::{Channel, WeakChannel};
use crate::tree::address::Host;

/// Modules that share one connection: each needs a stream for its news and some for its content, and the number of
/// streams is bounded.
const SHARED_BY: usize = 24;
/// How often a wait looks whether the operator wants to stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// The connections that are open.
pub(super) struct Peers {
    runtime: Handle,
    hosts: Mutex<HashMap<Host, Arc<Turn<Vec<Shared>>>>>,
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
    /// [`Failure`] of the call, or when the operator wants to stop.
    pub(super) fn channel(&self, host: &Host, timeout: Duration, monitor: &dyn Monitor) -> Result<Used, Failure> {
        let open = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.retain(|_, open| Arc::strong_count(open) > 1 || !forget_closed(open));
            hosts.entry(host.clone()).or_default().clone()
        };
        self.runtime.block_on(async {
            let call = call(&open, host, timeout);
            tokio::pin!(call);
            loop {
                match tokio::time::timeout(LOOK_UP, &mut call).await {
                    Ok(used) => return used,
                    Err(_) if monitor.cancelled() => return Err(Failure::interrupted()),
                    Err(_) => {}
                }
            }
        })
    }
}

/// One of the connections that are `open` and have room, or a new one.
async fn call(open: &Turn<Vec<Shared>>, host: &Host, timeout: Duration) -> Result<Used, Failure> {
    let mut open = open.lock().await;
    open.retain(|shared| shared.channel.upgrade().is_some());
    for shared in open.iter() {
        if let (Some(channel), Some(user)) = (shared.channel.upgrade(), shared.users.upgrade())
            && Arc::strong_count(&user) <= SHARED_BY
        {
            return Ok(Used { channel, _user: user });
        }
    }
    let channel = dial(host, timeout).await?;
    let user = Arc::new(());
    open.push(Shared { channel: channel.downgrade(), users: Arc::downgrade(&user) });
    Ok(Used { channel, _user: user })
}

/// Drops what is closed; says whether nothing is left. Connections that someone waits for stay.
fn forget_closed(open: &Turn<Vec<Shared>>) -> bool {
    open.try_lock().is_ok_and(|mut open| {
        open.retain(|shared| shared.channel.upgrade().is_some());
        open.is_empty()
    })
}
