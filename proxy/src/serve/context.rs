//! What a worker's connections share: counters, the pool, and the worker's view of the snapshot.

use crate::{
    accept::Sources,
    access_log::Lines,
    balance::{FULL_SHARE, Picker, RoundRobin},
    snapshot::{Composite, Entry, Leading, Published, Service, Snapshot, TcpService},
    telemetry::Counters,
    tls::Tally,
    upstream::Pool,
};
use sallyport_config::model::{service::Mirror, tcp::ServerAddress};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::{Arc, atomic::AtomicUsize},
};
use tokio::sync::watch;

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
    /// Copies of requests that are under way.
    pub(super) copies: Cell<usize>,
    /// Has live sessions judged again.
    pub recheck: Recheck,
    /// Downstream connections of the whole process.
    pub connections: Arc<AtomicUsize>,
    /// How many each source has of them.
    pub sources: Arc<Sources>,
    published: Arc<Published>,
    view: RefCell<Rc<View>>,
}

/// A snapshot with the worker's own state about it.
pub struct View {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    generation: u64,
    /// By service.
    pickers: HashMap<String, Picker>,
    /// By service that leads to others.
    steerings: HashMap<String, Steering>,
    /// By TCP service.
    tcp_turns: HashMap<String, RoundRobin>,
}

/// What a worker remembers of a service that leads to others.
pub(super) struct Steering {
    turns: RoundRobin,
    /// By mirror: hundredths of a copy that are owed.
    owed: Vec<Cell<u32>>,
}

impl Steering {
    fn new(composite: &Composite) -> Self {
        let (weights, mirrors) = match &composite.way {
            Leading::Weighted(weighted) => (&weighted.weights[..], 0),
            Leading::Mirroring(mirroring) => (&[][..], mirroring.mirrors.len()),
            Leading::Failover(_) => (&[][..], 0),
        };
        Self {
            turns: RoundRobin::new(weights),
            owed: vec![Cell::new(0); mirrors],
        }
    }

    /// Whose turn it is among those that are up; where none is, among all.
    pub(super) fn turn(&self, up: impl Fn(usize) -> bool) -> Option<usize> {
        let share = |place| if up(place) { FULL_SHARE } else { 0 };
        self.turns.next_of(share).or_else(|| self.turns.next())
    }

    /// The mirrors that get a copy of this request.
    pub(super) fn due<'m>(&self, mirrors: &'m [Mirror]) -> impl Iterator<Item = &'m Mirror> {
        mirrors.iter().zip(&self.owed).filter_map(|(mirror, owed)| {
            let owes = owed.get() + mirror.percent;
            owed.set(owes % 100);
            (owes >= 100).then_some(mirror)
        })
    }
}

impl Context {
    /// A worker's context.
    pub fn new(
        published: Arc<Published>,
        counters: Arc<Counters>,
        tally: Arc<Tally>,
        connections: Arc<AtomicUsize>,
        sources: Arc<Sources>,
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
            copies: Cell::default(),
            recheck: Recheck::default(),
            connections,
            sources,
            published,
            view,
        }
    }

    /// Tells of each snapshot that is published from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.published.changes()
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
        let pickers = all.map(|service| {
            let picker = Picker::unforeseen(&service.group.weights());
            (service.name.clone(), picker)
        });
        let pickers = pickers.collect();
        let steerings = snapshot.composites.iter();
        let steerings = steerings
            .map(|(name, composite)| (name.clone(), Steering::new(composite)))
            .collect();
        let tcp_turns = snapshot.tcp_services.values().map(|service| {
            let weights: Vec<u32> = service.servers.iter().map(|(_, weight)| *weight).collect();
            (service.name.clone(), RoundRobin::new(&weights))
        });
        let tcp_turns = tcp_turns.collect();
        Self {
            snapshot,
            generation,
            pickers,
            steerings,
            tcp_turns,
        }
    }

    /// What this worker remembers of a service.
    pub(super) fn picker(&self, service: &Service) -> Option<&Picker> {
        self.pickers.get(&service.name)
    }

    /// What this worker remembers of a service that leads to others.
    pub(super) fn steering(&self, composite: &Composite) -> Option<&Steering> {
        self.steerings.get(&composite.name)
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
