//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second does not wait for it. A daemon outlives the
//! terminal that started it.

use std::sync::mpsc;

use mirra::{Exit, Failure, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Turns the signals into `stop`. They are heard when this returns. What SIGHUP does is left as it was found: `nohup`
/// has its say.
pub(crate) fn listen(stop: &Stop) -> Result<(), Failure> {
    begin(stop, false)
}

/// As [`listen`], for a daemon: SIGHUP does nothing, as changes of the config are seen without it.
pub(crate) fn listen_through_hangup(stop: &Stop) -> Result<(), Failure> {
    begin(stop, true)
}

fn begin(stop: &Stop, through_hangup: bool) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::local("cannot listen for signals", &e);
    let stop = stop.clone();
    let (tell, told) = mpsc::channel();
    let body = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return drop(tell.send(Err(e))),
        };
        runtime.block_on(async {
            let (mut interrupt, mut terminate, _hangup) = match all(through_hangup) {
                Ok(signals) => signals,
                Err(e) => return drop(tell.send(Err(e))),
            };
            drop(tell.send(Ok(())));
            for first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if first {
                    stop.request();
                } else {
                    std::process::exit(i32::from(Exit::Interrupted.code()));
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(body).map_err(failed)?;
    told.recv().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())).map_err(failed)
}

/// What is caught from here on, whether or not somebody waits for it.
fn all(hangup: bool) -> std::io::Result<(Signal, Signal, Option<Signal>)> {
    let hangup = hangup.then(|| signal(SignalKind::hangup())).transpose()?;
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, hangup))
}
