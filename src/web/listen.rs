//! The door: connections are accepted whatever happens, counted, and watched; each is served on a task of its own, so that
//! what goes wrong with one is no other's matter.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};

use super::caps::{Caps, Place};
use super::limits::{
    ACCEPT_PAUSE, CONNECTIONS_EACH_MAX, CONNECTIONS_MAX, DESCRIPTORS_EACH, HEAD_MAX, HEAD_TIME, HEADERS_MAX, RATE_MIN,
    RATE_TIME, UNSENT,
};
use super::meter::{Metered, Rate};
use super::reply::Answer;
use crate::mirror::proxies::Net;
use crate::mirror::visits::Visits;

/// What is sent to whom there is no place for.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What a connection may take, and how many there may be.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub each: usize,
    /// How long a head may take, idle time before it included.
    pub head_time: Duration,
    /// What a reader takes at least.
    pub rate: Rate,
    /// Who may have more connections than others.
    pub trusted: Vec<Net>,
}

impl Bounds {
    /// Those of [`limits`](super::limits), and what the descriptors of this process allow.
    #[must_use]
    pub fn new(trusted: Vec<Net>) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.and_then(|max| usize::try_from(max).ok());
        let allowed = descriptors.map_or(CONNECTIONS_MAX, |max| max / DESCRIPTORS_EACH);
        Self {
            connections: allowed.clamp(1, CONNECTIONS_MAX),
            each: CONNECTIONS_EACH_MAX,
            head_time: HEAD_TIME,
            rate: Rate { time: RATE_TIME, bytes: RATE_MIN },
            trusted,
        }
    }
}

/// Answers all who come to `socket` by `serve`, for ever; `visits` counts them.
pub async fn run<S, F>(socket: TcpListener, bounds: Bounds, visits: Arc<Visits>, serve: S)
where
    S: Fn(SocketAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Answer, Infallible>> + Send + 'static,
{
    let caps = Arc::new(Caps::new(bounds.connections, bounds.each));
    let mut told = false;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                told = false;
                let trusted = bounds.trusted.iter().any(|net| net.holds(peer.ip()));
                let Some(place) = caps.enter(peer.ip(), trusted) else {
                    visits.turned_away();
                    // A word if it goes out at once; nobody waits for it.
                    let _ = stream.try_write(FULL);
                    continue;
                };
                let visit = Visit::new(visits.clone(), place);
                tokio::spawn(connection(stream, peer, visit, bounds.clone(), serve.clone()));
            }
            Err(error) if is_of_the_visitor(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "the web cannot take a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether a connection went away before it was accepted.
fn is_of_the_visitor(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// A connection that is counted until this is dropped.
struct Visit {
    visits: Arc<Visits>,
    _place: Place,
}

impl Visit {
    fn new(visits: Arc<Visits>, place: Place) -> Self {
        visits.opened();
        Self { visits, _place: place }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.visits.closed();
    }
}

async fn connection<S, F>(stream: TcpStream, peer: SocketAddr, visit: Visit, bounds: Bounds, serve: S)
where
    S: Fn(SocketAddr, Request<Incoming>) -> F + Send + Sync,
    F: Future<Output = Result<Answer, Infallible>> + Send,
{
    tune(&stream);
    let stream = TokioIo::new(Metered::new(stream, bounds.rate, forget));
    // Whether the end of the connection is the end of the answer.
    let ends_answer = AtomicBool::new(false);
    let serve = |request: Request<Incoming>| {
        let has_chunks = request.version() >= Version::HTTP_11;
        let (answer, ends_answer) = (serve(peer, request), &ends_answer);
        async move {
            let answer = answer.await?;
            ends_answer.store(!has_chunks && answer.body().size_hint().exact().is_none(), Relaxed);
            Ok::<_, Infallible>(answer)
        }
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_MAX)
        .max_buf_size(2 * HEAD_MAX)
        // Whoever has asked may close their sending side, and is answered all the same (RFC 9112 section 9.6).
        .half_close(true)
        .serve_connection(stream, service_fn(serve));
    if let Err(error) = (&mut connection).await {
        tracing::debug!(%peer, %error, "a connection was broken off");
        // An answer that breaks off must not look like one that came to its end.
        if ends_answer.load(Relaxed) {
            connection.into_parts().io.into_inner().give_up();
        }
    }
    drop(visit);
}

/// Small answers go out at once, and little waits in the system for a reader that is slow. Where that cannot be set they go
/// out a little later, and more waits.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
}

/// Lets the system drop what waits for a reader that is given up: it would keep that for as long as he takes.
fn forget(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::web::body::{Body, Lanes, Source, Streamed};

    fn bounds() -> Bounds {
        Bounds {
            connections: 3,
            each: 2,
            head_time: Duration::from_millis(300),
            rate: Rate { time: Duration::from_secs(1), bytes: 1024 },
            trusted: Vec::new(),
        }
    }

    /// A server on loopback that answers everything with as many bytes as it is told.
    async fn server(len: usize) -> SocketAddr {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let serve = move |_, _| async move { Ok(Answer::new(Body::Bytes(vec![b'x'; len].into()))) };
        tokio::spawn(run(socket, bounds(), Arc::default(), serve));
        address
    }

    /// All that comes until the other end ends it.
    async fn rest(stream: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
        // A reset ends it as well.
        let _ = read.expect("the connection was not ended");
        bytes
    }

    #[tokio::test]
    async fn a_slow_head_is_cut_however_it_trickles() {
        let address = server(1).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        let (mut reader, mut writer) = stream.split();
        let trickle = async {
            for byte in b"GET / HTTP/1.1\r\nHost: h\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let mut bytes = Vec::new();
        tokio::select! {
            () = trickle => {}
            _ = reader.read_to_end(&mut bytes) => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("not cut"),
        }
        assert!(began.elapsed() >= bounds().head_time);
        assert!(!bytes.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn an_idle_connection_is_ended() {
        let address = server(1).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        assert!(rest(&mut stream).await.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn who_has_asked_may_stop_sending() {
        const LEN: usize = 8 << 20;
        let address = server(LEN).await;
        for (asked, answered) in [
            ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost", false),
            ("", false),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(asked.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = rest(&mut stream).await;
            assert_eq!(answer.starts_with(b"HTTP/1.") && answer.len() > LEN, answered, "{asked:?}: {}", answer.len());
        }
    }

    /// Some bytes, and an error.
    struct Broken(bool);

    impl Source for Broken {
        fn next(&mut self, want: usize) -> io::Result<Option<Vec<u8>>> {
            if std::mem::replace(&mut self.0, true) {
                Err(io::ErrorKind::InvalidData.into())
            } else {
                Ok(Some(vec![b'x'; want]))
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let serve = |_, _| async {
            Ok(Answer::new(Body::Stream(Streamed::new(Box::new(Broken(false)), None, Lanes::default()))))
        };
        tokio::spawn(run(socket, bounds(), Arc::default(), serve));
        for asked in ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(asked.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            let ended = stream.read_to_end(&mut bytes).await;
            assert!(ended.is_err() || !bytes.ends_with(b"0\r\n\r\n") && asked.contains("1.1"), "{asked}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn a_download_may_take_longer_than_a_head() {
        const LEN: usize = 8 << 20;
        let address = server(LEN).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let began = Instant::now();
        let (mut part, mut taken) = (vec![0; 4096], 0);
        // A reader that is slow, and takes enough all the same.
        while began.elapsed() < 2 * bounds().head_time {
            taken += stream.read_exact(&mut part).await.unwrap();
            tokio::time::sleep(bounds().head_time / 8).await;
        }
        taken += rest(&mut stream).await.len();
        assert!(taken > LEN, "{taken} bytes came");
    }

    #[tokio::test]
    async fn a_reader_that_is_given_up_gets_no_more() {
        let address = server(64 << 20).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let sips = async {
            // Twenty bytes a second, of all that its own system keeps for it.
            loop {
                assert_eq!(stream.read(&mut [0]).await.unwrap(), 1);
                if let Some(error) = stream.take_error().unwrap() {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), sips).await.expect("it is cut");
        assert_eq!(ended.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn who_comes_too_often_is_sent_away() {
        let address = server(1).await;
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            assert_ne!(stream.read(&mut [0; 64]).await.unwrap(), 0);
            kept.push(stream);
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(rest(&mut third).await.starts_with(b"HTTP/1.1 503"));
        drop(kept);
        // As soon as the server has noticed that they are gone.
        for _ in 0..200 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
            if rest(&mut stream).await.starts_with(b"HTTP/1.1 200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never taken in again");
    }
}
