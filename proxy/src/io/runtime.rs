//! A worker's executor, timers and deadlines, whichever driver runs.

use super::probe::{DriverKind, ring_builder};
use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Submission queue entries of a worker's ring; more are flushed early, never lost.
const RING_ENTRIES: u32 = 4096;

thread_local! {
    static DRIVER: Cell<DriverKind> = const { Cell::new(DriverKind::Epoll) };
}

/// The driver of this thread.
pub(super) fn driver() -> DriverKind {
    DRIVER.get()
}

/// Runs `future` and all that it spawns on this thread until it is done.
///
/// # Errors
/// Where the driver cannot be set up.
pub fn run<F: Future>(kind: DriverKind, future: F) -> io::Result<F::Output> {
    DRIVER.set(kind);
    match kind {
        DriverKind::Uring => {
            let mut builder = tokio_uring::builder();
            builder.entries(RING_ENTRIES).uring_builder(&ring_builder());
            Ok(tokio_uring::Runtime::new(&builder)?.block_on(future))
        }
        DriverKind::Epoll => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
        }
    }
}

/// A spawned task; dropping this detaches it.
pub type Task<T> = tokio::task::JoinHandle<T>;

/// Spawns a task on this thread. The caller bounds how many there can be.
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    tokio::task::spawn_local(future)
}

/// Lets the driver have a turn: what is queued goes to the kernel, what has come from it wakes its tasks. Both
/// drivers look at the kernel only now and then while tasks are ready, so that yielding alone would not do.
pub async fn turn() {
    match driver() {
        // A ring that takes nothing is said by whoever needs it.
        DriverKind::Uring => drop(tokio_uring::no_op().await),
        DriverKind::Epoll => tokio::task::yield_now().await,
    }
}

/// Sleeps for `duration`. Cancelling it does nothing else.
pub fn sleep(duration: Duration) -> Sleep {
    tokio::time::sleep(duration)
}

/// Sleeps until `deadline`. Cancelling it does nothing else.
pub fn sleep_until(deadline: Instant) -> Sleep {
    tokio::time::sleep_until(deadline)
}

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline passed")]
pub struct Elapsed;

/// Awaits `future` for at most `limit`; `None` is no deadline, and costs no timer. When it passes, `future`
/// is dropped with this.
pub fn timeout<F: Future>(limit: Option<Duration>, future: F) -> Timeout<F> {
    Timeout {
        future,
        sleep: limit.map(|limit| Box::pin(sleep(limit))),
    }
}

pin_project_lite::pin_project! {
    /// A future with a deadline; see [`timeout`]. It is a type of its own because an `async fn` would hold
    /// `future` twice, and requests carry theirs around.
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match this.sleep {
            Some(sleep) => sleep.as_mut().poll(cx).map(|()| Err(Elapsed)),
            None => Poll::Pending,
        }
    }
}

/// Lets hyper spawn on this thread's executor.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        drop(spawn(future));
    }
}

/// Lets hyper sleep on this thread's timer.
#[derive(Clone, Copy, Debug)]
pub struct LocalTimer;

impl hyper::rt::Timer for LocalTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep(Box::pin(sleep(duration))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(HyperSleep(Box::pin(sleep_until(deadline.into()))))
    }
}

struct HyperSleep(Pin<Box<Sleep>>);

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl hyper::rt::Sleep for HyperSleep {}
