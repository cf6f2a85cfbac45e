//! What another mirra has, asked without a home.

use std::time::Duration;

use super::dial::nonsense;
use super::failure::Failure;
use super::line::Line;
use super::monitor::{Monitor, Phase};
use super::report::{Listing, RemoteModule, Report};
use crate::protocol::limits::MODULES_MAX;
use crate::protocol::message::{List, Message, Module, Partial, tag};
use crate::tree::address::Host;
use crate::tree::codec::{Malformed, bounded, decode};
use crate::tree::hash::{Authority, authority_text};
use crate::tree::signed::{Envelope, Head, check_module_name};

/// The modules of the mirra at `host`. What is listed is that mirra's word; it is verified when a module is synced.
///
/// # Errors
/// [`Failure`].
pub fn list(host: &Host, timeout: Duration, monitor: &dyn Monitor) -> Result<Report, Failure> {
    monitor.phase(Phase::Connecting);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::local("cannot start threads", &e))?;
    let line = Line::open(runtime.handle(), host, "", timeout)?;
    let exchange = line.ask(Message::new(tag::LIST, &List(())))?;
    exchange.finish()?;
    let mut modules: Vec<RemoteModule> = Vec::new();
    while let Some(message) = exchange.receive(monitor)? {
        if message.tag == tag::PARTIAL {
            let Partial(name) = decode("partial", &message.body).map_err(|e| nonsense(host, &e))?;
            // It is said of the module before it, and once.
            match modules.last_mut().filter(|last| last.module == name && !last.partial) {
                Some(last) => last.partial = true,
                None => return Err(nonsense(host, &Malformed::Rule { what: "partial", rule: "is not its place" })),
            }
            continue;
        }
        if message.tag != tag::MODULE {
            return Err(line.unexpected(&message));
        }
        modules.push(read(&message.body).map_err(|e| nonsense(host, &e))?);
        bounded("modules", modules.len() as u64, MODULES_MAX as u64).map_err(|e| nonsense(host, &e))?;
    }
    drop(exchange);
    line.close();
    runtime.shutdown_background();
    modules.sort_by(|a, b| a.module.cmp(&b.module));
    Ok(Report::Listing(Listing { host: host.to_string(), modules }))
}

fn read(body: &[u8]) -> Result<RemoteModule, Malformed> {
    let module: Module = decode("module", body)?;
    check_module_name(&module.name)?;
    bounded("title", module.title.len() as u64, crate::protocol::limits::TITLE_MAX as u64)?;
    let key = Authority::of(Envelope::decode(&module.root)?.payload());
    let mut line =
        RemoteModule { module: module.name, title: module.title, key: authority_text(&key), ..RemoteModule::default() };
    if let Some(bytes) = &module.head {
        let head: Head = Envelope::decode(bytes)?.unverified()?;
        (line.entries, line.bytes) = (head.entries, head.bytes);
        (line.sequence, line.created_ms) = (head.sequence, head.created);
    }
    Ok(line)
}
