//! Seeded simulations: groups of random servers under random probes, failures and requests, against what must always
//! hold. A seed that fails is printed, and `SALLYPORT_SEED` runs that one alone.

use super::{
    Asked, Group, Lease, Line, Member, Moment, Outcome, Pick, Picker, Rules, Standing, Tried, key_of,
};
use crate::balance::Health;
use sallyport_config::model::service::{PassiveHealthCheck, Queue, Strategy};
use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Worlds in one run of the tests, and steps in each.
const WORLDS: u64 = 300;
const STEPS: usize = 400;

/// Runs `world` with many seeds, or with the one that is named.
fn simulate(world: fn(u64)) {
    let named = std::env::var("SALLYPORT_SEED").ok();
    if let Some(seed) = named.and_then(|seed| seed.parse().ok()) {
        return world(seed);
    }
    let first = u64::from(std::process::id()) << 32;
    for seed in first..first + WORLDS {
        if let Err(failure) = std::panic::catch_unwind(|| world(seed)) {
            eprintln!("failed with SALLYPORT_SEED={seed}");
            std::panic::resume_unwind(failure);
        }
    }
}

/// Dice with a seed.
struct Dice(Picker);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Picker::new(&[], seed))
    }

    fn below(&self, bound: usize) -> usize {
        self.0.below(bound)
    }

    fn number(&self, from: u32, to: u32) -> u32 {
        from + u32::try_from(self.below((to - from + 1) as usize)).expect("in range")
    }
}

fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("more than none")
}

/// What a server's verdict must be, told in another way than the program does.
struct Oracle {
    up: Option<bool>,
    history: Vec<bool>,
}

impl Oracle {
    fn probed(&mut self, passed: bool, rise: u32, fall: u32) {
        let Some(up) = self.up else {
            self.up = Some(passed);
            return;
        };
        self.history.push(passed);
        let needed = if up { fall } else { rise } as usize;
        let last = self.history.iter().rev().take(needed);
        let against = last.filter(|passed| **passed != up).count();
        if against == needed {
            self.up = Some(!up);
            self.history.clear();
        }
    }
}

struct World {
    dice: Dice,
    group: Group,
    pickers: Vec<Picker>,
    oracles: Vec<Oracle>,
    rise: u32,
    fall: u32,
    initial: Health,
    now: Moment,
    leases: Vec<(usize, Lease)>,
}

const STRATEGIES: [Strategy; 4] = [Strategy::Wrr, Strategy::P2c, Strategy::LeastTime, Strategy::Hrw];

impl World {
    fn new(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let initial = [Health::Up, Health::Down][dice.below(2)];
        let passive = PassiveHealthCheck {
            failure_window: Duration::from_millis(dice.number(50, 500).into()),
            failures_max: count(dice.number(1, 4)),
        };
        let members: Vec<Member> = (0..dice.number(1, 6))
            .map(|index| {
                let standing = Arc::new(Standing::default());
                standing.supervise(Some(initial));
                Member {
                    weight: dice.number(0, 4),
                    key: key_of(&index.to_string()),
                    standing,
                    probed: Some(initial),
                    passive: Some(passive),
                }
            })
            .collect();
        let rules = Rules {
            strategy: STRATEGIES[dice.below(4)],
            slow_start: Duration::from_millis(dice.number(0, 300).into()),
            requests_max: [None, Some(count(dice.number(1, 3)))][dice.below(2)],
            queue: Queue {
                waiting_max: 2,
                timeout: Duration::from_secs(1),
            },
        };
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        let oracle = |_: &Member| Oracle {
            up: None,
            history: Vec::new(),
        };
        let oracles = members.iter().map(oracle).collect();
        Self {
            pickers: (0..2)
                .map(|worker| Picker::new(&weights, seed ^ worker))
                .collect(),
            group: Group::new(members, rules, Arc::new(Line::default())),
            oracles,
            rise: dice.number(1, 3),
            fall: dice.number(1, 3),
            initial,
            now: Moment(1),
            leases: Vec::new(),
            dice,
        }
    }

    fn step(&mut self) {
        self.now = self
            .now
            .after(Duration::from_millis(self.dice.number(0, 40).into()));
        let place = self.dice.below(self.oracles.len());
        match self.dice.below(10) {
            0 | 1 => self.probe(place),
            2 => self.fail(place),
            3 => self.group.members()[place].standing.supervise(Some(self.initial)),
            4 if !self.leases.is_empty() => drop(self.leases.swap_remove(self.dice.below(self.leases.len()))),
            _ => self.ask(place),
        }
        self.check();
    }

    fn probe(&mut self, place: usize) {
        let passed = self.dice.below(3) > 0;
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        let standing = &self.group.members()[place].standing;
        standing.probed(outcome, count(self.rise), count(self.fall), self.now);
        self.oracles[place].probed(passed, self.rise, self.fall);
    }

    fn fail(&self, place: usize) {
        let standing = &self.group.members()[place].standing;
        let passive = self.group.passive(place).expect("it ejects");
        if standing.failed(passive, self.now) {
            assert!(!standing.is_available(self.now), "ejected and available");
            assert!(self.oracles[place].up == Some(false) || standing.health(self.now) != Health::Up);
        }
    }

    fn ask(&mut self, place: usize) {
        let mut tried = Tried::default();
        if self.dice.below(3) == 0 {
            tried.note(place);
        }
        let stays = (self.dice.below(3) == 0).then(|| self.dice.below(self.oracles.len()));
        let client = IpAddr::V4(Ipv4Addr::from(self.dice.number(0, 50)));
        let kept = self.dice.below(4) == 0;
        let asked = Asked {
            client,
            tried: &tried,
            stays,
            kept,
        };
        let room = |place: usize| {
            let standing = &self.group.members()[place].standing;
            let limit = self.group.limit().map_or(u32::MAX, NonZeroU32::get);
            self.counts() == 0 || standing.under_way() < limit
        };
        let free =
            |place: usize| (self.may(place) || (kept && self.is_there(place))) && !tried.contains(place);
        let new = |place: usize| self.may(place) && !tried.contains(place);
        let picker = &self.pickers[self.dice.below(2)];
        match self.group.pick(picker, &asked, self.now) {
            Pick::Nobody => assert!(
                (0..self.oracles.len()).all(|place| !free(place)),
                "somebody was there"
            ),
            Pick::Full => {
                let mut all = (0..self.oracles.len()).filter(|place| free(*place)).peekable();
                assert!(
                    all.peek().is_some() && all.all(|place| !room(place)),
                    "somebody had room"
                );
            }
            Pick::Seat(seat) => {
                let stayed = stays == Some(seat.place);
                assert!(!tried.contains(seat.place), "tried again");
                assert!(free(seat.place) || stayed, "it cannot be asked");
                let better = (0..self.oracles.len()).any(|place| new(place) && room(place));
                assert!(
                    new(seat.place) || stayed || !better,
                    "one that takes nobody new, beside one that does"
                );
                assert!(self.group.members()[seat.place].standing.is_available(self.now));
                self.leases.extend(seat.lease.map(|lease| (seat.place, lease)));
            }
        }
    }

    /// Whether new clients may go there, told from the oracle.
    fn may(&self, place: usize) -> bool {
        self.group.members()[place].weight > 0 && self.is_there(place)
    }

    /// Whether clients that are to stay may go there.
    fn is_there(&self, place: usize) -> bool {
        let up = self.oracles[place].up.unwrap_or(self.initial == Health::Up);
        up && self.group.members()[place].standing.health(self.now) != Health::Ejected
    }

    /// Requests that are counted.
    fn counts(&self) -> usize {
        self.leases.len()
    }

    fn check(&self) {
        for (place, member) in self.group.members().iter().enumerate() {
            let (standing, oracle) = (&member.standing, &self.oracles[place]);
            let down = !oracle.up.unwrap_or(self.initial == Health::Up);
            assert_eq!(standing.health(self.now) == Health::Down, down, "server {place}");
            let own = self.leases.iter().filter(|(at, _)| *at == place).count();
            assert_eq!(standing.under_way() as usize, own, "server {place}");
            if let Some(limit) = self.group.limit() {
                assert!(standing.under_way() <= limit.get(), "server {place}");
            }
            assert!((10..=100).contains(&standing.share(Duration::from_millis(300), self.now)));
        }
    }
}

#[test]
fn groups_hold_what_they_promise() {
    simulate(|seed| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.leases.clear();
        world.check();
    });
}

/// A group of servers that are all up, with these weights.
fn settled(strategy: Strategy, weights: &[u32]) -> Group {
    let member = |(index, weight): (usize, &u32)| Member {
        weight: *weight,
        key: key_of(&format!("http://10.0.0.{index}:80")),
        standing: Arc::default(),
        probed: None,
        passive: None,
    };
    let members = weights.iter().enumerate().map(member).collect();
    let rules = Rules {
        strategy,
        ..Rules::turns()
    };
    Group::new(members, rules, Arc::default())
}

fn place_of(group: &Group, picker: &Picker, client: IpAddr) -> usize {
    let asked = Asked {
        client,
        tried: &Tried::default(),
        stays: None,
        kept: false,
    };
    match group.pick(picker, &asked, Moment(1)) {
        Pick::Seat(seat) => seat.place,
        other => panic!("{other:?}"),
    }
}

#[test]
fn turns_are_never_further_from_their_shares_than_one_a_server() {
    simulate(|seed| {
        let dice = Dice::new(seed);
        let weights: Vec<u32> = (0..dice.number(1, 6)).map(|_| dice.number(1, 9)).collect();
        let (group, picker) = (settled(Strategy::Wrr, &weights), Picker::new(&weights, seed));
        let total: u32 = weights.iter().sum();
        let mut got = vec![0_u32; weights.len()];
        for turn in 1..=500_u32 {
            got[place_of(&group, &picker, IpAddr::V4(Ipv4Addr::LOCALHOST))] += 1;
            for (got, weight) in got.iter().zip(&weights) {
                let due = f64::from(turn * weight) / f64::from(total);
                let allowed = f64::from(u32::try_from(weights.len()).expect("few"));
                assert!(
                    (f64::from(*got) - due).abs() <= allowed,
                    "{weights:?} after {turn}: {got} of {due}"
                );
            }
        }
    });
}

#[test]
fn clients_stay_where_hashing_puts_them_when_servers_come_and_go() {
    let clients = || (0..4000_u32).map(|number| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)));
    let (all, picker) = (settled(Strategy::Hrw, &[1, 1, 1, 2]), Picker::new(&[1; 4], 1));
    let without = settled(Strategy::Hrw, &[1, 0, 1, 2]);
    let mut got = [0; 4];
    for client in clients() {
        let (before, after) = (
            place_of(&all, &picker, client),
            place_of(&without, &picker, client),
        );
        assert!(
            before == 1 || before == after,
            "{client} moved from {before} to {after}"
        );
        got[before] += 1;
    }
    for (place, share) in [(0, 800), (1, 800), (2, 800), (3, 1600)] {
        let off = i32::abs_diff(got[place], share);
        assert!(off < 130, "{got:?}");
    }
}

#[test]
fn of_two_at_random_the_busier_is_never_taken() {
    let group = settled(Strategy::P2c, &[1, 1]);
    let picker = Picker::new(&[1, 1], 7);
    let mut held = Vec::new();
    for turn in 0..200 {
        let asked = Asked {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tried: &Tried::default(),
            stays: None,
            kept: false,
        };
        let Pick::Seat(seat) = group.pick(&picker, &asked, Moment(1)) else {
            panic!("no seat at turn {turn}")
        };
        held.push(seat);
        let [a, b] = [0, 1].map(|place| group.members()[place].standing.under_way());
        assert!(a.abs_diff(b) <= 1, "{a} and {b}");
    }
}

#[test]
fn the_soonest_gets_most_and_a_slow_one_is_tried_again_later() {
    let group = settled(Strategy::LeastTime, &[1, 1]);
    let picker = Picker::new(&[1, 1], 7);
    let ask = |now: Moment| {
        let asked = Asked {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tried: &Tried::default(),
            stays: None,
            kept: false,
        };
        match group.pick(&picker, &asked, now) {
            Pick::Seat(seat) => seat.place,
            other => panic!("{other:?}"),
        }
    };
    group.members()[0]
        .standing
        .answered(Duration::from_millis(100), Moment(1));
    group.members()[1]
        .standing
        .answered(Duration::from_millis(10), Moment(1));
    assert!((0..20).all(|_| ask(Moment(2)) == 1));
    let later = Moment(2).after(Duration::from_secs(60));
    group.members()[1]
        .standing
        .answered(Duration::from_millis(10), later);
    assert!((0..4).any(|_| ask(later) == 0), "it is never asked again");
}

/// Real threads, each with a runtime, as workers are: nobody waits for ever, nobody gets in past the limit.
#[test]
fn workers_share_a_queue_and_no_wake_up_is_lost() {
    let mut group = settled(Strategy::Wrr, &[1, 1]);
    group.limit_to(count(2), 1000);
    let group = Arc::new(group);
    let most = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..4)
        .map(|worker| {
            let (group, most) = (Arc::clone(&group), Arc::clone(&most));
            std::thread::spawn(move || {
                let work = async {
                    let picker = std::rc::Rc::new(Picker::new(&[1, 1], worker));
                    let tasks: Vec<_> = (0..25)
                        .map(|_| {
                            let work =
                                visit(Arc::clone(&group), std::rc::Rc::clone(&picker), Arc::clone(&most));
                            crate::io::spawn(work)
                        })
                        .collect();
                    for task in tasks {
                        task.await.expect("no panic");
                    }
                };
                crate::io::run(crate::io::DriverKind::Epoll, work).expect("a runtime");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(
        most.load(Ordering::SeqCst),
        2,
        "more at once than allowed, or never as many"
    );
    assert_eq!(group.line().waiting(), 0);
    assert!(
        group
            .members()
            .iter()
            .all(|member| member.standing.under_way() == 0)
    );
}

async fn visit(group: Arc<Group>, picker: std::rc::Rc<Picker>, most: Arc<AtomicU32>) {
    for _ in 0..40 {
        let tried = Tried::default();
        let asked = Asked {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tried: &tried,
            stays: None,
            kept: false,
        };
        let seat = match group.pick(&picker, &asked, Moment::now()) {
            Pick::Seat(seat) => seat,
            Pick::Full => group.wait(&picker, &asked).await.expect("a seat"),
            Pick::Nobody => panic!("nobody"),
        };
        let busy = group.members()[seat.place].standing.under_way();
        most.fetch_max(busy, Ordering::SeqCst);
        crate::io::turn().await;
        drop(seat);
    }
}
