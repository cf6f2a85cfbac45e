//! Which process carries out a command: the daemon that owns the home, or this one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client;
use crate::disk::home::{Home, HomeError};
use crate::mirror::command::{Command, Execute};
use crate::mirror::failure::Failure;
use crate::mirror::monitor::{Monitor, Phase};
use crate::mirror::report::Report;

/// How often a busy home is tried again.
const AGAIN: Duration = Duration::from_millis(25);

/// Carries out `command` for `home`: through the daemon if one answers, else here, once the home is free; after `wait`
/// in vain it is busy. `open` makes what carries it out here.
///
/// # Errors
/// [`Failure`], the same whichever process did the work.
pub fn perform<E: Execute>(
    home: &Arc<Home>,
    command: &Command,
    wait: Duration,
    monitor: &dyn Monitor,
    open: impl FnOnce(Arc<Home>) -> Result<E, Failure>,
) -> Result<Report, Failure> {
    let began = Instant::now();
    let mut waiting = false;
    loop {
        let busy = match home.lock() {
            Ok(_lock) => return open(home.clone())?.execute(command, monitor),
            Err(busy @ HomeError::Busy { .. }) => busy,
            Err(other) => return Err(other.into()),
        };
        if client::answers(home) {
            return client::carry_out(home, command, monitor);
        }
        if monitor.cancelled() {
            return Err(Failure::interrupted());
        }
        if began.elapsed() >= wait {
            return Err(busy.into());
        }
        if !waiting {
            waiting = true;
            monitor.phase(Phase::Waiting);
        }
        std::thread::sleep(AGAIN.min(wait));
    }
}
