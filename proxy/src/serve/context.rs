//! What a worker's connections share: counters, the pool, and the worker's view of the snapshot.

use crate::{
    access_log::Lines,
    balance::RoundRobin,
    snapshot::{Entry, Published, Service, Snapshot, TcpService},
    telemetry::Counters,
    tls::Tally,
    upstream::{Pool, Server},
};
use sallyport_config::model::tcp::ServerAddress;
use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
};

use super::{handshakes::HandshakeLog, live::Live, recheck::Recheck, turnstile::Turnstile};

/// A worker, as its connections see it.
pub struct Context {
    /// Counters of this worker.
    pub counters: Arc<Counters>,
    /// Lines of the access log on their way to the writer.
    pub access: Rc<Lines>,
    /// What came of its handshakes.
    pub tally: Arc<Tally>,
    /// Connections to servers.
    pub pool: Rc<Pool>,
    /// Live connections of this worker.
    pub live: Rc<Live>,
    /// How many failed handshakes were said lately.
    pub handshakes: HandshakeLog,
    /// Lets handshakes go on a few at a time.
    pub(super) turnstile: Rc<Turnstile>,
    /// Has live sessions judged again.
    pub recheck: Recheck,
    /// Downstream connections of the whole process.
    pub connections: Arc<AtomicUsize>,
    published: Arc<Published>,
    view: RefCell<Rc<View>>,
}

/// A snapshot with the worker's own state about it.
pub struct View {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    generation: u64,
    turns: HashMap<String, Turn>,
    /// By TCP service.
    tcp_turns: HashMap<String, RoundRobin>,
}

struct Turn {
    service: Arc<Service>,
    order: RoundRobin,
}

impl Context {
    /// A worker's context.
    pub fn new(
        published: Arc<Published>,
        counters: Arc<Counters>,
        tally: Arc<Tally>,
        connections: Arc<AtomicUsize>,
    ) -> Self {
        let view = RefCell::new(Rc::new(View::new(&published)));
        let (pool, live) = (Rc::default(), Rc::default());
        let handshakes = HandshakeLog::default();
        Self {
            access: Rc::new(Lines::new(Arc::clone(&counters))),
            counters,
            tally,
            pool,
            live,
            handshakes,
            turnstile: Rc::default(),
            recheck: Recheck::default(),
            connections,
            published,
            view,
        }
    }

    /// The current view; a new one where a newer snapshot was published.
    pub fn view(&self) -> Rc<View> {
        if self.view.borrow().generation != self.published.generation() {
            *self.view.borrow_mut() = Rc::new(View::new(&self.published));
        }
        Rc::clone(&self.view.borrow())
    }
}

impl View {
    fn new(published: &Published) -> Self {
        let (generation, snapshot) = published.read();
        let all = snapshot.services.values().chain(snapshot.discovered.values());
        let turns = all.map(|service| {
            let weights: Vec<u32> = service.servers.iter().map(|(_, weight)| *weight).collect();
            let turn = Turn {
                service: Arc::clone(service),
                order: RoundRobin::new(&weights),
            };
            (service.name.clone(), turn)
        });
        let turns = turns.collect();
        let tcp_turns = snapshot.tcp_services.values().map(|service| {
            let weights: Vec<u32> = service.servers.iter().map(|(_, weight)| *weight).collect();
            (service.name.clone(), RoundRobin::new(&weights))
        });
        let tcp_turns = tcp_turns.collect();
        Self {
            snapshot,
            generation,
            turns,
            tcp_turns,
        }
    }

    /// The server whose turn it is.
    pub fn next_server(&self, service: &Service) -> Option<Arc<Server>> {
        let turn = self.turns.get(&service.name)?;
        let index = turn.order.next()?;
        turn.service
            .servers
            .get(index)
            .map(|(server, _)| Arc::clone(server))
    }

    /// The servers of a TCP service of this view: the one whose turn it is, then those to try where it cannot be
    /// reached, each once.
    pub fn tcp_servers<'s>(
        &self,
        service: &'s TcpService,
    ) -> impl Iterator<Item = &'s ServerAddress> + use<'s> {
        let turn = self.tcp_turns.get(&service.name).and_then(RoundRobin::next);
        let (before, from) = service
            .servers
            .split_at(turn.unwrap_or(0).min(service.servers.len()));
        let willing = from.iter().chain(before).filter(|(_, weight)| *weight > 0);
        willing.map(|(address, _)| address)
    }

    /// The entry point as it is now, for a connection that came in by `known`.
    pub fn entry(&self, known: &Arc<Entry>) -> Option<&Arc<Entry>> {
        self.snapshot.entries.get(&known.name)
    }
}
