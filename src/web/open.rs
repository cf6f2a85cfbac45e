//! Opening the web: which port, and what to say when there is none.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::listen::{Bounds, run};
use super::serve::Web;
use crate::mirror::config::{Server, WEB_PORT};
use crate::mirror::front::Front;
use crate::net::{attach, bind};

/// The port that is taken where the usual one cannot be.
pub const SPARE_PORT: u16 = 8080;

/// What became of the web.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// The operator wants none.
    Off,
    /// It is here.
    At(SocketAddr),
    /// It is here, because the usual port cannot be had.
    Instead {
        /// Here.
        at: SocketAddr,
        /// Why not there.
        why: String,
        /// How it comes there.
        fix: String,
    },
    /// It is nowhere; all else works.
    Nowhere {
        /// Where it should be.
        address: SocketAddr,
        /// Why it is not.
        why: String,
        /// What mends it.
        fix: String,
    },
}

/// Opens the web of `front` at `address`, or where `server` says, or at the usual port.
#[must_use]
pub fn open(front: Front, server: &Server, address: Option<SocketAddr>) -> Opened {
    let set = server.web_port.map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    let bounds = Bounds::new(server.trusted_proxies.clone());
    let start = |address: SocketAddr| -> io::Result<SocketAddr> {
        let listener = bind(address)?;
        let (runtime, at) = (front.runtime(), listener.local_addr()?);
        let socket = attach(listener, &runtime)?;
        let web = Arc::new(Web::new(front.clone(), server.trusted_proxies.clone()));
        runtime
            .spawn(run(socket, bounds.clone(), front.visits(), move |peer, request| web.clone().serve(peer, request)));
        Ok(at)
    };
    let nowhere =
        |address, error: &io::Error| Opened::Nowhere { address, why: reason(error), fix: remedy(error).to_owned() };
    if !server.web && address.is_none() {
        return Opened::Off;
    }
    if let Some(address) = address.or(server.web_listen).or(set) {
        return start(address).map_or_else(|error| nowhere(address, &error), Opened::At);
    }
    let [usual, spare] = [WEB_PORT, SPARE_PORT].map(|port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    match start(usual) {
        Ok(at) => Opened::At(at),
        Err(first) => match start(spare) {
            Ok(at) => {
                let fix =
                    format!("{}; web_port = {SPARE_PORT} in .mirra/Mirra.toml keeps it where it is", remedy(&first));
                Opened::Instead { at, why: reason(&first), fix }
            }
            Err(second) => nowhere(spare, &second),
        },
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program has this port".to_owned(),
        io::ErrorKind::PermissionDenied => "only the superuser may take a port below 1024".to_owned(),
        _ => error.to_string(),
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "setcap cap_net_bind_service=+ep on the program allows it",
        io::ErrorKind::AddrInUse => "end the other program, or name another port: --web-listen ADDR:PORT",
        _ => "name an address of this machine: --web-listen ADDR, or web_listen in .mirra/Mirra.toml",
    }
}
