//! A thread's executor: tasks by number, those that are ready in the order in which they were woken.
//!
//! A waker is a number, not a reference: the executor's, the task's place and how often the place was given back. So it
//! costs nothing to clone or drop, it keeps nothing alive, it may go to any thread, and one that comes too late wakes
//! nobody, or at worst a task that looks and finds nothing. It must not know the kernel.

#![allow(unsafe_code, reason = "the table of a waker's functions")]

use super::{
    remote,
    slots::{Key, Slots},
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    ptr,
    rc::Rc,
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
};

/// Tasks of a thread: what fits into a waker's number.
const TASKS_MAX: u32 = 1 << 24;
/// Bits of a task's place.
const PLACE_BITS: u32 = 24;
/// Bits of how often it was given back.
const GENERATION_BITS: u32 = 28;

type Local = Pin<Box<dyn Future<Output = ()>>>;

struct Slot {
    /// Not there while it is polled, and never for the root.
    future: Option<Local>,
    queued: bool,
}

struct Executor {
    /// Which; none while no loop runs on this thread.
    number: Cell<Option<usize>>,
    tasks: RefCell<Slots<Slot>>,
    ready: RefCell<VecDeque<Key>>,
    root: Cell<Option<Key>>,
    /// Turns of the driver so far, and who waits for the next one.
    turns: Cell<u64>,
    turning: RefCell<Vec<Waker>>,
}

thread_local! {
    static EXECUTOR: Executor = const {
        Executor {
            number: Cell::new(None),
            tasks: RefCell::new(Slots::new()),
            ready: RefCell::new(VecDeque::new()),
            root: Cell::new(None),
            turns: Cell::new(0),
            turning: RefCell::new(Vec::new()),
        }
    };
}

/// A task's number among those of all executors.
#[derive(Clone, Copy)]
struct Number(u64);

impl Number {
    fn new(executor: usize, task: Key) -> Self {
        let executor = u64::try_from(executor).unwrap_or(u64::MAX);
        let above = executor << GENERATION_BITS | u64::from(task.generation);
        Self(above << PLACE_BITS | u64::from(task.index))
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "each part was so small when it went in"
    )]
    fn parts(self) -> (usize, Key) {
        let task = Key {
            index: (self.0 as u32) & (TASKS_MAX - 1),
            generation: (self.0 >> PLACE_BITS) as u32 & ((1 << GENERATION_BITS) - 1),
        };
        ((self.0 >> (PLACE_BITS + GENERATION_BITS)) as usize, task)
    }

    fn wake(self) {
        let (executor, task) = self.parts();
        let here = EXECUTOR.try_with(|own| {
            let here = own.number.get() == Some(executor);
            if here {
                own.wake(task);
            }
            here
        });
        if here != Ok(true) {
            remote::wake(executor, self.0);
        }
    }

    fn waker(self) -> Waker {
        // SAFETY: the functions of the table take the pointer for the number that it is and never follow it, so it is
        // valid for ever and on every thread; held by `a_late_waker_wakes_nobody` and `another_thread_wakes_a_task`.
        unsafe { Waker::from_raw(self.raw()) }
    }

    fn raw(self) -> RawWaker {
        const { assert!(size_of::<usize>() == 8, "a pointer holds a task's number") };
        #[expect(clippy::cast_possible_truncation, reason = "a pointer has 64 bits")]
        let address = self.0 as usize;
        RawWaker::new(ptr::without_provenance(address), &TABLE)
    }

    fn of(data: *const ()) -> Self {
        Self(data.addr() as u64)
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(
    |data| Number::of(data).raw(),
    |data| Number::of(data).wake(),
    |data| Number::of(data).wake(),
    |_| (),
);

impl Executor {
    fn wake(&self, task: Key) {
        let mut tasks = self.tasks.borrow_mut();
        if let Some(slot) = tasks.get_mut(task)
            && !std::mem::replace(&mut slot.queued, true)
        {
            self.ready.borrow_mut().push_back(task);
        }
    }

    fn add(&self, future: Option<Local>) -> Result<Key, Option<Local>> {
        let slot = Slot { future, queued: true };
        let added = self.tasks.borrow_mut().insert(slot, TASKS_MAX);
        let task = added.map_err(|slot| slot.future)?;
        self.ready.borrow_mut().push_back(task);
        Ok(task)
    }

    fn poll(&self, number: usize, task: Key) {
        let future = self.tasks.borrow_mut().get_mut(task).and_then(|slot| {
            slot.queued = false;
            slot.future.take()
        });
        let Some(mut future) = future else { return };
        let waker = Number::new(number, task).waker();
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks.borrow_mut();
        if polled.is_ready() {
            drop(tasks.remove(task));
        } else if let Some(slot) = tasks.get_mut(task) {
            slot.future = Some(future);
            return;
        }
        // What the future holds may spawn and wake as it goes.
        drop(tasks);
        drop(future);
    }
}

/// Begins an executor on this thread. The root task is ready.
pub(super) fn begin(number: usize) {
    EXECUTOR.with(|own| {
        own.number.set(Some(number));
        own.root.set(own.add(None).ok());
    });
}

/// Ends it: every task is dropped.
pub(super) fn end() {
    EXECUTOR.with(|own| {
        // As long as tasks spawn others when they go.
        loop {
            let keys = own.tasks.borrow().keys();
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let slot = own.tasks.borrow_mut().remove(key);
                drop(slot);
            }
        }
        own.number.set(None);
        own.ready.borrow_mut().clear();
        own.root.set(None);
        drop(own.turning.take());
    });
}

/// Spawns a task on this thread. Where there are sixteen million, or no loop runs any more, it is dropped.
pub(in crate::io) fn detach(future: impl Future<Output = ()> + 'static) {
    // Nobody asks for its place.
    let _ = start(future);
}

fn start(future: impl Future<Output = ()> + 'static) -> Place {
    EXECUTOR.with(|own| {
        let number = own.number.get();
        let added = number.map(|number| (number, own.add(Some(Box::pin(future)))));
        Place(added.and_then(|(number, added)| Some((number, added.ok()?))))
    })
}

/// Where a task is; `None` where it was never added.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Place(Option<(usize, Key)>);

impl Place {
    /// Drops the task, where it is not done yet. Only on its own thread, and while its loop runs.
    pub(in crate::io) fn abort(self) {
        let slot = EXECUTOR.with(|own| {
            let (executor, task) = self.0?;
            (own.number.get() == Some(executor)).then(|| own.tasks.borrow_mut().remove(task))
        });
        drop(slot);
    }
}

/// Polls what is ready, the root by `poll_root`, at most `polls_max` times. Ready with what the root came to.
pub(super) fn run<T>(polls_max: usize, mut poll_root: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    EXECUTOR.with(|own| {
        let number = own.number.get().unwrap_or(remote::EXECUTORS_MAX);
        for _ in 0..polls_max {
            let Some(task) = own.ready.borrow_mut().pop_front() else {
                break;
            };
            if own.root.get() != Some(task) {
                own.poll(number, task);
                continue;
            }
            if let Some(slot) = own.tasks.borrow_mut().get_mut(task) {
                slot.queued = false;
            }
            let waker = Number::new(number, task).waker();
            let polled = poll_root(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                return polled;
            }
        }
        Poll::Pending
    })
}

/// Whether somebody is ready, or waits for nothing but the driver's turn.
pub(super) fn is_busy() -> bool {
    EXECUTOR.with(|own| !own.ready.borrow().is_empty() || !own.turning.borrow().is_empty())
}

/// The driver had a turn.
pub(super) fn turned() {
    let waiting = EXECUTOR.with(|own| {
        own.turns.set(own.turns.get().wrapping_add(1));
        own.turning.take()
    });
    waiting.into_iter().for_each(Waker::wake);
}

/// Wakes a task whom another thread woke.
pub(super) fn wake_from_afar(number: u64) {
    let (_, task) = Number(number).parts();
    EXECUTOR.with(|own| own.wake(task));
}

/// Ready after the driver's next turn. Cancelling it does nothing else.
pub(in crate::io) async fn turn() {
    let since = EXECUTOR.with(|own| own.turns.get());
    poll_fn(|cx| {
        EXECUTOR.with(|own| {
            if own.turns.get() != since {
                return Poll::Ready(());
            }
            own.turning.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
    })
    .await;
}

/// A spawned task's outcome; dropping it detaches the task.
pub(in crate::io) struct Joined<T> {
    outcome: Rc<RefCell<Outcome<T>>>,
    place: Place,
}

struct Outcome<T> {
    value: Option<T>,
    ended: bool,
    waker: Option<Waker>,
}

impl<T> Joined<T> {
    /// Where the task is.
    pub(in crate::io) fn place(&self) -> Place {
        self.place
    }

    /// Ready when the task has ended; `None` where it was dropped first.
    pub(in crate::io) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut outcome = self.outcome.borrow_mut();
        if outcome.ended {
            return Poll::Ready(outcome.value.take());
        }
        outcome.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

pin_project_lite::pin_project! {
    /// A future that leaves its outcome.
    struct Telling<F: Future> {
        #[pin]
        future: F,
        teller: Teller<F::Output>,
    }
}

/// Says that the task has ended, however it did.
struct Teller<T>(Rc<RefCell<Outcome<T>>>);

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        let waker = {
            let mut outcome = self.0.borrow_mut();
            outcome.ended = true;
            outcome.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<F: Future> Future for Telling<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.future.poll(cx).map(|value| {
            this.teller.0.borrow_mut().value = Some(value);
        })
    }
}

/// Spawns a task on this thread and tells how it ends.
pub(in crate::io) fn spawn<F: Future + 'static>(future: F) -> Joined<F::Output> {
    let outcome = Rc::new(RefCell::new(Outcome {
        value: None,
        ended: false,
        waker: None,
    }));
    let place = start(Telling {
        future,
        teller: Teller(Rc::clone(&outcome)),
    });
    Joined { outcome, place }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_an_executor(test: impl FnOnce()) {
        // No loop and no descriptor: the numbers of these are beyond those that are given.
        begin(remote::EXECUTORS_MAX - 1);
        test();
        end();
    }

    fn run_all() {
        assert!(run(1000, |_| Poll::<()>::Pending).is_pending());
    }

    #[test]
    fn a_number_keeps_its_parts() {
        let task = Key {
            index: TASKS_MAX - 1,
            generation: (1 << GENERATION_BITS) - 1,
        };
        for executor in [0, remote::EXECUTORS_MAX - 1] {
            assert_eq!(Number::new(executor, task).parts(), (executor, task));
        }
    }

    #[test]
    fn tasks_run_in_the_order_in_which_they_were_woken_and_once_for_many_wakes() {
        on_an_executor(|| {
            let seen = Rc::new(RefCell::new(Vec::new()));
            let wakers = Rc::new(RefCell::new(Vec::new()));
            for id in 0..3 {
                let (seen, wakers) = (Rc::clone(&seen), Rc::clone(&wakers));
                detach(poll_fn(move |cx| {
                    seen.borrow_mut().push(id);
                    wakers.borrow_mut().push(cx.waker().clone());
                    Poll::Pending
                }));
            }
            run_all();
            let wakers = wakers.take();
            for id in [2, 0, 2] {
                wakers.get(id).expect("polled").wake_by_ref();
            }
            run_all();
            assert_eq!(seen.take(), [0, 1, 2, 2, 0]);
        });
    }

    #[test]
    fn a_late_waker_wakes_nobody() {
        on_an_executor(|| {
            let kept = Rc::new(RefCell::new(None));
            let keep = Rc::clone(&kept);
            detach(poll_fn(move |cx| {
                *keep.borrow_mut() = Some(cx.waker().clone());
                Poll::Ready(())
            }));
            run_all();
            let polls = Rc::new(Cell::new(0));
            let counting = Rc::clone(&polls);
            // It gets the place of the first.
            detach(poll_fn(move |_| {
                counting.set(counting.get() + 1);
                Poll::<()>::Pending
            }));
            run_all();
            kept.take().expect("polled").wake();
            run_all();
            assert_eq!(polls.get(), 1);
        });
    }

    #[test]
    fn a_task_that_wakes_itself_leaves_room_and_one_that_is_dropped_says_so() {
        on_an_executor(|| {
            let turns = Rc::new(Cell::new(0));
            let counting = Rc::clone(&turns);
            let mut restless = spawn(poll_fn(move |cx| {
                counting.set(counting.get() + 1);
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            }));
            assert!(run(10, |_| Poll::<()>::Pending).is_pending());
            assert!(is_busy() && turns.get() <= 10);
            let mut done = spawn(async { 7 });
            run_all();
            let mut cx = Context::from_waker(Waker::noop());
            assert_eq!(done.poll(&mut cx), Poll::Ready(Some(7)));
            assert!(restless.poll(&mut cx).is_pending());
            end();
            assert_eq!(restless.poll(&mut cx), Poll::Ready(None));
        });
    }
}
