//! Probes of servers: one task a server, on the control thread, over the connector that workers use too.
//!
//! It says how a server stands, and writes that into its [`Standing`]; who is asked then is not its business. What
//! probes came to outlives a reload with the standing, the tasks do not.

mod grpc;
mod probe;

use crate::{
    balance::{Change, Moment, Outcome, Picker, Standing},
    io::{self, AbortHandle, Instant},
    snapshot::{Service, Snapshot},
    upstream::{Pool, Server},
};
use sallyport_config::model::service::HealthCheck;
use std::{rc::Rc, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Probes that are under way at once; one that waits for others is late, and no more.
const PROBES_MAX: usize = 1024;

/// Starts the probes of all services; the first of each server goes out at once. They go on until they are aborted.
pub fn start(snapshot: &Snapshot) -> Vec<AbortHandle> {
    let room = Rc::new(Semaphore::new(PROBES_MAX));
    let mut started = Vec::new();
    for service in snapshot.services.values() {
        let Some(probes) = &service.probes else { continue };
        let pool = Rc::new(Pool::default());
        for (place, server) in probes.servers.iter().enumerate() {
            let watch = Watch {
                service: Arc::clone(service),
                place,
                server: Arc::clone(server),
                pool: Rc::clone(&pool),
                room: Rc::clone(&room),
                dice: Picker::unforeseen(&[]),
            };
            started.push(io::spawn(watch.run()).abort_handle());
        }
    }
    started
}

/// The probes of one server.
struct Watch {
    service: Arc<Service>,
    place: usize,
    server: Arc<Server>,
    pool: Rc<Pool>,
    room: Rc<Semaphore>,
    dice: Picker,
}

impl Watch {
    async fn run(self) {
        let (Some(probes), Some(member)) =
            (&self.service.probes, self.service.group.members().get(self.place))
        else {
            return;
        };
        let (check, standing) = (&probes.check, &*member.standing);
        loop {
            let began = Instant::now();
            let result = {
                // Never closed.
                let _room = self.room.acquire().await;
                let asked = probe::ask(&self.pool, &self.server, check);
                io::timeout(Some(check.timeout), asked)
                    .await
                    .unwrap_or(Err(probe::Complaint::Late))
            };
            // Each probe is to find out whether the server takes connections.
            self.pool.forget();
            self.take(check, standing, &result);
            let interval = if standing.is_up() {
                check.interval
            } else {
                check.unhealthy_interval
            };
            io::sleep_until(began + jittered(interval, &self.dice)).await;
        }
    }

    fn take(&self, check: &HealthCheck, standing: &Standing, result: &Result<(), probe::Complaint>) {
        let (outcome, cause) = match result {
            Ok(()) => (Outcome::Passed, String::new()),
            Err(complaint) => (Outcome::Failed, crate::fault::with_causes(complaint)),
        };
        let change = standing.probed(outcome, check.rise, check.fall, Moment::now());
        let (service, server) = (&self.service.name, self.server.url.to_string());
        match change {
            Some(Change::CameUp) => {
                tracing::info!(service, server, "server is up");
                self.service.group.line().call_all();
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
