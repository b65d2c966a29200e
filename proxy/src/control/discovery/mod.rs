//! Polling the children: who advertises what, published to the workers when it changes.
//!
//! One task a child. What is known of the children is the [`crate::uplink::directory`]'s; when to ask is [`pace`]'s, how
//! [`asking`]'s, and what outlives the process [`memory`]'s.

mod asking;
mod memory;
mod pace;

pub(super) use memory::{Memory, recall};

use super::state::State;
use crate::{
    balance::Picker,
    snapshot::Service,
    uplink::{
        directory::{Change, ChildState, DiscoveredService, Refusal, Taken},
        wire::Advertisement,
    },
    upstream::{Pool, Server, TransportOptions},
};
use asking::{Answer, PollError};
use pace::{Ended, Pace};
use std::{
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::AbortHandle;

/// Refused uplinks of one answer that are named in the log, and offered ones: a child may offer thousands, each poll anew.
const NAMES_LOGGED: usize = 8;

/// The polls of a child that run; dropping them ends them.
pub(super) struct Running {
    child: String,
    server: Arc<Server>,
    interval: Duration,
    limit: Duration,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Stops the polls that the current configuration does not want, and starts those that it wants and that do not run.
pub(super) fn restart(state: &Rc<State>) {
    let (_, snapshot) = state.published().read();
    let cluster = state.config().multicluster;
    let (interval, limit) = (cluster.poll_interval, cluster.poll_timeout);
    let mut running = state.polls.take();
    running.retain(|poll| {
        let wanted = snapshot.children.get(&poll.child);
        let same = wanted.is_some_and(|server| Arc::ptr_eq(server, &poll.server));
        same && (poll.interval, poll.limit) == (interval, limit)
    });
    for (child, server) in &snapshot.children {
        if running.iter().any(|poll| poll.child == *child) {
            continue;
        }
        let poll = Poll {
            child: child.clone(),
            server: patient(server),
            pool: Pool::default(),
            pace: Pace::new(interval),
            dice: Picker::unforeseen(&[]),
            limit,
        };
        let task = tokio::task::spawn_local(poll.run(Rc::clone(state)));
        running.push(Running {
            child: child.clone(),
            server: Arc::clone(server),
            interval,
            limit,
            task: task.abort_handle(),
        });
    }
    *state.polls.borrow_mut() = running;
    publish(state);
}

/// The same server with all the time that a poll may take: its transport's `response_header` is for requests.
fn patient(server: &Server) -> Arc<Server> {
    let transport = TransportOptions {
        response_header: None,
        ..TransportOptions::clone(&server.transport)
    };
    Arc::new(Server {
        transport: Arc::new(transport),
        ..Server::clone(server)
    })
}

/// The polls of one child.
struct Poll {
    child: String,
    server: Arc<Server>,
    pool: Pool,
    pace: Pace,
    dice: Picker,
    limit: Duration,
}

impl Poll {
    async fn run(mut self, state: Rc<State>) {
        loop {
            let tag = state.directory.borrow().tag(&self.child).map(str::to_owned);
            let wait = self.pace.wait();
            let limit = match tag {
                Some(_) => self.limit.saturating_add(Duration::from_secs(wait)),
                None => self.limit,
            };
            let began = Instant::now();
            let asked = asking::ask(&self.pool, &self.server, tag.as_deref(), wait);
            let outcome = tokio::time::timeout(limit, asked)
                .await
                .unwrap_or(Err(PollError::Timeout(limit)));
            let ended = self.take(&state, outcome);
            if ended == Ended::Failed {
                // Whatever was wrong with the connection, the next poll is not to meet it again.
                self.pool.forget(&self.server);
            }
            publish(&state);
            let pause = self
                .pace
                .rest(ended, began.elapsed(), |bound| self.dice.below(bound));
            self.rest(&state, Instant::now() + pause).await;
        }
    }

    /// Tells the directory how a poll ended, and the log where that is news.
    fn take(&self, state: &State, outcome: Result<Answer, PollError>) -> Ended {
        let (mut directory, now) = (state.directory.borrow_mut(), Instant::now());
        match outcome {
            Ok(Answer::Unchanged) if directory.unchanged(&self.child, now) => Ended::Unchanged,
            // The answer that it speaks of was dropped by a reload meanwhile.
            Ok(Answer::Unchanged) => Ended::Changed,
            Ok(Answer::Offers(answer, tag)) => {
                let said = summary(&answer);
                let taken = directory.record(&self.child, answer, tag, now);
                if !taken.changed {
                    return Ended::Unchanged;
                }
                self.say(&taken, &said);
                Ended::Changed
            }
            Err(error) => {
                let why = error.reason();
                if directory.failed(&self.child, why.clone(), now) {
                    tracing::warn!(child = self.child, error = why, "child cannot be polled");
                }
                Ended::Failed
            }
        }
    }

    fn say(&self, taken: &Taken, offers: &str) {
        let generation = taken.generation;
        tracing::info!(
            child = self.child,
            generation,
            offers,
            "the child offers other uplinks"
        );
        for refusal in taken.refused.iter().take(NAMES_LOGGED) {
            say_refused(&self.child, refusal);
        }
        if let Some(more @ 1..) = taken.refused.len().checked_sub(NAMES_LOGGED) {
            tracing::warn!(child = self.child, more, "more advertised uplinks are refused");
        }
    }

    /// Waits; where the child's last answer ceases to count meanwhile, that is published then.
    async fn rest(&self, state: &Rc<State>, until: Instant) {
        let expiry = state.directory.borrow().expiry(&self.child);
        if let Some(expiry) = expiry.filter(|at| *at < until && *at > Instant::now()) {
            tokio::time::sleep_until(expiry.into()).await;
            publish(state);
        }
        tokio::time::sleep_until(until.into()).await;
    }
}

fn say_refused(child: &str, refusal: &Refusal) {
    tracing::warn!(child, %refusal, "an advertised uplink is refused");
}

/// The first uplinks of an answer with their weights, for the log.
fn summary(answer: &Advertisement) -> String {
    let shown = answer.uplinks.iter().take(NAMES_LOGGED);
    let mut shown: Vec<String> = shown
        .map(|offer| format!("{} ({})", offer.name, offer.weight))
        .collect();
    if let Some(more @ 1..) = answer.uplinks.len().checked_sub(NAMES_LOGGED) {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

/// Publishes what the children offer, where it changed, and says whose state did.
pub(super) fn publish(state: &Rc<State>) {
    let now = Instant::now();
    let (changes, moved) = state.directory.borrow_mut().settle(now);
    changes.iter().for_each(say_change);
    if moved {
        let services = state.directory.borrow().services(now);
        let (_, snapshot) = state.published().read();
        if !same(&services, &snapshot.discovered) {
            tracing::info!(services = services.len(), "services of the children changed");
            drop(snapshot);
            state.offer(&services);
        }
    }
    let loaded = state.loaded();
    if !loaded.config.multicluster.children.is_empty() {
        let (state_dir, stale_after) = (
            &loaded.config.proxy.state_dir,
            loaded.config.multicluster.stale_after,
        );
        let (mut memory, directory) = (state.memory.borrow_mut(), state.directory.borrow());
        memory.keep(state_dir, &directory, stale_after, moved);
    }
}

fn say_change(change: &Change) {
    let Change { child, from, to, why } = change;
    let (from, why) = (from.word(), why.as_deref().unwrap_or_default());
    match to {
        ChildState::Fresh => tracing::info!(child, from, "child is fresh"),
        ChildState::Unknown => tracing::info!(child, from, "child is unknown"),
        ChildState::Stale => tracing::warn!(child, from, why, "child is stale; its last answer counts"),
        ChildState::Expired => {
            tracing::error!(child, from, why, "child is expired; its uplinks are not used")
        }
    }
}

fn same(found: &[DiscoveredService], known: &HashMap<String, Arc<Service>>) -> bool {
    found.len() == known.len()
        && found.iter().all(|service| {
            known
                .get(&service.name)
                .is_some_and(|known| known.advertised.as_ref() == Some(service))
        })
}
