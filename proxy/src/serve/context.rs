//! What a worker's connections share: counters, the pool, and the worker's view of the snapshot.

use crate::{
    accept::Sources,
    access_log::Lines,
    balance::{FULL_SHARE, Picker, RoundRobin},
    http::in_flight::{Budget, Ledger},
    snapshot::{Composite, Entry, Leading, Published, Service, Snapshot, TcpServer, TcpService},
    telemetry::Counters,
    tls::Tally,
    upstream::Pool,
};
use sallyport_config::model::service::Mirror;
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
    /// Bytes of bodies that are on their way.
    pub in_flight: Rc<Ledger>,
    published: Arc<Published>,
    view: RefCell<Rc<View>>,
}

/// A snapshot with the worker's own state about it.
pub struct View {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    generation: u64,
    /// By service.
    pickers: HashMap<String, Rc<Picker>>,
    /// By service that leads to others.
    steerings: HashMap<String, Rc<Steering>>,
    /// By TCP service.
    tcp_turns: HashMap<String, Rc<RoundRobin>>,
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

    /// The same for another list of services; what goes on is what both have.
    fn after(&self, before: &Composite, composite: &Composite) -> Self {
        match (&before.way, &composite.way) {
            (Leading::Weighted(known), Leading::Weighted(weighted)) => {
                let places = places(known.services.iter());
                let was = |place: usize| places.get(weighted.services.get(place)?).copied();
                Self {
                    turns: RoundRobin::after(&self.turns, &weighted.weights, was),
                    owed: Vec::new(),
                }
            }
            (Leading::Mirroring(known), Leading::Mirroring(mirroring)) => {
                let places = places(known.mirrors.iter().map(|mirror| &mirror.service));
                let owed = mirroring.mirrors.iter().map(|mirror| {
                    let was = places
                        .get(&mirror.service)
                        .and_then(|place| self.owed.get(*place));
                    was.cloned().unwrap_or_default()
                });
                Self {
                    turns: RoundRobin::new(&[]),
                    owed: owed.collect(),
                }
            }
            _ => Self::new(composite),
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
        in_flight: Arc<Budget>,
    ) -> Self {
        let view = View::new(&published, None);
        let in_flight = Ledger::new(in_flight, Arc::clone(&counters));
        in_flight.limit(view.snapshot.in_flight_bytes_max);
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
            in_flight: Rc::new(in_flight),
            published,
            view: RefCell::new(Rc::new(view)),
        }
    }

    /// Tells of each snapshot that is published from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.published.changes()
    }

    /// The current view; a new one where a newer snapshot was published.
    pub fn view(&self) -> Rc<View> {
        if self.view.borrow().generation != self.published.generation() {
            let next = View::new(&self.published, Some(&self.view.borrow()));
            self.in_flight.limit(next.snapshot.in_flight_bytes_max);
            *self.view.borrow_mut() = Rc::new(next);
        }
        Rc::clone(&self.view.borrow())
    }
}

impl View {
    /// What is published now. Turns go on where they stood `before`.
    fn new(published: &Published, before: Option<&Self>) -> Self {
        let (generation, snapshot) = published.read();
        let all = snapshot.services.values().chain(snapshot.discovered.values());
        let pickers = all.map(|service| (service.name.clone(), next_picker(service, before)));
        let pickers = pickers.collect();
        let steerings = snapshot.composites.values();
        let steerings = steerings.map(|composite| (composite.name.clone(), next_steering(composite, before)));
        let steerings = steerings.collect();
        let tcp_turns = snapshot.tcp_services.values();
        let tcp_turns = tcp_turns.map(|service| (service.name.clone(), next_tcp_turns(service, before)));
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
        self.pickers.get(&service.name).map(|picker| &**picker)
    }

    /// What this worker remembers of a service that leads to others.
    pub(super) fn steering(&self, composite: &Composite) -> Option<&Steering> {
        self.steerings.get(&composite.name).map(|steering| &**steering)
    }

    /// The servers of a TCP service of this view that take connections: the one whose turn it is, then those to try where
    /// it cannot be reached, each once.
    pub fn tcp_servers<'s>(&self, service: &'s TcpService) -> impl Iterator<Item = &'s TcpServer> + use<'s> {
        let share = |place: usize| {
            let takes = service
                .servers
                .get(place)
                .is_some_and(TcpServer::takes_connections);
            if takes { FULL_SHARE } else { 0 }
        };
        let turns = self.tcp_turns.get(&service.name);
        let turn = turns.and_then(|turns| turns.next_of(share));
        let (before, from) = service
            .servers
            .split_at(turn.unwrap_or(0).min(service.servers.len()));
        from.iter()
            .chain(before)
            .filter(|server| server.takes_connections())
    }

    /// The entry point as it is now, for a connection that came in by `known`.
    pub fn entry(&self, known: &Arc<Entry>) -> Option<&Arc<Entry>> {
        self.snapshot.entries.get(&known.name)
    }
}

/// What a worker goes on with for a service: where its list changed, each server keeps its turns.
fn next_picker(service: &Service, before: Option<&View>) -> Rc<Picker> {
    let weights = service.group.weights();
    let known = before.and_then(|view| {
        let snapshot = &view.snapshot;
        let known = match service.name.strip_suffix("@multicluster") {
            Some(offered) => snapshot.discovered.get(offered)?,
            None => snapshot.services.get(&service.name)?,
        };
        Some((known, view.pickers.get(&service.name)?))
    });
    let Some((known, picker)) = known else {
        return Rc::new(Picker::unforeseen(&weights));
    };
    if std::ptr::eq(&raw const **known, service) {
        return Rc::clone(picker);
    }
    let keys: HashMap<u64, usize> = places(known.group.members().iter().map(|member| member.key));
    let was = |place: usize| keys.get(&service.group.members().get(place)?.key).copied();
    Rc::new(Picker::after(picker, &weights, was))
}

fn next_steering(composite: &Composite, before: Option<&View>) -> Rc<Steering> {
    let known = before.and_then(|view| {
        let known = view.snapshot.composites.get(&composite.name)?;
        Some((known, view.steerings.get(&composite.name)?))
    });
    let Some((known, steering)) = known else {
        return Rc::new(Steering::new(composite));
    };
    if std::ptr::eq(&raw const **known, composite) {
        return Rc::clone(steering);
    }
    Rc::new(steering.after(known, composite))
}

fn next_tcp_turns(service: &TcpService, before: Option<&View>) -> Rc<RoundRobin> {
    let weights: Vec<u32> = service.servers.iter().map(|server| server.weight).collect();
    let known = before.and_then(|view| {
        let known = view.snapshot.tcp_services.get(&service.name)?;
        Some((known, view.tcp_turns.get(&service.name)?))
    });
    let Some((known, turns)) = known else {
        return Rc::new(RoundRobin::new(&weights));
    };
    let addresses = places(known.servers.iter().map(|server| &server.address));
    let was = |place: usize| addresses.get(&service.servers.get(place)?.address).copied();
    Rc::new(RoundRobin::after(turns, &weights, was))
}

/// Where each stands.
fn places<T: Eq + std::hash::Hash>(all: impl Iterator<Item = T>) -> HashMap<T, usize> {
    all.enumerate().map(|(place, one)| (one, place)).collect()
}
