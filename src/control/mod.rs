//! The local interface of a daemon, and the choice that every command makes: through it, or in its own process.
//!
//! [`server`] answers HTTP and JSON on `.mirra/control.sock`, also for `curl --unix-socket`; [`jobs`] is what it runs;
//! [`client`] is how the program asks; [`mod@perform`] and [`daemon`] decide which process does the work. What programs
//! watch a daemon by is in [`watched`], its [`metrics`] among it; the server has it, and [`loopback`].

pub mod client;
pub mod daemon;
pub mod jobs;
pub mod loopback;
pub mod metrics;
pub mod perform;
pub mod server;
pub mod watched;

/// The socket's name in `.mirra`.
const SOCKET: &str = "control.sock";
