//! All drivers through the same seam.

use super::{Ahead, DriverKind, Listener, Sharing, Stream, bind, connect, connect_unix, run, spawn, timeout};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DEADLINE: Option<Duration> = Some(Duration::from_secs(20));

fn loopback() -> (TcpListener, SocketAddr) {
    let socket = bind(([127, 0, 0, 1], 0).into(), Sharing::Workers).expect("loopback can be bound");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

/// Runs `test` on every driver under a deadline.
fn on_all<F: Future<Output = ()>>(test: impl Fn() -> F) {
    for kind in DriverKind::ALL {
        let outcome = run(kind, async { timeout(DEADLINE, test()).await }).expect("the driver starts");
        assert!(outcome.is_ok(), "{kind}: deadline passed");
    }
}

#[test]
fn accepted_connections_arrive() {
    on_all(|| async {
        let (socket, address) = loopback();
        let listener = Listener::new(socket).expect("a listener registers");
        let client = std::thread::spawn(move || TcpStream::connect(address).map(drop));
        let accepted = listener.accept(Ahead::Many).await.expect("accepted");
        assert!(accepted.socket.nodelay().expect("an option"), "inherited");
        let peer = accepted.peer();
        let stream = Stream::accepted(accepted).expect("adopted");
        assert_eq!((stream.peer(), stream.local()), (peer, address));
        client.join().expect("client").expect("connected");
    });
}

#[test]
fn a_port_that_another_socket_has_is_not_free() {
    let (held, address) = loopback();
    assert!(bind(address, Sharing::Nobody).is_err());
    assert!(bind(address, Sharing::Workers).is_ok());
    drop(held);
    assert!(bind(address, Sharing::Nobody).is_ok());
}

#[test]
fn bytes_pass_both_ways_whole() {
    const TOTAL: usize = 3 << 20;
    on_all(|| async {
        let (socket, address) = loopback();
        let echo = std::thread::spawn(move || {
            let (mut peer, _) = socket_blocking(socket).accept().expect("accepted");
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).expect("read");
            peer.write_all(&bytes).expect("written");
        });
        let stream = connect(&[address]).await.expect("connected");
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..TOTAL).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writing = spawn(async move {
            writer.write_all(&sent).await.expect("written");
            writer.shutdown().await.expect("shut down");
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.expect("read");
        writing.await.expect("writer ends");
        assert!(got == expected, "{} of {TOTAL} bytes", got.len());
        echo.join().expect("echo");
    });
}

#[test]
fn what_was_peeked_is_read_again_after_the_consumed_part() {
    on_all(|| async {
        let (socket, address) = loopback();
        let peer = std::thread::spawn(move || {
            let (mut peer, _) = socket_blocking(socket).accept().expect("accepted");
            peer.write_all(b"header|body").expect("written");
        });
        let mut stream = connect(&[address]).await.expect("connected");
        while stream.peeked().len() < 11 {
            assert_ne!(stream.peek().await.expect("peeked"), 0);
        }
        stream.consume(7);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.expect("read");
        assert_eq!(rest, "body");
        peer.join().expect("peer");
    });
}

#[test]
fn a_dropped_stream_still_delivers_what_it_accepted_and_closes() {
    on_all(|| async {
        let (socket, address) = loopback();
        let (done, finished) = tokio::sync::oneshot::channel();
        let peer = std::thread::spawn(move || {
            let (mut peer, _) = socket_blocking(socket).accept().expect("accepted");
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).expect("read to the end");
            let _ = done.send(bytes);
        });
        let mut stream = connect(&[address]).await.expect("connected");
        stream.write_all(b"last words").await.expect("accepted");
        drop(stream);
        assert_eq!(finished.await.expect("peer answers"), b"last words");
        peer.join().expect("peer");
    });
}

#[test]
fn an_idle_read_that_is_dropped_closes_the_descriptor() {
    on_all(|| async {
        let (socket, address) = loopback();
        let (done, finished) = tokio::sync::oneshot::channel();
        let peer = std::thread::spawn(move || {
            let (mut peer, _) = socket_blocking(socket).accept().expect("accepted");
            let _ = done.send(peer.read(&mut [0; 1]).expect("the stream ends"));
        });
        let mut stream = connect(&[address]).await.expect("connected");
        let mut byte = [0; 1];
        let read = timeout(Some(Duration::from_millis(50)), stream.read(&mut byte)).await;
        assert!(read.is_err(), "nothing was sent");
        drop(stream);
        assert_eq!(finished.await.expect("peer answers"), 0);
        peer.join().expect("peer");
    });
}

fn socket_blocking(socket: TcpListener) -> TcpListener {
    socket.set_nonblocking(false).expect("a mode can be set");
    socket
}

#[test]
fn a_task_that_is_aborted_is_dropped_and_says_so() {
    on_all(|| async {
        let (held, gone) = tokio::sync::oneshot::channel::<()>();
        let task = spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        super::turn().await;
        let handle = task.abort_handle();
        handle.abort();
        assert!(gone.await.is_err() && task.await.is_err());
        handle.abort();
    });
}

#[test]
fn a_reset_reaches_the_peer() {
    on_all(|| async {
        let (socket, address) = loopback();
        let peer = std::thread::spawn(move || {
            let (mut peer, _) = socket_blocking(socket).accept().expect("accepted");
            peer.write_all(b"x").expect("written");
            peer.read(&mut [0]).expect_err("a reset, not an end").kind()
        });
        let mut stream = connect(&[address]).await.expect("connected");
        stream.read_exact(&mut [0]).await.expect("read");
        // A receive is in flight on the ring when the connection goes.
        let waiting = timeout(Some(Duration::from_millis(20)), stream.read_u8()).await;
        assert!(waiting.is_err(), "nothing comes");
        stream.reset();
        drop(stream);
        let seen = peer.join().expect("peer");
        assert_eq!(seen, std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_unix_socket_is_a_stream_like_any_other() {
    let path = std::env::temp_dir().join(format!("sallyport-io-{}.sock", std::process::id()));
    on_all(|| async {
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let echo = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().expect("accepted");
            let mut bytes = [0; 5];
            peer.read_exact(&mut bytes).expect("read");
            peer.write_all(&bytes).expect("written");
        });
        let mut stream = connect_unix(&path).await.expect("connected");
        std::fs::remove_file(&path).expect("it is there");
        stream.write_all(b"hello").await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        assert_eq!(answer, "hello");
        echo.join().expect("echo");
        let gone = connect_unix(&path).await.map(drop).expect_err("nobody is there");
        assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    });
}
