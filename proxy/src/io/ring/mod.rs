//! The multishot driver: a ring a thread, an executor and timers of its own, one call into the kernel a turn.
//!
//! A turn runs what is ready, hands all that it asked for to the kernel together with the wish to wait, takes the
//! answers and wakes whom they concern. Connections are accepted and bytes received again and again without being asked
//! for anew; bytes are sent at the end of the turn, and nobody waits for that. The rules are in [`engine`], which knows
//! no kernel; [`kernel`] knows no rules.
//!
//! | part | what it does |
//! |---|---|
//! | `tasks`, `remote` | who is ready; wakes from other threads |
//! | `timers`, `wheel` | who is due |
//! | `engine`: `receiving`, `sending`, `accepting` | what is under way |
//! | `buffers` | where the kernel receives to |
//! | `kernel`, `ops` | the ring |
//! | `handles` | what those above hold |

mod accepting;
mod buffers;
mod engine;
mod handles;
mod kernel;
mod ops;
mod receiving;
mod remote;
mod sending;
mod slots;
mod tasks;
mod timers;
mod wheel;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub(super) use handles::{Connecting, Listener, Socket};
pub(super) use tasks::{Joined, Place, detach, spawn, turn};
pub(super) use timers::Alarm;

use engine::Engine;
use kernel::{Kernel, Wait};
use ops::{Answer, Kind, Op, Token};
use remote::Registered;
use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};
use tokio::time::Instant;

/// Tasks that run before the kernel has a turn.
const POLLS_MAX: usize = 256;
/// How long the end waits for the kernel to let go of what it was asked for.
const LAST_TURNS: Duration = Duration::from_secs(5);

thread_local! {
    static ENGINE: RefCell<Option<Shared>> = const { RefCell::new(None) };
}

/// What the loop and the handles share.
type Shared = Rc<RefCell<Engine>>;

/// The engine of the loop that runs on this thread.
fn engine() -> io::Result<Shared> {
    let none = || io::Error::other("no ring runs on this thread");
    ENGINE.with_borrow(|engine| engine.clone().ok_or_else(none))
}

/// Gives the memory of a burst back, where a loop runs on this thread.
pub(super) fn release_memory() {
    if let Ok(engine) = engine() {
        engine.borrow_mut().buffers.release();
    }
}

/// Whether the kernel offers all that this driver uses.
///
/// # Errors
/// What it refuses.
pub(super) fn probe() -> io::Result<()> {
    kernel::probe()
}

/// Runs `future` and all that it spawns on this thread until it is done; what is left then is dropped.
///
/// # Errors
/// Where the ring cannot be set up, or breaks.
pub(super) fn run<F: Future>(future: F) -> io::Result<F::Output> {
    // A pool for what blocks, above all the resolver; its own loop never runs.
    let blocking = tokio::runtime::Builder::new_current_thread().build()?;
    let mut driver = Driver::start()?;
    let output = {
        let _entered = blocking.enter();
        driver.run(future)
    };
    blocking.shutdown_background();
    driver.end();
    output
}

/// The loop's own.
struct Driver {
    // Before the engine, whose buffers the ring must not outlive; see `Driver::end`.
    kernel: Kernel,
    engine: Shared,
    remote: Registered,
    ops: Vec<Op>,
    answers: Vec<Answer>,
    woken: Vec<Waker>,
}

impl Driver {
    fn start() -> io::Result<Self> {
        let remote = Registered::new()?;
        let engine = Engine::new();
        let mut kernel = Kernel::new(&engine.buffers)?;
        kernel.watch(remote.event(), Token::single(Kind::Afar))?;
        let engine = Rc::new(RefCell::new(engine));
        ENGINE.set(Some(Rc::clone(&engine)));
        tasks::begin(remote.number());
        Ok(Self {
            kernel,
            engine,
            remote,
            ops: Vec::new(),
            answers: Vec::new(),
            woken: Vec::new(),
        })
    }

    fn run<F: Future>(&mut self, future: F) -> io::Result<F::Output> {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = tasks::run(POLLS_MAX, |cx| future.as_mut().poll(cx)) {
                return Ok(output);
            }
            let wait = if tasks::is_busy() {
                Wait::No
            } else {
                timers::next(Instant::now()).map_or(Wait::Forever, Wait::AtMost)
            };
            self.turn(wait)?;
        }
    }

    fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.hand_over()?;
        self.kernel.enter(wait)?;
        self.kernel.answers(&mut self.answers);
        let mut from_afar = None;
        {
            let mut engine = self.engine.borrow_mut();
            for answer in self.answers.drain(..) {
                if answer.token.parts().0 == Kind::Afar {
                    from_afar = Some(answer.more);
                } else {
                    engine.answer(&answer);
                }
            }
            engine.take_woken(&mut self.woken);
        }
        self.woken.drain(..).for_each(Waker::wake);
        if let Some(more) = from_afar {
            self.heard_from_afar(more)?;
        }
        timers::fire(Instant::now());
        tasks::turned();
        Ok(())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let mut engine = self.engine.borrow_mut();
        engine.take_ops(&mut self.ops);
        for op in self.ops.drain(..) {
            self.kernel.ask(op, &engine)?;
        }
        Ok(())
    }

    fn heard_from_afar(&mut self, more: bool) -> io::Result<()> {
        self.remote.take().into_iter().for_each(tasks::wake_from_afar);
        if more {
            return Ok(());
        }
        self.kernel.watch(self.remote.event(), Token::single(Kind::Afar))
    }

    /// Drops all tasks and waits until the kernel has let go of everything. Where it does not, its memory is never used
    /// again.
    fn end(mut self) {
        tasks::end();
        self.engine.borrow_mut().abandon_all();
        let deadline = Instant::now() + LAST_TURNS;
        while !self.engine.borrow().is_empty() && Instant::now() < deadline {
            if self.turn(Wait::AtMost(LAST_TURNS)).is_err() {
                break;
            }
        }
        // What is left to close.
        let _ = self.turn(Wait::No);
        ENGINE.set(None);
        if !self.engine.borrow().is_empty() {
            std::mem::forget(Rc::clone(&self.engine));
        }
    }
}
