//! What a parent knows of its children: the last good answer of each, how old it is, and the services that
//! follow.
//!
//! A child that cannot be polled keeps its last answer for `stale_after`, then it is gone. The clock comes
//! in as a reading; nothing here waits.

use super::wire::{Advertised, Advertisement};
use sallyport_config::model::{Child, Multicluster};
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// Why a child whose answer was remembered from before a restart is stale.
const REMEMBERED: &str = "not polled since the start; what is known was remembered from before it";

/// The children and what they offer.
#[derive(Debug)]
pub struct Directory {
    children: BTreeMap<String, Known>,
    stale_after: Duration,
    /// Of every child that was ever configured, so that counters never go back.
    tallies: BTreeMap<String, Tally>,
    /// Whether the services may be others than when they were last asked for.
    moved: bool,
}

#[derive(Debug)]
struct Known {
    /// What it may offer; `None` is anything.
    allowed: Option<Vec<String>>,
    address: String,
    last: Option<Last>,
    failure: Option<String>,
    /// When the last poll ended.
    polled: Option<Instant>,
    /// How many different answers were taken.
    generation: u64,
    /// The state as it was last told.
    told: ChildState,
}

/// A child's last good answer.
#[derive(Clone, Debug)]
struct Last {
    answer: Advertisement,
    tag: Option<String>,
    /// When the child last said that it holds.
    confirmed: Instant,
}

/// How much a child's word is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildState {
    /// It was never asked.
    Unknown,
    /// The last poll succeeded.
    Fresh,
    /// The last poll failed; its last answer still counts.
    Stale,
    /// Its last answer is too old, or there never was one.
    Expired,
}

/// All states, as metrics list them.
pub const CHILD_STATES: [ChildState; 4] = [
    ChildState::Unknown,
    ChildState::Fresh,
    ChildState::Stale,
    ChildState::Expired,
];

impl ChildState {
    /// Its word in log, status and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Expired => "expired",
        }
    }

    /// Whether its uplinks are in services.
    fn serves(self) -> bool {
        match self {
            Self::Fresh | Self::Stale => true,
            Self::Unknown | Self::Expired => false,
        }
    }
}

/// How the polls of a child ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// With another answer than before.
    pub changed: u64,
    /// With the same.
    pub unchanged: u64,
    /// With none that could be taken.
    pub failed: u64,
}

/// A service made of children.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveredService {
    /// Its name without `@multicluster`.
    pub name: String,
    /// The uplink that is asked of the members.
    pub uplink: String,
    /// Sorted by child.
    pub members: Vec<Member>,
}

/// A child's share in a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The child.
    pub child: String,
    /// What it says of the uplink; weight 0 gets no new requests.
    pub offer: Advertised,
    /// How much its word is worth.
    pub state: ChildState,
}

impl DiscoveredService {
    /// The same where stale children drain if there is a fresh one that takes new clients.
    fn fresh_first(mut self) -> Self {
        let fresh = |member: &Member| member.state == ChildState::Fresh && member.offer.weight > 0;
        if self.members.iter().any(fresh) {
            let stale = self
                .members
                .iter_mut()
                .filter(|member| member.state != ChildState::Fresh);
            stale.for_each(|member| member.offer.weight = 0);
        }
        self
    }
}

/// An uplink that a child may not offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its name would be read as that of one child's service.
    Ambiguous {
        /// The uplink.
        uplink: String,
        /// The child whose name it ends in.
        child: String,
    },
    /// `children.NAME.uplinks` does not list it.
    NotAllowed {
        /// The uplink.
        uplink: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ambiguous { uplink, child } => {
                write!(
                    f,
                    "`{uplink}` ends in `-{child}`, which names a child; rename the uplink"
                )
            }
            Self::NotAllowed { uplink } => write!(f, "`{uplink}` is not in the child's `uplinks`"),
        }
    }
}

/// What came of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Whether it is another one than before.
    pub changed: bool,
    /// How many different answers the child has given.
    pub generation: u64,
    /// What of it is refused.
    pub refused: Vec<Refusal>,
}

/// A child whose state is another one than was told last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The child.
    pub child: String,
    /// The state before.
    pub from: ChildState,
    /// The state now.
    pub to: ChildState,
    /// Why it is not fresh.
    pub why: Option<String>,
}

/// A child as it stands.
#[derive(Debug)]
pub struct View<'d> {
    /// Its name.
    pub name: &'d str,
    /// Where its uplink entry point is.
    pub address: &'d str,
    /// How much its word is worth.
    pub state: ChildState,
    /// Since it last said that its answer holds.
    pub answered: Option<Duration>,
    /// Since the end of the last poll.
    pub polled: Option<Duration>,
    /// How many different answers it has given.
    pub generation: u64,
    /// The entity tag of its answer.
    pub tag: Option<&'d str>,
    /// What it offers, and why it is not used where it is refused.
    pub offers: Vec<(&'d Advertised, Option<Refusal>)>,
    /// Why the last poll failed.
    pub failure: Option<&'d str>,
    /// How its polls ended.
    pub tally: Tally,
}

/// A child's answer, to be remembered over a restart.
#[derive(Clone, Debug)]
pub struct Keepsake {
    /// The child.
    pub child: String,
    /// Whom it was asked of.
    pub address: String,
    /// The entity tag of the answer.
    pub tag: Option<String>,
    /// How long ago the child said that it holds.
    pub age: Duration,
    /// The answer.
    pub answer: Advertisement,
}

impl Directory {
    /// Nothing is known of the children yet.
    pub fn new(config: &Multicluster) -> Self {
        let mut directory = Self {
            children: BTreeMap::new(),
            stale_after: config.stale_after,
            tallies: BTreeMap::new(),
            moved: false,
        };
        directory.configure(config);
        directory
    }

    /// Takes over another configuration; a child at the same address keeps its answer. What it may offer is judged anew
    /// whenever somebody asks.
    pub fn configure(&mut self, config: &Multicluster) {
        self.stale_after = config.stale_after;
        self.moved = true;
        let mut before = std::mem::take(&mut self.children);
        for (name, child) in &config.children {
            let same = |known: &Known| known.address == child.address.to_string();
            let known = before.remove(name).filter(same);
            let mut known = known.unwrap_or_else(|| Known::new(child));
            known.allowed.clone_from(&child.uplinks);
            self.children.insert(name.clone(), known);
            self.tallies.entry(name.clone()).or_default();
        }
    }

    /// The entity tag of a child's last answer, to ask whether it still holds.
    pub fn tag(&self, child: &str) -> Option<&str> {
        self.children.get(child)?.last.as_ref()?.tag.as_deref()
    }

    /// Takes a child's answer and its entity tag.
    pub fn record(&mut self, child: &str, answer: Advertisement, tag: Option<String>, now: Instant) -> Taken {
        let names = self.names();
        let Some(known) = self.children.get_mut(child) else {
            return Taken::default();
        };
        let changed = known.last.as_ref().is_none_or(|last| last.answer != answer);
        known.generation += u64::from(changed);
        let refused = answer.uplinks.iter();
        let refused = refused.filter_map(|offer| known.refusal(child, offer, &names));
        let taken = Taken {
            changed,
            generation: known.generation,
            refused: refused.collect(),
        };
        known.last = Some(Last {
            answer,
            tag,
            confirmed: now,
        });
        known.heard(now);
        self.moved |= changed;
        let tally = self.tallies.entry(child.to_owned()).or_default();
        if changed {
            tally.changed += 1;
        } else {
            tally.unchanged += 1;
        }
        taken
    }

    /// A child said that its last answer still holds. Returns whether it had given one.
    pub fn unchanged(&mut self, child: &str, now: Instant) -> bool {
        let Some(known) = self.children.get_mut(child) else {
            return false;
        };
        let Some(last) = &mut known.last else {
            return false;
        };
        last.confirmed = now;
        known.heard(now);
        self.tallies.entry(child.to_owned()).or_default().unchanged += 1;
        true
    }

    /// A child could not be polled. Returns whether that is for another reason than the last time.
    pub fn failed(&mut self, child: &str, why: String, now: Instant) -> bool {
        let Some(known) = self.children.get_mut(child) else {
            return false;
        };
        known.polled = Some(now);
        self.tallies.entry(child.to_owned()).or_default().failed += 1;
        let news = known.failure.as_ref() != Some(&why);
        known.failure = Some(why);
        news
    }

    /// Takes what was remembered of a child, where it is the same child and not too old. It is stale until the child
    /// is polled.
    pub fn restore(&mut self, kept: Keepsake, now: Instant) -> bool {
        let limit = self.stale_after;
        let Some(known) = self.children.get_mut(&kept.child) else {
            return false;
        };
        let Some(confirmed) = now.checked_sub(kept.age) else {
            return false;
        };
        if known.last.is_some() || known.address != kept.address || kept.age >= limit {
            return false;
        }
        known.last = Some(Last {
            answer: kept.answer,
            tag: kept.tag,
            confirmed,
        });
        known.generation += 1;
        known.failure = Some(REMEMBERED.to_owned());
        self.moved = true;
        true
    }

    /// What is worth remembering over a restart.
    pub fn keepsakes(&self, now: Instant) -> Vec<Keepsake> {
        let kept = self.children.iter().filter_map(|(child, known)| {
            let last = known.last.as_ref()?;
            Some(Keepsake {
                child: child.clone(),
                address: known.address.clone(),
                tag: last.tag.clone(),
                age: now.saturating_duration_since(last.confirmed),
                answer: last.answer.clone(),
            })
        });
        kept.filter(|kept| kept.age < self.stale_after).collect()
    }

    /// When a child's last answer ceases to count, where nothing is heard of it until then.
    pub fn expiry(&self, child: &str) -> Option<Instant> {
        let known = self.children.get(child)?;
        let last = known.last.as_ref().filter(|_| known.failure.is_some())?;
        last.confirmed.checked_add(self.stale_after)
    }

    /// What changed since the last call: the states of children, and whether the services may be others.
    pub fn settle(&mut self, now: Instant) -> (Vec<Change>, bool) {
        let (limit, mut changes) = (self.stale_after, Vec::new());
        for (child, known) in &mut self.children {
            let to = known.state(now, limit);
            let from = std::mem::replace(&mut known.told, to);
            if from == to {
                continue;
            }
            // Stale is not as good as fresh where another child is that.
            self.moved |= from.serves() || to.serves();
            changes.push(Change {
                child: child.clone(),
                from,
                to,
                why: known.failure.clone(),
            });
        }
        (changes, std::mem::take(&mut self.moved))
    }

    /// The services that stand at `now`, sorted by name. Where a fresh child offers an uplink, stale ones get no new clients
    /// for it: what they offer may be another by now.
    pub fn services(&self, now: Instant) -> Vec<DiscoveredService> {
        let (names, mut services) = (self.names(), BTreeMap::<String, DiscoveredService>::new());
        for (child, known) in &self.children {
            let state = known.state(now, self.stale_after);
            if !state.serves() {
                continue;
            }
            let offers = known.offers();
            for offer in offers.filter(|offer| known.refusal(child, offer, &names).is_none()) {
                let uplink = &offer.name;
                for name in [uplink.clone(), format!("{uplink}-{child}")] {
                    let service = services.entry(name.clone()).or_insert_with(|| DiscoveredService {
                        name,
                        uplink: uplink.clone(),
                        members: Vec::new(),
                    });
                    service.members.push(Member {
                        child: child.clone(),
                        offer: offer.clone(),
                        state,
                    });
                }
            }
        }
        services
            .into_values()
            .map(DiscoveredService::fresh_first)
            .collect()
    }

    /// The children as they stand at `now`, sorted by name.
    pub fn children(&self, now: Instant) -> Vec<View<'_>> {
        let names = self.names();
        let since = |at: Instant| now.saturating_duration_since(at);
        let describe = self.children.iter().map(|(name, known)| View {
            name,
            address: &known.address,
            state: known.state(now, self.stale_after),
            answered: known.last.as_ref().map(|last| since(last.confirmed)),
            polled: known.polled.map(since),
            generation: known.generation,
            tag: known.last.as_ref().and_then(|last| last.tag.as_deref()),
            offers: known
                .offers()
                .map(|offer| (offer, known.refusal(name, offer, &names)))
                .collect(),
            failure: known.failure.as_deref(),
            tally: self.tallies.get(name).copied().unwrap_or_default(),
        });
        describe.collect()
    }

    /// How the polls of all children ended, those that are configured no more too.
    pub fn tallies(&self) -> &BTreeMap<String, Tally> {
        &self.tallies
    }

    fn names(&self) -> Vec<String> {
        self.children.keys().cloned().collect()
    }
}

impl Known {
    fn new(child: &Child) -> Self {
        Self {
            allowed: child.uplinks.clone(),
            address: child.address.to_string(),
            last: None,
            failure: None,
            polled: None,
            generation: 0,
            told: ChildState::Unknown,
        }
    }

    fn heard(&mut self, now: Instant) {
        self.polled = Some(now);
        self.failure = None;
    }

    fn offers(&self) -> impl Iterator<Item = &Advertised> {
        self.last.iter().flat_map(|last| &last.answer.uplinks)
    }

    /// Why an offer of `child`, which is this one, is not taken. Another set of children makes other names ambiguous, so
    /// it is asked anew each time.
    fn refusal(&self, child: &str, offer: &Advertised, names: &[String]) -> Option<Refusal> {
        let uplink = offer.name.clone();
        if let Some(child) = ambiguous(&uplink, child, names) {
            return Some(Refusal::Ambiguous { uplink, child });
        }
        let allowed = self.allowed.as_ref().is_none_or(|list| list.contains(&uplink));
        (!allowed).then_some(Refusal::NotAllowed { uplink })
    }

    fn state(&self, now: Instant, stale_after: Duration) -> ChildState {
        let young = |last: &Last| now.saturating_duration_since(last.confirmed) < stale_after;
        match (&self.last, &self.failure) {
            (None, None) => ChildState::Unknown,
            (Some(_), None) => ChildState::Fresh,
            (Some(last), Some(_)) if young(last) => ChildState::Stale,
            (_, Some(_)) => ChildState::Expired,
        }
    }
}

/// The child whose own services an uplink of `offering` would be taken for.
///
/// `orders-c0` of a lying child would take `orders` of child `c0`. Where children are called `b` and `a-b`,
/// `orders-a` of `b` would as `orders-a-b` take `orders` of `a-b`: the child with the longer name has it.
fn ambiguous(uplink: &str, offering: &str, children: &[String]) -> Option<String> {
    let ends_in = |name: &str, child: &str| name.strip_suffix(child).is_some_and(|rest| rest.ends_with('-'));
    let own = format!("{uplink}-{offering}");
    let takes =
        |child: &&String| ends_in(uplink, child) || (child.len() > offering.len() && ends_in(&own, child));
    children.iter().find(takes).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_config::model::{Scheme, ServerPlace, ServerUrl};

    const STALE_AFTER: Duration = Duration::from_secs(60);

    fn config(children: &[(&str, Option<&[&str]>)]) -> Multicluster {
        let child = |(name, uplinks): &(&str, Option<&[&str]>)| {
            let child = Child {
                address: ServerUrl {
                    scheme: Scheme::Https,
                    at: ServerPlace::Host {
                        host: format!("{name}.example"),
                        port: 9443,
                    },
                },
                servers_transport: "default".to_owned(),
                uplinks: uplinks.map(|list| list.iter().map(|s| (*s).to_owned()).collect()),
            };
            ((*name).to_owned(), child)
        };
        Multicluster {
            poll_interval: Duration::from_secs(5),
            poll_timeout: Duration::from_secs(5),
            stale_after: STALE_AFTER,
            children: children.iter().map(child).collect(),
        }
    }

    fn offers(uplinks: &[(&str, u32)]) -> Advertisement {
        let offer = |(name, weight): &(&str, u32)| Advertised {
            name: (*name).to_owned(),
            weight: *weight,
            health_check: None,
            passive_health_check: None,
        };
        Advertisement::new(uplinks.iter().map(offer).collect())
    }

    fn taken(directory: &mut Directory, child: &str, answer: Advertisement, now: Instant) -> Vec<Refusal> {
        directory.record(child, answer, None, now).refused
    }

    fn names(directory: &Directory, now: Instant) -> Vec<String> {
        directory
            .services(now)
            .into_iter()
            .map(|service| service.name)
            .collect()
    }

    #[test]
    fn a_name_gathers_all_children_that_offer_it_and_each_child_has_its_own() {
        let mut directory = Directory::new(&config(&[("c0", None), ("c1", None)]));
        let now = Instant::now();
        assert!(taken(&mut directory, "c0", offers(&[("orders", 10)]), now).is_empty());
        assert!(
            directory
                .record("c1", offers(&[("orders", 0), ("bills", 1)]), None, now)
                .refused
                .is_empty()
        );
        assert_eq!(
            names(&directory, now),
            ["bills", "bills-c1", "orders", "orders-c0", "orders-c1"]
        );
        let orders = directory
            .services(now)
            .into_iter()
            .find(|s| s.name == "orders")
            .expect("there");
        let shares: Vec<_> = orders
            .members
            .iter()
            .map(|m| (m.child.as_str(), m.offer.weight))
            .collect();
        assert_eq!(shares, [("c0", 10), ("c1", 0)]);
        assert_eq!(directory.services(now)[3].uplink, "orders");
    }

    #[test]
    fn a_lying_child_cannot_take_anothers_name() {
        let mut directory = Directory::new(&config(&[("c0", None), ("evil", None)]));
        let now = Instant::now();
        let refused = taken(
            &mut directory,
            "evil",
            offers(&[("orders-c0", 1), ("x-evil", 1), ("c0", 1)]),
            now,
        );
        assert_eq!(refused.len(), 2);
        assert_eq!(names(&directory, now), ["c0", "c0-evil"]);
    }

    #[test]
    fn of_two_children_whose_names_end_alike_the_longer_keeps_its_services() {
        let children = config(&[("a-b", None), ("b", None)]);
        let now = Instant::now();
        for order in [["a-b", "b"], ["b", "a-b"]] {
            let mut directory = Directory::new(&children);
            let mut refused = Vec::new();
            for child in order {
                refused.extend(taken(
                    &mut directory,
                    child,
                    offers(&[("orders", 1), ("orders-a", 1)]),
                    now,
                ));
            }
            let taken = Refusal::Ambiguous {
                uplink: "orders-a".to_owned(),
                child: "a-b".to_owned(),
            };
            assert_eq!(refused, [taken]);
            let services = directory.services(now);
            let own = services
                .iter()
                .find(|service| service.name == "orders-a-b")
                .expect("there");
            assert_eq!(own.uplink, "orders");
            assert_eq!(
                own.members,
                [Member {
                    child: "a-b".to_owned(),
                    offer: offers(&[("orders", 1)]).uplinks.remove(0),
                    state: ChildState::Fresh,
                }]
            );
            assert!(services.iter().any(|service| service.name == "orders-b"));
        }
    }

    #[test]
    fn a_name_that_a_new_child_makes_ambiguous_goes_with_the_reload() {
        let mut directory = Directory::new(&config(&[("b", None)]));
        let now = Instant::now();
        assert!(
            directory
                .record(
                    "b",
                    offers(&[("orders-a", 1), ("bills-c", 1), ("x", 1)]),
                    None,
                    now
                )
                .refused
                .is_empty()
        );
        directory.configure(&config(&[("a-b", None), ("b", None), ("c", None)]));
        assert_eq!(names(&directory, now), ["x", "x-b"]);
    }

    #[test]
    fn a_child_offers_only_what_it_may() {
        let mut directory = Directory::new(&config(&[("c0", Some(&["orders"]))]));
        let now = Instant::now();
        let refused = taken(&mut directory, "c0", offers(&[("orders", 1), ("admin", 1)]), now);
        assert_eq!(
            refused,
            [Refusal::NotAllowed {
                uplink: "admin".to_owned()
            }]
        );
        assert_eq!(names(&directory, now), ["orders", "orders-c0"]);
    }

    #[test]
    fn a_silent_child_is_stale_then_gone_and_comes_back() {
        let mut directory = Directory::new(&config(&[("c0", None)]));
        let start = Instant::now();
        assert!(names(&directory, start).is_empty());
        taken(&mut directory, "c0", offers(&[("orders", 1)]), start);
        directory.failed("c0", "refused".to_owned(), start);
        assert_eq!(
            names(&directory, start + STALE_AFTER - Duration::from_secs(1)).len(),
            2
        );
        assert!(names(&directory, start + STALE_AFTER).is_empty());
        directory.unchanged("c0", start + STALE_AFTER);
        assert_eq!(names(&directory, start + STALE_AFTER).len(), 2);
    }

    #[test]
    fn a_reload_keeps_the_answers_of_children_that_did_not_change() {
        let mut directory = Directory::new(&config(&[("c0", None), ("c1", None)]));
        let now = Instant::now();
        taken(&mut directory, "c0", offers(&[("orders", 1)]), now);
        taken(&mut directory, "c1", offers(&[("orders", 1)]), now);
        directory.configure(&config(&[("c0", None), ("c1", Some(&[])), ("c2", None)]));
        assert_eq!(names(&directory, now), ["orders", "orders-c0"]);
    }

    #[test]
    fn a_name_that_is_ambiguous_no_more_is_there_again() {
        let both = config(&[("b", None), ("c", None)]);
        let mut directory = Directory::new(&both);
        let now = Instant::now();
        assert_eq!(
            taken(&mut directory, "b", offers(&[("bills-c", 1)]), now).len(),
            1
        );
        assert!(names(&directory, now).is_empty());
        directory.configure(&config(&[("b", None)]));
        assert_eq!(names(&directory, now), ["bills-c", "bills-c-b"]);
    }

    #[test]
    fn nothing_is_unchanged_before_there_was_an_answer() {
        let mut directory = Directory::new(&config(&[("c0", None)]));
        let now = Instant::now();
        assert!(!directory.unchanged("c0", now) && !directory.unchanged("nobody", now));
        assert_eq!(directory.children(now)[0].state, ChildState::Unknown);
    }

    #[test]
    fn each_change_of_state_is_told_once_and_services_only_where_they_may_differ() {
        let mut directory = Directory::new(&config(&[("c0", None)]));
        let start = Instant::now();
        assert_eq!(directory.settle(start), (vec![], true), "a configuration is new");
        let mut check =
            |act: &dyn Fn(&mut Directory, Instant), after: u64, to: Option<ChildState>, moved: bool| {
                let now = start + Duration::from_secs(after);
                act(&mut directory, now);
                let (changes, services) = directory.settle(now);
                assert_eq!(changes.iter().map(|c| c.to).next(), to, "after {after} s");
                assert_eq!(services, moved, "after {after} s");
                assert!(changes.len() < 2);
            };
        let answers = |weight: u32| {
            move |directory: &mut Directory, now: Instant| {
                let _ = directory.record("c0", offers(&[("orders", weight)]), Some("t".to_owned()), now);
            }
        };
        let fails = |directory: &mut Directory, now: Instant| {
            directory.failed("c0", "refused".to_owned(), now);
        };
        let holds = |directory: &mut Directory, now: Instant| {
            assert!(directory.unchanged("c0", now));
        };
        let waits = |_: &mut Directory, _: Instant| {};
        check(&answers(1), 0, Some(ChildState::Fresh), true);
        check(&answers(1), 1, None, false);
        check(&answers(2), 2, None, true);
        check(&fails, 3, Some(ChildState::Stale), true);
        check(&fails, 4, None, false);
        check(&waits, 62, Some(ChildState::Expired), true);
        check(&holds, 63, Some(ChildState::Fresh), true);
        let tally = directory.tallies()["c0"];
        assert_eq!((tally.changed, tally.unchanged, tally.failed), (2, 2, 2));
    }

    #[test]
    fn what_was_remembered_counts_while_it_is_young_and_of_the_same_child() {
        let children = config(&[("c0", None), ("c1", None)]);
        let now = Instant::now() + Duration::from_secs(1000);
        let mut before = Directory::new(&children);
        let _ = before.record("c0", offers(&[("orders", 3)]), Some("t".to_owned()), now);
        let kept = before.keepsakes(now + Duration::from_secs(10));
        assert_eq!((kept.len(), kept[0].age), (1, Duration::from_secs(10)));
        let check = |change: &dyn Fn(&mut Keepsake), expected: bool| {
            let (mut directory, mut kept) = (Directory::new(&children), kept[0].clone());
            change(&mut kept);
            assert_eq!(directory.restore(kept, now), expected);
            assert_eq!(!directory.services(now).is_empty(), expected);
            directory
        };
        let directory = check(&|_| {}, true);
        let child = &directory.children(now)[0];
        assert_eq!((child.state, child.tag), (ChildState::Stale, Some("t")));
        assert_eq!(directory.expiry("c0"), Some(now + Duration::from_secs(50)));
        check(&|kept| kept.age = STALE_AFTER, false);
        check(&|kept| kept.address = "https://other:1".to_owned(), false);
        check(&|kept| kept.child = "c9".to_owned(), false);
        assert!(before.keepsakes(now + STALE_AFTER).is_empty());
        let kept = kept[0].clone();
        assert!(!before.restore(kept, now), "what is known is newer");
    }

    #[test]
    fn a_stale_child_drains_while_a_fresh_one_takes_its_place() {
        let mut directory = Directory::new(&config(&[("c0", None), ("c1", None)]));
        let now = Instant::now();
        let weights = |directory: &Directory, name: &str| {
            let mut all = directory.services(now).into_iter();
            let service = all.find(|service| service.name == name).expect("there");
            service
                .members
                .iter()
                .map(|member| member.offer.weight)
                .collect::<Vec<_>>()
        };
        let _ = directory.record("c0", offers(&[("orders", 3)]), None, now);
        let _ = directory.record("c1", offers(&[("orders", 5)]), None, now);
        directory.failed("c0", "refused".to_owned(), now);
        assert_eq!(weights(&directory, "orders"), [0, 5]);
        assert_eq!(weights(&directory, "orders-c0"), [3], "there is no other");
        directory.failed("c1", "refused".to_owned(), now);
        assert_eq!(weights(&directory, "orders"), [3, 5]);
        let _ = directory.record("c1", offers(&[("orders", 0)]), None, now);
        assert_eq!(
            weights(&directory, "orders"),
            [3, 0],
            "a child that drains takes nobody's place"
        );
    }
}
