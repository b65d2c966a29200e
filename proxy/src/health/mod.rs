//! Probes of servers: one task a server, on the control thread, over the connector that workers use too.
//!
//! It says how a server stands, and writes that into its [`Standing`]; who is asked then is
//! not its business. What probes came to outlives a reload with the standing, the tasks do not.

mod grpc;
mod probe;
mod redirect;
mod tcp;

use crate::{
    balance::{Change, Moment, Outcome, Picker, Standing},
    io::{self, AbortHandle, Instant},
    snapshot::{Asking, Probed},
    upstream::Pool,
};
use probe::Complaint;
use std::{collections::HashMap, rc::Rc, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Probes that are under way at once; one that waits for others is late, and no more.
const PROBES_MAX: usize = 1024;

/// Probes of the uplinks of one child that are under way at once.
const PROBES_OF_CHILD_MAX: usize = 16;
/// Between the beginnings of two of them, the first ones of all included.
const BETWEEN_PROBES_OF_CHILD: Duration = Duration::from_millis(10);

/// What the probes of one child's uplinks share, so that a child that asks for many, or changes them often, has them come
/// late and nobody else's.
struct Lane {
    turn: Semaphore,
    room: Semaphore,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            room: Semaphore::new(PROBES_OF_CHILD_MAX),
        }
    }
}

/// Probes that go on until they are not wanted any more.
pub struct Probes {
    /// By standing, which is a server's own.
    running: HashMap<usize, Running>,
    pool: Rc<Pool>,
    room: Rc<Semaphore>,
    /// By where a child is.
    lanes: HashMap<String, Rc<Lane>>,
}

struct Running {
    probed: Arc<Probed>,
    task: AbortHandle,
}

impl Default for Probes {
    fn default() -> Self {
        Self {
            running: HashMap::new(),
            pool: Rc::default(),
            room: Rc::new(Semaphore::new(PROBES_MAX)),
            lanes: HashMap::new(),
        }
    }
}

impl Probes {
    /// Probes these and no others; the first of each goes out at once, also where it was probed before.
    pub fn restart(&mut self, wanted: &[Arc<Probed>]) {
        for (_, running) in self.running.drain() {
            running.task.abort();
        }
        self.adjust(wanted);
    }

    /// Probes these and no others. What is asked as before goes on as before.
    pub fn adjust(&mut self, wanted: &[Arc<Probed>]) {
        let mut before = std::mem::take(&mut self.running);
        for probed in wanted {
            let identity = Arc::as_ptr(&probed.standing).addr();
            let known = before.remove(&identity);
            let running = match known {
                Some(known) if known.probed.is_like(probed) => known,
                other => {
                    other.inspect(|other| other.task.abort());
                    self.start(probed)
                }
            };
            self.running.insert(identity, running);
        }
        for (_, unwanted) in before {
            unwanted.task.abort();
        }
        self.lanes.retain(|_, lane| Rc::strong_count(lane) > 1);
        self.pool.reap();
    }

    fn start(&mut self, probed: &Arc<Probed>) -> Running {
        let lane = match &probed.asking {
            Asking::Http { uplink: Some(_), .. } => {
                let lane = self.lanes.entry(probed.server.clone()).or_default();
                Some(Rc::clone(lane))
            }
            Asking::Http { uplink: None, .. } | Asking::Tcp { .. } => None,
        };
        let watch = Watch {
            lane,
            probed: Arc::clone(probed),
            pool: Rc::clone(&self.pool),
            room: Rc::clone(&self.room),
            dice: Picker::unforeseen(&[]),
        };
        Running {
            probed: Arc::clone(probed),
            task: io::spawn(watch.run()).abort_handle(),
        }
    }
}

/// The probes of one server.
struct Watch {
    probed: Arc<Probed>,
    pool: Rc<Pool>,
    room: Rc<Semaphore>,
    /// Where it is an uplink's.
    lane: Option<Rc<Lane>>,
    dice: Picker,
}

impl Watch {
    async fn run(self) {
        let (rhythm, standing) = (&self.probed.rhythm, &*self.probed.standing);
        loop {
            let began = Instant::now();
            let result = {
                // None of them is ever closed.
                let _of_child = self.take_turn().await;
                let _room = self.room.acquire().await;
                io::timeout(Some(rhythm.timeout), self.ask())
                    .await
                    .unwrap_or(Err(Complaint::Late))
            };
            self.put_away(&result);
            self.take(standing, &result);
            let interval = if standing.is_up() {
                rhythm.interval
            } else {
                rhythm.unhealthy_interval
            };
            io::sleep_until(began + jittered(interval, &self.dice)).await;
        }
    }

    /// Waits until a probe of this child may begin.
    async fn take_turn(&self) -> Option<SemaphorePermit<'_>> {
        let lane = self.lane.as_ref()?;
        {
            let _turn = lane.turn.acquire().await;
            io::sleep(BETWEEN_PROBES_OF_CHILD).await;
        }
        lane.room.acquire().await.ok()
    }

    async fn ask(&self) -> Result<(), Complaint> {
        match &self.probed.asking {
            Asking::Http {
                server,
                check,
                uplink,
            } => probe::ask(&self.pool, server, check, uplink.as_ref()).await,
            Asking::Tcp {
                at,
                check,
                proxy_protocol,
            } => tcp::ask(&self.pool, at, check, proxy_protocol.as_ref()).await,
        }
    }

    /// Each probe is to find out whether the server takes connections. A child proves itself with each, and may offer
    /// many uplinks: there a connection that serves is kept.
    fn put_away(&self, result: &Result<(), Complaint>) {
        match &self.probed.asking {
            Asking::Http {
                server,
                uplink: Some(_),
                ..
            } if result.is_err() => self.pool.forget(server),
            Asking::Http { uplink: Some(_), .. } | Asking::Tcp { .. } => {}
            Asking::Http { server, .. } => self.pool.forget(server),
        }
    }

    fn take(&self, standing: &Standing, result: &Result<(), Complaint>) {
        let (outcome, cause) = match result {
            Ok(()) => (Outcome::Passed, String::new()),
            Err(complaint) => (Outcome::Failed, crate::fault::with_causes(complaint)),
        };
        let Probed {
            service,
            server,
            rhythm,
            line,
            ..
        } = &*self.probed;
        let change = standing.probed(outcome, rhythm.rise, rhythm.fall, Moment::now());
        match change {
            Some(Change::CameUp) => {
                tracing::info!(service, server, "server is up");
                if let Some(line) = line {
                    line.call_all();
                }
            }
            Some(Change::WentDown) => tracing::warn!(service, server, cause, "server is down"),
            None => {}
        }
        standing.complain(cause);
    }
}

/// The interval give or take a tenth, so that probes that began together do not stay together.
fn jittered(interval: Duration, dice: &Picker) -> Duration {
    let tenth = usize::try_from(interval.as_millis() / 10).unwrap_or(usize::MAX / 4);
    let off = Duration::from_millis(dice.below(2 * tenth + 1) as u64);
    interval + off - Duration::from_millis(tenth as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_spread_over_a_fifth_of_themselves() {
        let (second, dice) = (Duration::from_secs(1), Picker::new(&[], 7));
        let all: Vec<Duration> = (0..1000).map(|_| jittered(second, &dice)).collect();
        let (least, most) = (all.iter().min().expect("some"), all.iter().max().expect("some"));
        assert!(
            *least >= second * 9 / 10 && *most <= second * 11 / 10,
            "{least:?} {most:?}"
        );
        assert!(*most - *least > second / 6, "{least:?} {most:?}");
        let short = Duration::from_millis(9);
        assert_eq!(jittered(short, &dice), short);
    }
}
