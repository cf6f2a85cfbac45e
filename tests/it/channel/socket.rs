//! Channels on real sockets of this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mirra::net::{Channel, ChannelError, Listener, Message, Params, accept, connect};
use mirra::protocol::connection::Priority;
use mirra::protocol::error::{ProtocolError, Rule, close};
use mirra::protocol::hello::Hello;
use mirra::protocol::limits::{HANDSHAKES_PER_ADDRESS_MAX, SEND_QUEUE_MARK, STREAMS_MAX};
use mirra::protocol::noise::SecretKey;
use mirra::protocol::preface::{PREFACE, REJECT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::max_body;

const PATIENCE: Duration = Duration::from_secs(20);

fn params(key: u8) -> Params {
    Params {
        key: SecretKey::from_bytes([key; 32]),
        hello: Hello { features: vec![1, u16::from(key)], ..Hello::default() },
        max_body,
        check: Arc::new(|_| true),
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Both ends of a channel.
async fn pair() -> (Channel, Channel) {
    let (socket, address) = listen().await;
    let answer = async {
        let (io, _) = socket.accept().await.unwrap();
        accept(io, &params(3)).await.unwrap()
    };
    let own = params(2);
    let (ours, theirs) = tokio::join!(connect(address, &own, PATIENCE), answer);
    (ours.unwrap(), theirs)
}

fn message(tag: u8, body: &[u8]) -> Message {
    Message { tag, body: body.to_vec() }
}

#[tokio::test]
async fn streams_and_control_carry_messages_both_ways() {
    let (ours, theirs) = pair().await;
    assert_eq!(ours.agreed().features, [1]);
    assert_eq!(ours.handshake_hash(), theirs.handshake_hash());
    assert_eq!(theirs.peer().key, SecretKey::from_bytes([2; 32]).public());

    let stream = ours.open(Priority::Live);
    stream.send(1, b"ask".to_vec()).await.unwrap();
    stream.finish().unwrap();
    let asked = theirs.accept_stream().await.unwrap();
    assert_eq!(asked.recv().await.unwrap(), Some(message(1, b"ask")));
    assert_eq!(asked.recv().await.unwrap(), None);
    asked.send(2, b"answer".to_vec()).await.unwrap();
    asked.finish().unwrap();
    assert_eq!(stream.recv().await.unwrap(), Some(message(2, b"answer")));
    assert_eq!(stream.recv().await.unwrap(), None);

    ours.send_control(3, b"news".to_vec()).await.unwrap();
    assert_eq!(theirs.recv_control().await.unwrap(), message(3, b"news"));

    let (sent, received) = (ours.wire().0, theirs.wire().1);
    assert_eq!(sent, received);
    assert!(ours.handshake_bytes().0 < sent);
    assert_eq!(ours.handshake_bytes().0, theirs.handshake_bytes().1);
}

#[tokio::test]
async fn dropping_everything_closes_in_order_after_what_is_queued() {
    let (ours, theirs) = pair().await;
    let stream = ours.open(Priority::Bulk);
    stream.send(1, vec![7; 3_000_000]).await.unwrap();
    stream.finish().unwrap();
    drop((stream, ours));
    let stream = theirs.accept_stream().await.unwrap();
    assert_eq!(stream.recv().await.unwrap(), Some(message(1, &[7; 3_000_000])));
    assert_eq!(stream.recv().await.unwrap(), None);
    assert!(matches!(theirs.closed().await, ChannelError::Closed { code: close::DONE }));
    assert!(theirs.accept_stream().await.is_none());
}

#[tokio::test]
async fn close_gives_its_code_to_all_who_wait() {
    let (ours, theirs) = pair().await;
    let stream = ours.open(Priority::Bulk);
    stream.send(1, Vec::new()).await.unwrap();
    let waiting = tokio::spawn(async move { stream.recv().await });
    theirs.accept_stream().await.unwrap().recv().await.unwrap();
    theirs.close(close::SHUTDOWN);
    // The stream of the peer was dropped before: either end may be seen first.
    let ended = waiting.await.unwrap();
    assert!(matches!(ended, Err(ChannelError::Reset { .. } | ChannelError::Closed { .. })), "{ended:?}");
    assert!(matches!(ours.closed().await, ChannelError::Closed { code: close::SHUTDOWN }));
    assert!(matches!(ours.send_control(1, vec![]).await, Err(ChannelError::Closed { .. })));
}

#[tokio::test]
async fn dropped_stream_is_reset_and_its_slot_is_free_again() {
    let (ours, theirs) = pair().await;
    for _ in 0..3 * STREAMS_MAX {
        let stream = ours.open(Priority::Bulk);
        stream.send(1, b"never mind".to_vec()).await.unwrap();
        let got = theirs.accept_stream().await.unwrap();
        drop(stream);
        while got.recv().await.is_ok_and(|message| message.is_some()) {}
        assert!(matches!(got.recv().await, Err(ChannelError::Reset { code: 1 })));
    }
}

#[tokio::test]
async fn more_streams_than_allowed_wait_for_their_turn() {
    let (ours, theirs) = pair().await;
    let server = tokio::spawn(async move {
        for _ in 0..3 * STREAMS_MAX {
            let stream = theirs.accept_stream().await.unwrap();
            let asked = stream.recv().await.unwrap().unwrap();
            stream.send(2, asked.body).await.unwrap();
            stream.finish().unwrap();
            assert_eq!(stream.recv().await.unwrap(), None);
        }
        theirs
    });
    let clients: Vec<_> = (0..3 * STREAMS_MAX as u32)
        .map(|n| {
            let stream = ours.open(Priority::Live);
            tokio::spawn(async move {
                stream.send(1, n.to_be_bytes().to_vec()).await.unwrap();
                stream.finish().unwrap();
                let answer = stream.recv().await.unwrap().unwrap();
                assert_eq!(answer.body, n.to_be_bytes());
                assert_eq!(stream.recv().await.unwrap(), None);
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    server.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_threads_move_much_and_wait_when_the_other_side_does() {
    let (ours, theirs) = pair().await;
    let (size, count) = (1_000_000, 40);
    let sender = std::thread::spawn(move || {
        let stream = ours.open(Priority::Bulk);
        for n in 0..count {
            stream.blocking_send(1, vec![n; size]).unwrap();
            assert!(stream.pending() <= SEND_QUEUE_MARK + size + 5);
        }
        stream.finish().unwrap();
        assert_eq!(stream.blocking_recv().unwrap(), None);
        ours.wire().0
    });
    let stream = theirs.accept_stream().await.unwrap();
    let receiver = std::thread::spawn(move || {
        for n in 0..count {
            let message = stream.blocking_recv().unwrap().unwrap();
            assert!(message.body.len() == size && message.body.iter().all(|byte| *byte == n));
        }
        assert_eq!(stream.blocking_recv().unwrap(), None);
        stream.finish()
    });
    let joined = tokio::task::spawn_blocking(move || (sender.join(), receiver.join())).await;
    let (sent, received) = joined.unwrap();
    received.unwrap().unwrap();
    let overhead = sent.unwrap() as f64 / (size as f64 * f64::from(count));
    assert!(overhead < 1.005, "{overhead}");
}

#[tokio::test]
async fn every_preface_bit_counts() {
    let (socket, address) = listen().await;
    for bit in 0..64 {
        let mut preface = PREFACE;
        preface[bit / 8] ^= 1 << (bit % 8);
        let client = async {
            let mut io = TcpStream::connect(address).await.unwrap();
            // Message 1 follows at once, as an honest initiator sends it.
            let first = [&preface[..], &[0, 32], &[9; 32]].concat();
            io.write_all(&first).await.unwrap();
            let mut answer = Vec::new();
            let ended = io.read_to_end(&mut answer).await.map(|_| answer);
            drop(io);
            ended
        };
        let server = async {
            let (io, _) = socket.accept().await.unwrap();
            accept(io, &params(3)).await.map(|_| ())
        };
        let (answer, result) = tokio::join!(client, server);
        let Err(ChannelError::Protocol(error)) = result else { panic!("bit {bit}: {result:?}") };
        if bit / 8 == 5 {
            let theirs = preface[5];
            assert_eq!(error, ProtocolError::PeerIncompatible { theirs });
            assert_eq!(answer.unwrap(), REJECT);
        } else {
            assert_eq!(error, ProtocolError::PeerMisbehaved { rule: Rule::Preface });
            // Closed with input unread: the end may come as a reset, but never with a byte.
            assert_eq!(answer.unwrap_or_default(), b"");
        }
    }
}

#[tokio::test]
async fn refused_version_is_reported_and_not_retried() {
    let (socket, address) = listen().await;
    let server = async {
        let (mut io, _) = socket.accept().await.unwrap();
        io.write_all(b"mirra\x09\xff\xff").await.unwrap();
        io
    };
    let params = params(2);
    let (result, _io) = tokio::join!(connect(address, &params, PATIENCE), server);
    let error = result.map(|_| ()).unwrap_err();
    let expected = ProtocolError::PeerIncompatible { theirs: 9 };
    assert!(matches!(error, ChannelError::Protocol(error) if error == expected));
    let again = tokio::time::timeout(Duration::from_millis(1), socket.accept()).await;
    assert!(again.is_err());
}

#[tokio::test]
async fn wrong_identity_learns_nothing_of_the_initiator() {
    let (socket, address) = listen().await;
    let picky = Params { check: Arc::new(|peer| peer.key == [0; 32]), ..params(2) };
    let answer = async {
        let (io, _) = socket.accept().await.unwrap();
        accept(io, &params(3)).await.map(|_| ())
    };
    let (ours, theirs) = tokio::join!(connect(address, &picky, PATIENCE), answer);
    let error = ours.map(|_| ()).unwrap_err();
    let expected = ProtocolError::PeerMisbehaved { rule: Rule::Identity };
    assert!(matches!(error, ChannelError::Protocol(error) if error == expected));
    let error = theirs.unwrap_err();
    assert!(matches!(error, ChannelError::Protocol(ProtocolError::Truncated)), "{error:?}");
}

#[tokio::test]
async fn oversized_handshake_messages_are_cut_off_unread() {
    let (socket, address) = listen().await;
    for length in [0u16, 31, 33, 2049, 65_535] {
        let mut io = TcpStream::connect(address).await.unwrap();
        let (answering, _) = socket.accept().await.unwrap();
        io.write_all(&PREFACE).await.unwrap();
        io.write_all(&length.to_be_bytes()).await.unwrap();
        let error = accept(answering, &params(3)).await.map(|_| ()).unwrap_err();
        let expected = ProtocolError::PeerMisbehaved { rule: Rule::HandshakeLength };
        assert!(matches!(error, ChannelError::Protocol(error) if error == expected));
    }
}

/// Carries bytes between a client and a server, then cuts both off.
async fn cut_after(socket: TcpListener, server: SocketAddr, bytes: usize) {
    let (mut client, _) = socket.accept().await.unwrap();
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut down, mut up) = (vec![0; 4096], vec![0; 4096]);
    let mut left = bytes;
    while left > 0 {
        tokio::select! {
            count = client.read(&mut up) => {
                let count = count.unwrap().min(left);
                server.write_all(&up[..count]).await.unwrap();
                left -= count;
            }
            count = server.read(&mut down) => {
                client.write_all(&down[..count.unwrap()]).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn cut_line_is_truncation_and_never_a_short_success() {
    for bytes in [300, 1000, 5000, 40_000] {
        let (socket, address) = listen().await;
        let (middle, dialled) = listen().await;
        tokio::spawn(cut_after(middle, address, bytes));
        let client = tokio::spawn(async move {
            let channel = connect(dialled, &params(2), PATIENCE).await.unwrap();
            let stream = channel.open(Priority::Bulk);
            stream.send(1, vec![1; 100_000]).await?;
            stream.finish()?;
            stream.recv().await.map(|_| ())
        });
        let (io, _) = socket.accept().await.unwrap();
        let server = accept(io, &params(3)).await.unwrap();
        let end = server.closed().await;
        assert!(matches!(end, ChannelError::Protocol(ProtocolError::Truncated) | ChannelError::Io(_)), "{end:?}");
        if let Some(stream) = server.accept_stream().await {
            assert!(stream.recv().await.is_err());
        }
        assert!(client.await.unwrap().is_err());
    }
}

#[tokio::test]
async fn panic_in_one_connection_leaves_the_others() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let serving = tokio::spawn(async move {
        let serve = |channel: Channel, _| async move {
            while let Some(stream) = channel.accept_stream().await {
                let message = stream.recv().await.unwrap().unwrap();
                assert_ne!(message.body, b"die");
                stream.send(1, message.body).await.unwrap();
                stream.finish().unwrap();
            }
        };
        listener.run(params(3), serve).await;
    });
    let good = connect(address, &params(4), PATIENCE).await.unwrap();
    let bad = connect(address, &params(5), PATIENCE).await.unwrap();
    let ask = async |channel: &Channel, body: &[u8]| {
        let stream = channel.open(Priority::Live);
        stream.send(1, body.to_vec()).await?;
        stream.recv().await
    };
    assert_eq!(ask(&good, b"one").await.unwrap(), Some(message(1, b"one")));
    assert!(ask(&bad, b"die").await.is_err());
    assert_eq!(ask(&good, b"two").await.unwrap(), Some(message(1, b"two")));
    let later = connect(address, &params(6), PATIENCE).await.unwrap();
    assert_eq!(ask(&later, b"three").await.unwrap(), Some(message(1, b"three")));
    serving.abort();
}

#[tokio::test]
async fn stalled_handshakes_of_one_address_are_capped() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let serving = tokio::spawn(async move {
        listener.run(params(3), |_, _| async {}).await;
    });
    let mut stalled = Vec::new();
    for _ in 0..HANDSHAKES_PER_ADDRESS_MAX {
        stalled.push(TcpStream::connect(address).await.unwrap());
    }
    let mut refused = TcpStream::connect(address).await.unwrap();
    assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);
    let mut first = stalled.swap_remove(0);
    first.write_all(b"not a preface").await.unwrap();
    let mut rest = Vec::new();
    // The listener closes with input unread, so the end may come as a reset.
    let _ = first.read_to_end(&mut rest).await;
    let channel = connect(address, &params(2), PATIENCE).await.unwrap();
    assert!(matches!(channel.closed().await, ChannelError::Closed { .. }));
    serving.abort();
}
