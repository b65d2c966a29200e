//! Keeps what runs up to date between reloads: with the files of the allowlists and of TLS, and with the gate.
//!
//! One task, one wait. It says when to look; [`super::following`], [`super::listing`] and [`super::credentials`] say
//! what to do.

use super::{
    credentials, expiry, following, gatekeeper::is_used, listing, state::State, subscription::Subscription,
};
use crate::gate::watch::{AsyncWatch, Settle};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

/// How often files are looked at although nothing was told of them, as on a network file system.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Starts it; it lives as long as the process.
pub(super) fn start(state: &Rc<State>) {
    let keeper = Keeper {
        state: Rc::clone(state),
        watch: None,
        watched: BTreeSet::new(),
        burst: Settle::default(),
        gate: None,
        expiry: expiry::Said::default(),
    };
    drop(tokio::task::spawn_local(keeper.run()));
}

struct Keeper {
    state: Rc<State>,
    watch: Option<AsyncWatch>,
    watched: BTreeSet<PathBuf>,
    burst: Settle,
    gate: Option<Subscription>,
    expiry: expiry::Said,
}

impl Keeper {
    async fn run(mut self) {
        let mut reloaded = self.state.reloads();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.arm();
            let (trial_end, second_look) = (
                following::trial_end(&self.state),
                following::second_look(&self.state),
            );
            tokio::select! {
                () = changed(&mut self.watch) => self.burst.note(Instant::now()),
                () = at(self.burst.due()) => {
                    if self.burst.take(Instant::now()) {
                        self.take_files().await;
                    }
                }
                said = heard(&mut self.gate) => {
                    following::hear(&self.state, said).await;
                    self.look_at_files();
                }
                () = at(trial_end) => {
                    following::end_trial(&self.state).await;
                    self.look_at_files();
                }
                () = at(second_look) => following::follow(&self.state).await,
                _ = look.tick() => {
                    self.look_at_files();
                    self.expiry.look(&self.state);
                }
                // The sender is the state's, which this task holds.
                _ = reloaded.changed() => following::follow(&self.state).await,
            }
        }
    }

    /// Watches the files and listens to the gate of the configuration as it is now.
    fn arm(&mut self) {
        let loaded = self.state.loaded();
        let config = &loaded.config;
        let socket = is_used(config).then_some(config.gate.socket.as_path());
        if self.gate.as_ref().map(Subscription::socket) != socket {
            self.gate = socket.map(|socket| Subscription::new(socket.to_owned()));
            following::forget(&self.state);
        }
        let mut paths = self.state.admitting.borrow().paths(&loaded);
        paths.append(&mut loaded.tls_files.paths());
        if self.watched != paths {
            self.watch(&paths);
            self.watched = paths;
            // What changed before the watch was there is told by nobody.
            self.look_at_files();
        }
    }

    fn watch(&mut self, paths: &BTreeSet<PathBuf>) {
        if self.watch.is_none() && !paths.is_empty() {
            match AsyncWatch::new([]) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => tracing::warn!(
                    %error,
                    "files cannot be watched; they are looked at every {LOOK_EVERY:?}; see `fs.inotify` in sysctl"
                ),
            }
        }
        if let Some(watch) = &mut self.watch {
            let watch = watch.watch();
            watch.set_paths(paths.iter().cloned());
            for blind in watch.blind() {
                tracing::warn!("{blind}: changes of files there show every {LOOK_EVERY:?} only");
            }
        }
    }

    fn look_at_files(&mut self) {
        let loaded = self.state.loaded();
        if loaded.tls_files.is_stale() || self.state.admitting.borrow().is_stale(&loaded) {
            self.burst.note(Instant::now());
        }
    }

    async fn take_files(&mut self) {
        credentials::take(&self.state).await;
        if listing::take(&self.state).await {
            following::follow(&self.state).await;
        }
    }
}

/// Waits until watched files may have changed.
async fn changed(watch: &mut Option<AsyncWatch>) {
    if let Some(watch) = watch
        && watch.changed().await.is_ok()
    {
        return;
    }
    // Nothing is watched, or the runtime is going down.
    std::future::pending().await
}

async fn heard(gate: &mut Option<Subscription>) -> super::subscription::Said {
    match gate {
        Some(gate) => gate.next().await,
        None => std::future::pending().await,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
