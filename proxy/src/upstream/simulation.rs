//! A seeded simulation of the pool: a server that keeps, drops and hangs up connections as its dice fall, on real
//! sockets. A seed that fails is printed, and `SALLYPORT_SEED` runs that one alone.

use super::{Behalf, Pool, Server, TransportOptions};
use crate::{
    balance::Picker,
    http::body::RequestBody,
    io::{self, DriverKind},
    telemetry::{Count, Counters},
    tls::{ClientSide, Files},
};
use http::{HeaderValue, Method, Request, header::HOST};
use http_body::Body;
use sallyport_config::model::{IoDriver, Scheme, ServerPlace, ServerUrl, transport::ServersTransport};
use std::{
    collections::HashMap,
    future::poll_fn,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Worlds in one run of the tests, and requests in each.
const WORLDS: u64 = 12;
const REQUESTS: usize = 120;
/// Requests at once.
const TASKS: usize = 4;
const IDLE_MAX: usize = 2;

/// How often the server acted on each request.
type Acted = Arc<Mutex<HashMap<String, u32>>>;

fn lock(acted: &Acted) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
    acted.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(seed: u64) -> (u16, Acted) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let (port, acted) = (listener.local_addr().expect("bound").port(), Acted::default());
    let own = Arc::clone(&acted);
    // Both kinds of thread end with the test's process, or with the pool's connection.
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let (acted, dice) = (Arc::clone(&own), Picker::new(&[], seed ^ (number as u64) << 20));
            std::thread::spawn(move || keep(stream, &dice, &acted));
        }
    });
    (port, acted)
}

/// Serves one connection. Its first request is always answered: what is tested is the reuse.
fn keep(mut stream: TcpStream, dice: &Picker, acted: &Acted) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    for number in 0.. {
        let Some(target) = read_target(&mut stream)? else {
            return Ok(());
        };
        let fate = if number == 0 { 2 } else { dice.below(8) };
        if fate > 0 {
            *lock(acted).entry(target).or_default() += 1;
        }
        if fate < 2 {
            // Gone, having acted or not.
            return Ok(());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")?;
        if dice.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(dice.below(3) as u64));
            return Ok(());
        }
    }
    Ok(())
}

/// The target of the next request, once all of its header section is there; `None` at the end.
fn read_target(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let (mut bytes, mut one) = (Vec::new(), [0_u8; 1]);
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read(&mut one)? == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&one);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.split(' ').nth(1).map(str::to_owned))
}

fn server(port: u16) -> Arc<Server> {
    let (configured, files) = (ServersTransport::default(), Files::new(Path::new("/nonexistent")));
    let transport = TransportOptions {
        name: "t".to_owned(),
        proxy_protocol: None,
        tls: ClientSide::compile(&configured, &files).expect("the defaults"),
        dial: Some(Duration::from_secs(30)),
        tls_handshake: None,
        response_header: Some(Duration::from_secs(30)),
        idle: None,
        idle_max: IDLE_MAX,
        workers: 1,
    };
    let at = ServerPlace::Host {
        host: "127.0.0.1".to_owned(),
        port,
    };
    Arc::new(Server {
        url: ServerUrl {
            scheme: Scheme::Http,
            at,
        },
        authority: "a.example".parse().expect("a host"),
        transport: Arc::new(transport),
        requests_max: None,
        hop: None,
    })
}

fn request(method: &Method, target: &str) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::Empty);
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.parse().expect("a target");
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("a.example"));
    request
}

/// One task's requests, one after the other.
async fn ask(pool: Rc<Pool>, server: Arc<Server>, counters: Rc<Counters>, dice: Picker, acted: Acted) {
    for number in 0..REQUESTS / TASKS {
        let method = [Method::GET, Method::DELETE, Method::POST][dice.below(3)].clone();
        let target = format!("/{method}/{}/{number}", dice.below(usize::MAX));
        let sent = pool
            .send(&server, request(&method, &target), &counters, Behalf::Gateway)
            .await;
        let times = || lock(&acted).get(&target).copied().unwrap_or_default();
        match sent {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                let whole = dice.below(4) > 0;
                let mut body = response.into_body();
                while whole && poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_some() {}
                let most = if method.is_idempotent() { 2 } else { 1 };
                assert!(
                    (1..=most).contains(&times()),
                    "{method} was acted on {} times",
                    times()
                );
            }
            Err(unanswered) => {
                assert!(!method.is_idempotent(), "{method} failed: {}", unanswered.fault);
                assert!(unanswered.request.is_none(), "a server may have acted on it");
                assert!(times() <= 1, "{method} was acted on {} times", times());
            }
        }
    }
}

fn world(kind: DriverKind, seed: u64) {
    let (port, acted) = serve(seed);
    let all = async {
        let (pool, server, counters) = (
            Rc::new(Pool::default()),
            server(port),
            Rc::new(Counters::default()),
        );
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let dice = Picker::new(&[], seed.wrapping_add(task as u64));
                let (pool, server, counters) = (Rc::clone(&pool), Arc::clone(&server), Rc::clone(&counters));
                io::spawn(ask(pool, server, counters, dice, Arc::clone(&acted)))
            })
            .collect();
        for task in tasks {
            task.await.expect("a task that broke said why above");
        }
        pool.reap();
        assert!(pool.idle_count() <= IDLE_MAX, "{}", pool.idle_count());
        assert!(counters.get(Count::UpstreamReused) > 0, "nothing was reused");
        pool.forget(&server);
        assert_eq!(pool.idle_count(), 0);
    };
    io::run(kind, all).expect("the driver runs");
}

fn simulate(kind: DriverKind) {
    let named = std::env::var("SALLYPORT_SEED").ok();
    if let Some(seed) = named.and_then(|seed| seed.parse().ok()) {
        return world(kind, seed);
    }
    let first = u64::from(std::process::id()) << 32;
    for seed in first..first + WORLDS {
        if let Err(failure) = std::panic::catch_unwind(|| world(kind, seed)) {
            eprintln!("failed with SALLYPORT_SEED={seed}");
            std::panic::resume_unwind(failure);
        }
    }
}

#[test]
fn stale_connections_fail_nothing_that_may_be_sent_twice_and_nothing_else_is() {
    simulate(DriverKind::Epoll);
}

#[test]
fn the_same_on_a_ring() {
    // Where the kernel has no ring the whole-program tests say so.
    for wanted in [IoDriver::Uring, IoDriver::TokioUring] {
        if let Ok(chosen) = io::choose(wanted) {
            simulate(chosen.kind);
        }
    }
}
