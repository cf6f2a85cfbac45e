//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second does not wait for it.

use std::sync::mpsc;

use mirra::{Exit, Failure, Stop};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Turns the signals into `stop`. They are heard when this returns.
pub(crate) fn listen(stop: &Stop) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::local("cannot listen for signals", &e);
    let stop = stop.clone();
    let (tell, told) = mpsc::channel();
    let body = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(e) => return drop(tell.send(Err(e))),
        };
        runtime.block_on(async {
            let (mut interrupt, mut terminate) = match both() {
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

fn both() -> std::io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
}
