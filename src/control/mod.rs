//! The local interface of a daemon, and the choice that every command makes: through it, or in its own process.
//!
//! [`server`] answers HTTP and JSON on `.mirra/control.sock`, also for `curl --unix-socket`; [`jobs`] is what it runs;
//! [`client`] is how the program asks; [`mod@perform`] and [`daemon`] decide which process does the work.

pub mod client;
pub mod daemon;
pub mod jobs;
pub mod perform;
pub mod server;

/// The socket's name in `.mirra`.
const SOCKET: &str = "control.sock";
