//! The driver itself, on this kernel's ring.

use super::{engine, handles::Listener, remote};
use crate::io::{Ahead, DriverKind, Instant, Sharing, Stream, bind, connect, run, sleep, spawn, timeout};
use std::{
    cell::Cell,
    future::poll_fn,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
};

/// Runs `test` on a ring of its own under a deadline.
fn on_a_ring<T>(test: impl Future<Output = T>) -> T {
    on_a_ring_for(Duration::from_secs(30), test)
}

fn on_a_ring_for<T>(limit: Duration, test: impl Future<Output = T>) -> T {
    let limited = async { timeout(Some(limit), test).await };
    let outcome = run(DriverKind::Multishot, limited);
    outcome.expect("the ring starts").expect("it ends in time")
}

fn loopback() -> (TcpListener, SocketAddr) {
    let socket = bind(([127, 0, 0, 1], 0).into(), Sharing::Nobody).expect("loopback can be bound");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

/// Descriptors of this process that are sockets. Other tests run beside, so only a number that stays says something.
fn sockets() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").expect("procfs");
    let link = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
    all.filter_map(|entry| link(entry.ok()?))
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn another_thread_wakes_a_task() {
    on_a_ring(async {
        for _ in 0..200 {
            let (tell, told) = oneshot::channel();
            let teller = std::thread::spawn(move || tell.send(7));
            assert_eq!(told.await, Ok(7));
            let _ = teller.join();
        }
    });
}

#[test]
fn a_waker_outlives_its_executor_and_wakes_nobody() {
    let waker = on_a_ring(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
    waker.wake_by_ref();
    let thread = std::thread::spawn(move || waker.wake());
    thread.join().expect("it does not break");
    remote::wake(remote::EXECUTORS_MAX - 1, 0);
}

#[test]
fn tasks_that_are_left_are_dropped_with_all_they_hold() {
    struct Count(Rc<Cell<usize>>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            // Nothing that goes last may bring anything back.
            drop(spawn(async {}));
        }
    }
    let dropped = Rc::new(Cell::new(0));
    let counting = Rc::clone(&dropped);
    let (socket, address) = loopback();
    on_a_ring(async move {
        for _ in 0..10 {
            let count = Count(Rc::clone(&counting));
            let stream = connect(&[address]).await.expect("connected");
            drop(spawn(async move {
                let (mut stream, _count) = (stream, count);
                let _ = stream.read_u8().await;
            }));
        }
        crate::io::turn().await;
    });
    assert_eq!(dropped.get(), 10);
    for _ in 0..10 {
        let (mut peer, _) = blocking(&socket).accept().expect("it is in the queue");
        assert_eq!(peer.read(&mut [0]).expect("it was closed in order"), 0);
    }
}

fn blocking(socket: &TcpListener) -> &TcpListener {
    socket.set_nonblocking(false).expect("a mode can be set");
    socket
}

#[test]
fn timers_end_and_none_too_early() {
    on_a_ring(async {
        let began = Instant::now();
        let end_after = |span| async move {
            sleep(Duration::from_millis(span)).await;
            assert!(began.elapsed() >= Duration::from_millis(span));
        };
        let tasks: Vec<_> = [30, 1, 70, 64, 5].map(end_after).map(spawn).into();
        for task in tasks {
            task.await.expect("it ends");
        }
        let waits = timeout(Some(Duration::ZERO), std::future::pending::<()>());
        assert!(waits.await.is_err());
    });
}

#[test]
fn what_blocks_runs_beside_and_answers() {
    on_a_ring(async {
        let found = crate::io::resolve("localhost", 80).await.expect("it is known");
        assert!(found.iter().all(|address| address.ip().is_loopback()));
        let answer = tokio::task::spawn_blocking(|| 3).await;
        assert_eq!(answer.expect("it ends"), 3);
    });
}

#[test]
fn a_connection_that_nobody_answers_is_given_up_and_one_that_is_refused_says_so() {
    let (socket, address) = loopback();
    drop(socket);
    on_a_ring(async move {
        let refused = connect(&[address]).await.map(drop).expect_err("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // A queue of one that is full answers nobody.
        let deaf =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        deaf.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .expect("bound");
        deaf.listen(0).expect("listening");
        let address = deaf
            .local_addr()
            .expect("an address")
            .as_socket()
            .expect("of TCP");
        let _fills = TcpStream::connect(address).expect("the first is queued");
        let waiting = timeout(Some(Duration::from_millis(50)), connect(&[address])).await;
        assert!(waiting.is_err(), "it was answered");
        assert!(
            !engine().expect("it runs").borrow().is_empty(),
            "the kernel has it still"
        );
        while !engine().expect("it runs").borrow().is_empty() {
            crate::io::turn().await;
        }
    });
}

#[test]
fn connections_that_came_are_given_out_before_a_listener_ends() {
    const COUNT: usize = 200;
    let (socket, address) = loopback();
    on_a_ring(async move {
        let listener = Listener::new(socket).expect("a listener registers");
        let clients: Vec<_> = (0..COUNT)
            .map(|_| TcpStream::connect(address).expect("connected"))
            .collect();
        // The first takes many along.
        let mut came = vec![listener.accept(Ahead::Many).await.expect("accepted")];
        crate::io::turn().await;
        while let Some(socket) = listener.accept_waiting() {
            came.push(socket);
        }
        assert_eq!(came.len(), COUNT);
        drop(listener);
        while TcpStream::connect(address).is_ok() {
            crate::io::turn().await;
        }
        drop(clients);
    });
}

#[test]
fn a_peer_that_sends_what_nobody_reads_is_held_back_and_loses_nothing() {
    const TOTAL: usize = 16 << 20;
    let (socket, address) = loopback();
    on_a_ring(async move {
        let stopped = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let sent = std::sync::Arc::clone(&stopped);
        let peer = std::thread::spawn(move || {
            let (mut peer, _) = blocking(&socket).accept().expect("accepted");
            for part in 0..TOTAL / 65536 {
                peer.write_all(&[part as u8; 65536]).expect("written");
                sent.fetch_add(65536, std::sync::atomic::Ordering::Relaxed);
            }
        });
        let mut stream = connect(&[address]).await.expect("connected");
        let mut first = [0; 10];
        stream.read_exact(&mut first).await.expect("read");
        // Until what it has sent is the same for a while, and less than all.
        let mut before = usize::MAX;
        loop {
            let now = stopped.load(std::sync::atomic::Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
            sleep(Duration::from_millis(300)).await;
        }
        assert!(before < TOTAL, "nothing held it back");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("read");
        assert_eq!(rest.len() + first.len(), TOTAL);
        let right = |(at, byte): (usize, &u8)| *byte == ((at + first.len()) / 65536) as u8;
        assert!(rest.iter().enumerate().all(right));
        peer.join().expect("peer");
    });
}

#[test]
fn thousands_that_wait_unread_leave_buffers_for_others() {
    const COUNT: usize = 1500;
    let (socket, address) = loopback();
    on_a_ring(async move {
        let listener = Listener::new(socket).expect("a listener registers");
        let (mut clients, mut held) = (Vec::new(), Vec::new());
        for _ in 0..COUNT {
            let mut client = TcpStream::connect(address).expect("connected");
            client.write_all(b"ab").expect("sent");
            clients.push(client);
            let (socket, _) = listener.accept(Ahead::Many).await.expect("accepted");
            let mut stream = Stream::new(socket).expect("adopted");
            // What follows the first byte stays unread, in a buffer of its own or a copy.
            assert_eq!(stream.read_u8().await.expect("read"), b'a');
            clients
                .last_mut()
                .expect("just pushed")
                .write_all(b"c")
                .expect("sent");
            held.push(stream);
        }
        for mut stream in held {
            let mut rest = [0; 2];
            stream.read_exact(&mut rest).await.expect("read");
            assert_eq!(&rest, b"bc");
        }
    });
}

#[test]
fn memory_that_was_given_back_is_used_again() {
    let (socket, address) = loopback();
    on_a_ring(async move {
        let listener = Listener::new(socket).expect("a listener registers");
        let mut client = TcpStream::connect(address).expect("connected");
        let (socket, _) = listener.accept(Ahead::Many).await.expect("accepted");
        let mut stream = Stream::new(socket).expect("adopted");
        for round in 0..300u16 {
            client.write_all(&round.to_ne_bytes()).expect("sent");
            assert_eq!(stream.read_u8().await.expect("read"), round.to_ne_bytes()[0]);
            // One byte is held: nothing may be given back.
            crate::io::release_memory();
            assert_eq!(stream.read_u8().await.expect("read"), round.to_ne_bytes()[1]);
            crate::io::release_memory();
        }
    });
}

/// Connections that come, talk and go in every way, many at once: neither descriptors nor buffers nor tasks are left.
/// `SALLYPORT_RING_CONNECTIONS` has more of them.
#[test]
fn connections_leave_neither_descriptors_nor_buffers_nor_tasks() {
    let named = std::env::var("SALLYPORT_RING_CONNECTIONS").ok();
    let total: usize = named.and_then(|count| count.parse().ok()).unwrap_or(4_000);
    let (socket, address) = loopback();
    let before = sockets();
    on_a_ring_for(Duration::from_secs(3_600), async move {
        let listener = Listener::new(socket).expect("a listener registers");
        let serving = spawn(async move {
            for number in 0..total {
                let (socket, _) = listener.accept(Ahead::Many).await.expect("accepted");
                drop(spawn(serve(Stream::new(socket).expect("adopted"), number)));
            }
        });
        let mut lanes = Vec::new();
        for lane in 0..50 {
            lanes.push(spawn(async move {
                for number in (lane..total).step_by(50) {
                    call(address, number).await;
                }
            }));
        }
        for lane in lanes {
            lane.await.expect("it ends");
        }
        serving.await.expect("it ends");
        while !engine().expect("it runs").borrow().is_empty() {
            sleep(Duration::from_millis(10)).await;
        }
        assert!(engine().expect("it runs").borrow().buffers.all_at_rest());
    });
    // What other tests have open comes and goes.
    let deadline = Instant::now() + Duration::from_secs(60);
    while sockets() > before + 200 {
        assert!(
            Instant::now() < deadline,
            "{} sockets, {before} before",
            sockets()
        );
        std::thread::yield_now();
    }
}

async fn serve(mut stream: Stream, number: usize) {
    let mut bytes = [0; 100];
    let read = stream.read(&mut bytes);
    // One in a few gives up at once, whatever comes.
    let limit = number.is_multiple_of(7).then_some(Duration::ZERO);
    let Ok(Ok(count)) = timeout(limit, read).await else {
        return;
    };
    let answer = vec![b'x'; if number.is_multiple_of(5) { 100_000 } else { 100 }];
    if stream
        .write_all(bytes.get(..count).unwrap_or_default())
        .await
        .is_err()
    {
        return;
    }
    let _ = stream.write_all(&answer).await;
    match number % 3 {
        0 => drop(stream.shutdown().await),
        1 => stream.reset(),
        _ => {}
    }
}

async fn call(address: SocketAddr, number: usize) {
    // Reset or not, the next one is tried.
    let Ok(mut stream) = connect(&[address]).await else {
        return;
    };
    let _ = stream.write_all(b"question").await;
    let mut answer = Vec::new();
    match number % 4 {
        0 => drop(stream.read_u8().await),
        1 => {}
        _ => drop(stream.read_to_end(&mut answer).await),
    }
}

#[test]
fn a_task_on_no_ring_is_told_so() {
    assert!(engine().is_err());
    let (socket, _) = loopback();
    assert!(Listener::new(socket).is_err());
}
