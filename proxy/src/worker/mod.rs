//! A worker: one thread, one driver, its own listeners, pool and counters.
//!
//! A worker shares no lock with another. What it is told comes through a bounded mailbox; what it publishes
//! are atomics and answers to questions.

mod accepting;

use crate::{
    accept::Sources,
    http::in_flight::Budget,
    io::{self, DriverKind},
    serve::{Context, Order, Recheck},
    snapshot::{Published, TcpWay},
    telemetry::{AdmissionCount, Count, Counters},
    tls::Tally,
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    net::TcpListener,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// Messages that may wait for a worker.
const MAILBOX_MAX: usize = 64;
/// How often idle connections to servers are looked through.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// What a worker can be told.
pub enum Message {
    /// Accept on these sockets for the entry point.
    Listen {
        /// Its name.
        entry: String,
        /// One socket a family.
        sockets: Vec<TcpListener>,
    },
    /// Take what waits in the accept queue, then close the entry point's sockets.
    StopListening {
        /// Its name.
        entry: String,
    },
    /// Stop listening everywhere and let connections finish what is under way.
    Drain,
    /// End the connections that the current snapshot would not let in.
    Recheck,
    /// Close every connection.
    Close,
    /// Hand the gathered lines of the access log over, and say so.
    HandOver(oneshot::Sender<()>),
    /// Report.
    Report(oneshot::Sender<Report>),
}

/// A worker's state, for `status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// Live downstream connections.
    pub connections: usize,
    /// Kept connections to servers.
    pub idle_upstream: usize,
}

/// What workers share.
#[derive(Clone)]
pub struct Shared {
    /// The driver.
    pub driver: DriverKind,
    /// The snapshot.
    pub published: Arc<Published>,
    /// Downstream connections of the whole process.
    pub connections: Arc<AtomicUsize>,
    /// How many each source has of them.
    pub sources: Arc<Sources>,
    /// Bytes of bodies that the whole process has in flight.
    pub in_flight: Arc<Budget>,
}

/// A running worker.
pub struct Worker {
    /// Its number, from 0.
    pub id: usize,
    /// Its counters.
    pub counters: Arc<Counters>,
    /// What came of its handshakes.
    pub tally: Arc<Tally>,
    mailbox: mpsc::Sender<Message>,
}

impl Worker {
    /// Starts a worker's thread, pinned to one CPU of the affinity mask, and waits until its driver runs.
    ///
    /// # Errors
    /// Where the thread or its driver cannot start.
    pub fn start(id: usize, shared: &Shared) -> std::io::Result<Self> {
        let (counters, tally) = (Arc::new(Counters::default()), Arc::new(Tally::default()));
        let (mailbox, messages) = mpsc::channel(MAILBOX_MAX);
        let (started, start) = std::sync::mpsc::channel();
        let shared = shared.clone();
        let (own_counters, own_tally) = (Arc::clone(&counters), Arc::clone(&tally));
        thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(move || {
                pin(id);
                let failed = started.clone();
                let outcome = io::run(shared.driver, async move {
                    // The starter waits for exactly this word.
                    let _ = started.send(Ok(()));
                    let context = Context::new(
                        shared.published,
                        own_counters,
                        own_tally,
                        shared.connections,
                        shared.sources,
                        shared.in_flight,
                    );
                    work(Rc::new(context), messages).await;
                });
                if let Err(error) = outcome {
                    let _ = failed.send(Err(error));
                }
            })?;
        start
            .recv()
            .unwrap_or_else(|_| Err(std::io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self {
            id,
            counters,
            tally,
            mailbox,
        })
    }

    /// Tells the worker something; an error means that it has ended.
    ///
    /// # Errors
    /// Where the worker has ended.
    pub async fn tell(&self, message: Message) -> Result<(), Ended> {
        self.mailbox.send(message).await.map_err(|_| Ended)
    }

    /// Has the worker hand over the lines of the access log that it has gathered.
    ///
    /// # Errors
    /// Where the worker has ended.
    pub async fn hand_over(&self) -> Result<(), Ended> {
        let (sender, receiver) = oneshot::channel();
        self.tell(Message::HandOver(sender)).await?;
        receiver.await.map_err(|_| Ended)
    }

    /// Asks the worker for its state.
    ///
    /// # Errors
    /// Where the worker has ended.
    pub async fn report(&self) -> Result<Report, Ended> {
        let (sender, receiver) = oneshot::channel();
        self.tell(Message::Report(sender)).await?;
        receiver.await.map_err(|_| Ended)
    }
}

/// The worker has ended.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the worker has ended")]
pub struct Ended;

/// Pins this thread to the `id`-th CPU of its mask; where that is refused, the scheduler chooses.
fn pin(id: usize) {
    let this = Pid::from_raw(0);
    let Ok(mask) = sched_getaffinity(this) else { return };
    let allowed: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| mask.is_set(*cpu).unwrap_or(false))
        .collect();
    let mut own = CpuSet::new();
    if let Some(cpu) = allowed.get(id % allowed.len().max(1))
        && own.set(*cpu).is_ok()
    {
        let _ = sched_setaffinity(this, &own);
    }
}

async fn work(context: Rc<Context>, mut messages: mpsc::Receiver<Message>) {
    drop(io::spawn(reap(Rc::clone(&context))));
    drop(io::spawn(Recheck::run(Rc::clone(&context))));
    let mut listening: BTreeMap<String, accepting::Stop> = BTreeMap::new();
    while let Some(message) = messages.recv().await {
        match message {
            Message::Listen { entry, sockets } => {
                let stop = accepting::start(&context, &entry, sockets);
                listening.insert(entry, stop);
            }
            Message::StopListening { entry } => drop(listening.remove(&entry)),
            Message::Drain => {
                listening.clear();
                context.live.tell_all(Order::Drain);
            }
            Message::Recheck => recheck(&context),
            Message::Close => context.live.tell_all(Order::Close),
            Message::HandOver(to) => {
                context.access.hand_over();
                let _ = to.send(());
            }
            Message::Report(to) => {
                let report = Report {
                    connections: context.live.len(),
                    idle_upstream: context.pool.idle_count(),
                };
                // Whoever asked may have given up.
                let _ = to.send(report);
            }
        }
    }
}

/// A source that left the allowlist loses its connections; those of an entry point that is gone, or of a TCP
/// router that leads elsewhere, finish what is under way; sessions whose policy is another are judged by it.
fn recheck(context: &Context) {
    let view = context.view();
    let (entries, admissions) = (&view.snapshot.entries, &view.snapshot.admissions);
    context
        .live
        .tell(Order::Drain, |handle| !entries.contains_key(&handle.entry));
    context.live.tell(Order::Drain, |handle| {
        let tcp = entries.get(&handle.entry).and_then(|entry| entry.tcp.as_ref());
        let leads = |by: &TcpWay| tcp.is_some_and(|tcp| tcp.leads(by));
        !handle.tcp.get().is_none_or(leads)
    });
    context.recheck.ask();
    let now = Instant::now();
    let removed = context.live.tell(Order::Close, |handle| {
        !admissions.keeps(&handle.entry, handle.peer, now)
    });
    for handle in removed {
        context.counters.add(Count::SourceRemoved);
        context
            .counters
            .admission(&handle.entry)
            .add(AdmissionCount::Removed);
        tracing::debug!(peer = %handle.peer.0, entry = handle.entry, "closed: source was taken off the allowlist");
    }
}

/// A worker that had at least so many connections gives memory back once most of them are gone.
const BURST_MIN: usize = 256;

async fn reap(context: Rc<Context>) {
    let mut most = 0;
    loop {
        io::sleep(REAP_EVERY).await;
        context.view();
        context.pool.reap();
        let live = context.live.len();
        most = live.max(most);
        if most >= BURST_MIN && live < most / 4 {
            io::release_memory();
            most = live;
        }
    }
}
