//! Servers that share requests: who of them can be asked now, and who is.

use super::{FULL_SHARE, Health, Line, Moment, Picker, Standing, Tried, picker::affinity};
use crate::io;
use sallyport_config::model::service::{PassiveHealthCheck, Queue, Servers, Strategy};
use std::{net::IpAddr, num::NonZeroU32, pin::pin, sync::Arc, time::Duration};

/// One of them.
#[derive(Debug)]
pub struct Member {
    /// Its share; one of 0 gets only requests that are to stay there.
    pub weight: u32,
    /// What it is to hashing: [`super::key_of`] its name.
    pub key: u64,
    /// How it stands.
    pub standing: Arc<Standing>,
    /// What it is until its first probe has ended; `None`: it is not probed.
    pub probed: Option<Health>,
    /// What ejects it.
    pub passive: Option<PassiveHealthCheck>,
}

/// How one is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The strategy.
    pub strategy: Strategy,
    /// How long one that came back takes to its whole share.
    pub slow_start: Duration,
    /// Requests that one has at once.
    pub requests_max: Option<NonZeroU32>,
    /// Who waits where all are full.
    pub queue: Queue,
}

impl Rules {
    /// Those of a service.
    pub fn of(servers: &Servers) -> Self {
        Self {
            strategy: servers.strategy,
            slow_start: servers.slow_start,
            requests_max: servers.requests_max,
            queue: servers.queue,
        }
    }

    /// Turns, and nothing else.
    pub fn turns() -> Self {
        Self {
            strategy: Strategy::Wrr,
            slow_start: Duration::ZERO,
            requests_max: None,
            queue: Queue {
                waiting_max: 0,
                timeout: Duration::ZERO,
            },
        }
    }
}

/// Servers that share requests.
#[derive(Debug)]
pub struct Group {
    members: Vec<Member>,
    rules: Rules,
    line: Arc<Line>,
    /// Nothing but turns decides.
    plain: bool,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub client: IpAddr,
    /// Who was tried already.
    pub tried: &'a Tried,
    /// Where the client is to stay.
    pub stays: Option<usize>,
    /// Whether the client was led here to stay, by a cookie of a service in front: then servers that take no new clients
    /// are asked too, where no other is there.
    pub kept: bool,
}

/// Who gets a request.
#[derive(Debug)]
pub struct Seat {
    /// The place in the list.
    pub place: usize,
    /// Counts the request among those under way, where they are counted.
    pub lease: Option<Lease>,
}

/// A request that counts as under way until this is dropped.
#[derive(Debug)]
pub struct Lease {
    standing: Arc<Standing>,
    line: Arc<Line>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.standing.give();
        self.line.freed();
    }
}

/// What asking for a seat comes to.
#[derive(Debug)]
pub enum Pick {
    /// This one.
    Seat(Seat),
    /// Every server that could be asked has all the requests that it may have.
    Full,
    /// No server can be asked.
    Nobody,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// No server can be asked.
    Nobody,
    /// Too many wait already.
    QueueFull,
    /// No server had room in time.
    QueueTimeout,
}

impl Group {
    /// These servers under these rules; who waits for them waits in `line`.
    pub fn new(members: Vec<Member>, rules: Rules, line: Arc<Line>) -> Self {
        let judged = |member: &Member| member.probed.is_some() || member.passive.is_some();
        let plain =
            rules.strategy == Strategy::Wrr && rules.requests_max.is_none() && !members.iter().any(judged);
        Self {
            members,
            rules,
            line,
            plain,
        }
    }

    /// The servers.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Their weights.
    pub fn weights(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.weight).collect()
    }

    /// The queue.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// What ejects the server at `place`.
    pub fn passive(&self, place: usize) -> Option<&PassiveHealthCheck> {
        self.members.get(place)?.passive.as_ref()
    }

    /// Whether it matters how soon servers answer.
    pub fn is_timed(&self) -> bool {
        self.rules.strategy == Strategy::LeastTime
    }

    /// Whether some server takes new clients.
    pub fn is_up(&self, now: Moment) -> bool {
        self.plain && self.members.iter().any(|member| member.weight > 0)
            || self.members.iter().any(|member| member.can_be_asked(now))
    }

    /// Whether some server takes clients that are to stay, those that take no new ones included.
    pub fn keeps(&self, now: Moment) -> bool {
        self.members
            .iter()
            .any(|member| member.standing.is_available(now))
    }

    /// Whether some server has taken new clients for at least so long.
    pub fn is_settled(&self, time: Duration, now: Moment) -> bool {
        let settled = |member: &Member| {
            let back = member.standing.back_since();
            member.can_be_asked(now) && (back == Moment::NEVER || now.since(back) >= time)
        };
        self.members.iter().any(settled)
    }

    /// Whether a server but this one takes new clients.
    pub fn has_another(&self, than: usize, now: Moment) -> bool {
        let mut members = self.members.iter().enumerate();
        members.any(|(place, member)| place != than && member.can_be_asked(now))
    }

    /// Whether a server that was not tried takes new clients.
    pub fn has_untried(&self, tried: &Tried, now: Moment) -> bool {
        let mut members = self.members.iter().enumerate();
        members.any(|(place, member)| !tried.contains(place) && member.can_be_asked(now))
    }

    /// The server of a request, at once; where nothing but turns decides, no clock is read.
    pub fn pick_now(&self, picker: &Picker, asked: &Asked<'_>) -> Pick {
        let plain = self.plain && asked.is_plain();
        let now = if plain { Moment::NEVER } else { Moment::now() };
        self.pick(picker, asked, now)
    }

    /// The server of a request at `now`.
    pub fn pick(&self, picker: &Picker, asked: &Asked<'_>, now: Moment) -> Pick {
        if self.plain && asked.is_plain() {
            let turn = picker.turns.next();
            return turn.map_or(Pick::Nobody, |place| Pick::Seat(Seat { place, lease: None }));
        }
        // Who waits was here before.
        if self.rules.requests_max.is_some() && self.line.waiting() > 0 {
            return self.full_or_nobody(asked, now);
        }
        self.seat(picker, asked, now)
    }

    /// The server of a request, where all are full after a wait in the queue. Cancelling gives the place up.
    ///
    /// # Errors
    /// Where the queue is full or too slow, or no server can be asked any more.
    pub async fn wait(&self, picker: &Picker, asked: &Asked<'_>) -> Result<Seat, NoSeat> {
        let Queue { waiting_max, timeout } = self.rules.queue;
        let waiting = self.line.join(waiting_max).ok_or(NoSeat::QueueFull)?;
        let called = async {
            loop {
                let mut call = pin!(waiting.call());
                // From here on no place is freed unheard.
                call.as_mut().enable();
                match self.seat(picker, asked, Moment::now()) {
                    Pick::Seat(seat) => return Ok(seat),
                    Pick::Nobody => return Err(NoSeat::Nobody),
                    Pick::Full => call.await,
                }
            }
        };
        io::timeout(Some(timeout), called)
            .await
            .unwrap_or(Err(NoSeat::QueueTimeout))
    }

    fn seat(&self, picker: &Picker, asked: &Asked<'_>, now: Moment) -> Pick {
        if let Some(seat) = asked.stays.and_then(|place| self.stay(place, asked, now)) {
            return Pick::Seat(seat);
        }
        // Another worker may take the last place first; each round then finds one server fewer.
        for _ in 0..=self.members.len() {
            let share = |place: usize| self.share(place, asked, now);
            let chosen = self.choose(picker, asked.client, &share, now);
            let Some(place) = chosen.or_else(|| self.drained(picker, asked, now)) else {
                break;
            };
            if let Some(seat) = self.take(place) {
                return Pick::Seat(seat);
            }
        }
        self.full_or_nobody(asked, now)
    }

    /// A server that takes no new clients, for one that was led here to stay.
    fn drained(&self, picker: &Picker, asked: &Asked<'_>, now: Moment) -> Option<usize> {
        if !asked.kept {
            return None;
        }
        let limit = self.rules.requests_max.map_or(u32::MAX, NonZeroU32::get);
        let willing = |(place, member): &(usize, &Member)| {
            let room = member.standing.under_way() < limit;
            room && !asked.tried.contains(*place) && member.standing.is_available(now)
        };
        let count = self.members.iter().enumerate().filter(willing).count();
        let mut all = self.members.iter().enumerate().filter(willing);
        all.nth(picker.below(count)).map(|(place, _)| place)
    }

    fn full_or_nobody(&self, asked: &Asked<'_>, now: Moment) -> Pick {
        let untried = |(place, member): (usize, &Member)| {
            !asked.tried.contains(place) && member.standing.is_available(now)
        };
        let waits_for_any = asked.kept && self.members.iter().enumerate().any(untried);
        if waits_for_any || self.has_untried(asked.tried, now) {
            Pick::Full
        } else {
            Pick::Nobody
        }
    }

    /// The server that a client is to stay at, while it is up and has room; also one that takes no new clients.
    fn stay(&self, place: usize, asked: &Asked<'_>, now: Moment) -> Option<Seat> {
        let member = self.members.get(place)?;
        let may = member.standing.is_available(now) && !asked.tried.contains(place);
        may.then(|| self.take(place)).flatten()
    }

    fn take(&self, place: usize) -> Option<Seat> {
        let member = self.members.get(place)?;
        let limit = self.rules.requests_max.map_or(u32::MAX, NonZeroU32::get);
        let counted = limit < u32::MAX || matches!(self.rules.strategy, Strategy::P2c | Strategy::LeastTime);
        if counted && !member.standing.take(limit) {
            return None;
        }
        let lease = counted.then(|| Lease {
            standing: Arc::clone(&member.standing),
            line: Arc::clone(&self.line),
        });
        Some(Seat { place, lease })
    }

    /// The share that a server has now, of [`FULL_SHARE`]; 0 where it cannot be asked.
    fn share(&self, place: usize, asked: &Asked<'_>, now: Moment) -> u32 {
        let Some(member) = self.members.get(place) else {
            return 0;
        };
        let limit = self.rules.requests_max.map_or(u32::MAX, NonZeroU32::get);
        let room = limit == u32::MAX || member.standing.under_way() < limit;
        if !room || asked.tried.contains(place) || !member.can_be_asked(now) {
            return 0;
        }
        member.standing.share(self.rules.slow_start, now)
    }

    fn choose(
        &self,
        picker: &Picker,
        client: IpAddr,
        share: &dyn Fn(usize) -> u32,
        now: Moment,
    ) -> Option<usize> {
        match self.rules.strategy {
            Strategy::Wrr => picker.turns.next_of(share),
            Strategy::P2c => self.less_busy_of_two(picker, share),
            Strategy::LeastTime => self.soonest(picker, share, now),
            Strategy::Hrw => self.nearest(client, share),
        }
    }

    /// Places with a share.
    fn willing<'a>(&'a self, share: &'a dyn Fn(usize) -> u32) -> impl Iterator<Item = (usize, u32)> + 'a {
        let shares = (0..self.members.len()).map(move |place| (place, share(place)));
        shares.filter(|(_, share)| *share > 0)
    }

    fn less_busy_of_two(&self, picker: &Picker, share: &dyn Fn(usize) -> u32) -> Option<usize> {
        let count = self.willing(share).count();
        let first = picker.below(count);
        let mut second = picker.below(count.saturating_sub(1));
        if second >= first {
            second += 1;
        }
        let drawn = self.willing(share).enumerate();
        let drawn = drawn.filter(|(index, _)| *index == first || *index == second);
        // A server that starts slowly counts as busier than it is.
        let busy = |(place, share): &(usize, u32)| {
            let under_way = self
                .members
                .get(*place)
                .map_or(0, |member| member.standing.under_way());
            u64::from(under_way + 1) * u64::from(FULL_SHARE) / u64::from(*share).max(1)
        };
        drawn
            .map(|(_, found)| found)
            .min_by_key(busy)
            .map(|(place, _)| place)
    }

    /// The least of average time, times requests under way and the new one, by weight; ties take turns. A server whose
    /// time is not known is taken to be as fast as the fastest.
    fn soonest(&self, picker: &Picker, share: &dyn Fn(usize) -> u32, now: Moment) -> Option<usize> {
        let time = |place: usize| self.members.get(place)?.standing.time(now);
        let fastest = self
            .willing(share)
            .filter_map(|(place, _)| time(place))
            .min()
            .unwrap_or(1);
        let cost = |place: usize, share: u32| {
            let member = self.members.get(place)?;
            let took =
                u128::from(time(place).unwrap_or(fastest)) * u128::from(member.standing.under_way() + 1);
            let weight = u128::from(member.weight) * u128::from(share);
            Some((took << 40) / weight.max(1))
        };
        let costs = self
            .willing(share)
            .filter_map(|(place, share)| Some((cost(place, share)?, place)));
        let (least, first) = costs.min()?;
        let tied = |place: usize| {
            let share = share(place);
            let ties = share > 0 && cost(place, share) == Some(least);
            if ties { share } else { 0 }
        };
        // Between the two looks the numbers may have moved.
        picker.turns.next_of(tied).or(Some(first))
    }

    fn nearest(&self, client: IpAddr, share: &dyn Fn(usize) -> u32) -> Option<usize> {
        let near = |(place, share): (usize, u32)| {
            let member = self.members.get(place)?;
            let weight = f64::from(member.weight) * f64::from(share);
            Some((affinity(client, member.key, weight), place))
        };
        let found = self.willing(share).filter_map(near);
        found
            .max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, place)| place)
    }
}

#[cfg(test)]
impl Group {
    /// How many requests a server may have.
    pub(super) fn limit(&self) -> Option<NonZeroU32> {
        self.rules.requests_max
    }

    /// The same servers with a limit.
    pub(super) fn limit_to(&mut self, limit: NonZeroU32, waiting_max: u32) {
        self.plain = false;
        self.rules.requests_max = Some(limit);
        self.rules.queue = Queue {
            waiting_max,
            timeout: Duration::from_secs(60),
        };
    }
}

impl Asked<'_> {
    /// Whether nothing is known that turns do not decide.
    fn is_plain(&self) -> bool {
        self.tried.is_empty() && self.stays.is_none() && !self.kept
    }
}

impl Member {
    /// Whether new clients may go there.
    fn can_be_asked(&self, now: Moment) -> bool {
        self.weight > 0 && self.standing.is_available(now)
    }
}
