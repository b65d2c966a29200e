//! Accept loops: one a socket, paused while the process has all the connections that it may have.

use crate::{
    io::{self, Accepted, Ahead, Listener},
    serve::{self, Context},
    telemetry::{AdmissionCounters, Count},
};
use std::{
    net::TcpListener,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::watch;

/// How long accepting rests where there is no room or no descriptor.
const PAUSE: Duration = Duration::from_millis(20);

/// How near to `proxy.max_connections` connections are taken one by one, where a quarter of it is less.
const AHEAD_MARGIN_MIN: usize = 256;

/// Stops the accept loops that it came from when it is dropped.
pub(super) struct Stop(
    #[expect(dead_code, reason = "its drop is what the loops wait for")] watch::Sender<()>,
);

/// Starts an accept loop for each socket of an entry point.
pub(super) fn start(context: &Rc<Context>, entry: &str, sockets: Vec<TcpListener>) -> Stop {
    let (stop, stopped) = watch::channel(());
    let at = Rc::new(At {
        entry: entry.to_owned(),
        counters: context.counters.admission(entry),
    });
    for socket in sockets {
        match Listener::new(socket) {
            Ok(listener) => {
                drop(io::spawn(run(
                    Rc::clone(context),
                    Rc::clone(&at),
                    listener,
                    stopped.clone(),
                )));
            }
            Err(error) => tracing::error!(entry, %error, "a listening socket cannot be used"),
        }
    }
    Stop(stop)
}

/// The entry point that a loop accepts for.
struct At {
    entry: String,
    counters: Arc<AdmissionCounters>,
}

async fn run(context: Rc<Context>, at: Rc<At>, listener: Listener, mut stopped: watch::Receiver<()>) {
    loop {
        wait_for_room(&context, &listener).await;
        // A connection that is taken is given up by nobody: where another worker was faster, it waits for room.
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => break,
            accepted = listener.accept(ahead(&context)) => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let counted = room(&context, &listener).await;
                admit(&context, &at, counted, accepted);
            }
            Err(error) => {
                context.counters.add(Count::AcceptFailed);
                tracing::warn!(entry = at.entry, %error, "accept failed");
                io::sleep(PAUSE).await;
            }
        }
    }
    // Closing a socket resets the connections that wait in its queue.
    while let Some(accepted) = listener.accept_waiting() {
        admit(&context, &at, Counted::anyway(&context), accepted);
    }
}

/// What is taken ahead is not counted yet: near the limit nothing is.
fn ahead(context: &Context) -> Ahead {
    let (count, max) = (
        context.connections.load(Ordering::Relaxed),
        context.view().snapshot.connections_max,
    );
    let margin = (max / 4).max(AHEAD_MARGIN_MIN);
    if count.saturating_add(margin) < max {
        Ahead::Many
    } else {
        Ahead::None
    }
}

async fn wait_for_room(context: &Context, listener: &Listener) {
    let full = || context.connections.load(Ordering::Relaxed) >= context.view().snapshot.connections_max;
    if !full() {
        return;
    }
    context.counters.add(Count::AcceptPaused);
    listener.hold();
    while full() {
        io::sleep(PAUSE).await;
    }
}

/// Room for one connection more, which is this one's: the workers share it, and each finds it only once.
async fn room(context: &Rc<Context>, listener: &Listener) -> Counted {
    loop {
        if let Some(counted) = Counted::within(context) {
            return counted;
        }
        wait_for_room(context, listener).await;
    }
}

fn admit(context: &Rc<Context>, at: &Rc<At>, counted: Counted, accepted: Accepted) {
    context.counters.add(Count::Accepted);
    let Some(entry) = context.view().snapshot.entries.get(&at.entry).cloned() else {
        return;
    };
    let (context, at) = (Rc::clone(context), Rc::clone(at));
    drop(io::spawn(async move {
        serve::connection(context, entry, &at.counters, accepted).await;
        drop(counted);
    }));
}

/// One of the process's connections, for as long as this lives.
struct Counted(Rc<Context>);

impl Counted {
    /// Where the process may have one more.
    fn within(context: &Rc<Context>) -> Option<Self> {
        let max = context.view().snapshot.connections_max;
        let more = |count: usize| count.checked_add(1).filter(|count| *count <= max);
        let counted = context
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| Self(Rc::clone(context)))
    }

    /// Whatever the process may have: who waits at a socket that closes would be reset.
    fn anyway(context: &Rc<Context>) -> Self {
        context.connections.fetch_add(1, Ordering::Relaxed);
        Self(Rc::clone(context))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.counters.add(Count::Closed);
    }
}
