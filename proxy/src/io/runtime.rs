//! A worker's executor and deadlines, whichever driver runs.

use super::{
    probe::{DriverKind, ring_builder},
    ring,
    sleep::{Sleep, sleep},
};
use std::{
    cell::Cell,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

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
        DriverKind::Multishot => ring::run(future),
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
pub struct Task<T>(Spawned<T>);

enum Spawned<T> {
    Tokio(tokio::task::JoinHandle<T>),
    Ring(ring::Joined<T>),
}

impl<T> Task<T> {
    /// What ends it before it is done.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle(match &self.0 {
            Spawned::Tokio(task) => Aborting::Tokio(task.abort_handle()),
            Spawned::Ring(task) => Aborting::Ring(task.place()),
        })
    }
}

/// Ends a task before it is done; dropping this does not.
#[derive(Debug)]
pub struct AbortHandle(Aborting);

#[derive(Debug)]
enum Aborting {
    Tokio(tokio::task::AbortHandle),
    Ring(ring::Place),
}

impl AbortHandle {
    /// Drops the task, where it is not done yet.
    pub fn abort(&self) {
        match &self.0 {
            Aborting::Tokio(task) => task.abort(),
            Aborting::Ring(place) => place.abort(),
        }
    }
}

/// A task was dropped before it was done, or broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task has ended before it was done")]
pub struct TaskEnded;

impl<T> Future for Task<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Spawned::Tokio(task) => Pin::new(task).poll(cx).map_err(|_| TaskEnded),
            Spawned::Ring(task) => task.poll(cx).map(|ended| ended.ok_or(TaskEnded)),
        }
    }
}

/// Spawns a task on this thread. The caller bounds how many there can be.
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output> {
    Task(match driver() {
        DriverKind::Multishot => Spawned::Ring(ring::spawn(future)),
        DriverKind::Uring | DriverKind::Epoll => Spawned::Tokio(tokio::task::spawn_local(future)),
    })
}

/// Lets the driver have a turn: what is queued goes to the kernel, what has come from it wakes its tasks. Both
/// drivers look at the kernel only now and then while tasks are ready, so that yielding alone would not do.
pub async fn turn() {
    match driver() {
        DriverKind::Multishot => ring::turn().await,
        // A ring that takes nothing is said by whoever needs it.
        DriverKind::Uring => drop(tokio_uring::no_op().await),
        DriverKind::Epoll => tokio::task::yield_now().await,
    }
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

/// Spawns a task of which nobody hears again. The caller bounds how many there can be.
pub fn detach(future: impl Future<Output = ()> + 'static) {
    match driver() {
        DriverKind::Multishot => ring::detach(future),
        DriverKind::Uring | DriverKind::Epoll => drop(tokio::task::spawn_local(future)),
    }
}
