//! Taking a port.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::Handle;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens at `address`. All IPv6 addresses mean all IPv4 ones too, and only those where the system has no IPv6.
///
/// # Errors
/// As `bind(2)` and `listen(2)`.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let open = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    match open(address) {
        Err(e) if no_ipv6(&e) && address.ip().is_unspecified() && address.is_ipv6() => {
            open((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        other => other,
    }
}

/// Lets `runtime` serve what is [bound](bind).
///
/// # Errors
/// As `fcntl(2)` and `epoll_ctl(2)`.
pub fn attach(listener: TcpListener, runtime: &Handle) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    let _inside = runtime.enter();
    tokio::net::TcpListener::from_std(listener)
}

fn no_ipv6(error: &io::Error) -> bool {
    let codes = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| codes.contains(&rustix::io::Errno::from_raw_os_error(code)))
}
