//! A tunnel until it ends: by itself, by its idle time, or by an order.

use super::{access, live::Order, tcp::Came};
use crate::{
    access_log::Bytes,
    io::{self, Instant, Sleep, sleep_until},
    telemetry::Count,
    tunnel::{Carried, Tunnel, TunnelFault},
};
use sallyport_config::model::tcp::ServerAddress;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// How long a tunnel that is told to drain must have been quiet.
pub(super) const DRAIN_QUIET: Duration = Duration::from_secs(1);
/// How long both sides of a tunnel that ends have to take its end.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a tunnel ended.
enum Ending {
    /// Both sides have ended, or one broke.
    Own(Result<(), TunnelFault>),
    /// Nothing moved for too long, or for a while although it is to drain.
    Quiet(Order),
    /// It was told to.
    Closed,
}

/// Carries bytes until the end.
pub(super) async fn carry(
    came: &Came<'_>,
    mut tunnel: Tunnel,
    idle: Option<Duration>,
    server: &ServerAddress,
) {
    let (counters, began) = (&came.context.counters, Instant::now());
    counters.add(Count::TcpOpened);
    let (mut sleep, mut counted) = (None, Carried::default());
    let ending = poll_fn(|cx| {
        came.handle.listen(cx);
        let ended = tunnel.poll(cx);
        let carried = tunnel.carried();
        counters.add_many(Count::TcpBytesToServer, carried.to_server - counted.to_server);
        counters.add_many(Count::TcpBytesToClient, carried.to_client - counted.to_client);
        counted = carried;
        if let Poll::Ready(ended) = ended {
            return Poll::Ready(Ending::Own(ended));
        }
        let order = came.handle.order();
        let limit = match order {
            Order::Close => return Poll::Ready(Ending::Closed),
            Order::Drain => Some(idle.map_or(DRAIN_QUIET, |idle| idle.min(DRAIN_QUIET))),
            Order::Serve => idle,
        };
        poll_quiet(cx, &mut sleep, tunnel.moved(), limit).map(|()| Ending::Quiet(order))
    })
    .await;
    counters.add(Count::TcpClosed);
    let count = say(came, &ending, counted, server);
    let bytes = Bytes {
        came: counted.to_server,
        went: counted.to_client,
    };
    access::tunnelled(came, began, server, bytes, count);
    match ending {
        Ending::Own(Ok(())) => {}
        // Whether they take it or not, the tunnel is over.
        Ending::Quiet(_) => drop(io::timeout(Some(LAST_WORDS), tunnel.end()).await),
        Ending::Own(Err(_)) | Ending::Closed => tunnel.reset(),
    }
}

/// Ready once nothing has moved for `limit`. The timer is armed once and corrected when it fires, so that bytes cost no
/// timer operation.
pub(super) fn poll_quiet(
    cx: &mut Context<'_>,
    sleep: &mut Option<Pin<Box<Sleep>>>,
    moved: Instant,
    limit: Option<Duration>,
) -> Poll<()> {
    let Some(limit) = limit else {
        return Poll::Pending;
    };
    let deadline = moved + limit;
    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    if sleep.deadline() > deadline {
        sleep.as_mut().reset(deadline);
    }
    while sleep.as_mut().poll(cx).is_ready() {
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(deadline);
    }
    Poll::Pending
}

/// One line and one count an ending.
fn say(came: &Came<'_>, ending: &Ending, carried: Carried, server: &ServerAddress) -> Option<Count> {
    let (count, reason) = match ending {
        Ending::Own(Ok(())) => (None, "both sides ended".to_owned()),
        Ending::Own(Err(fault)) => (Some(Count::TcpBroken), crate::fault::with_causes(fault)),
        Ending::Quiet(Order::Serve) => (Some(Count::TcpIdle), "nothing moved for too long".to_owned()),
        Ending::Quiet(_) | Ending::Closed => (None, "told to end".to_owned()),
    };
    if let Some(count) = count {
        came.context.counters.add(count);
    }
    let router = came.handle.tcp.get().map(|taken| taken.router.as_str());
    tracing::debug!(
        client = %came.preamble.client.0,
        entry = came.entry.name,
        router,
        server = %server,
        to_server = carried.to_server,
        to_client = carried.to_client,
        reason,
        "tcp connection ended"
    );
    count
}
