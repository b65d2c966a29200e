//! A worker's lines on their way to the writer: gathered for a moment, so that neither thread is woken for each.

use super::{
    AccessLog, Line,
    writer::{Chunk, Refused, Writer},
};
use crate::{
    io,
    telemetry::{Count, Counters},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

/// Lines are handed over once there are so many bytes of them.
const CHUNK_BYTES: usize = 32 * 1024;
/// Or so long after the first.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// The lines that a worker has gathered.
#[derive(Debug)]
pub struct Lines {
    counters: Arc<Counters>,
    gathered: RefCell<Gathered>,
    /// Whether a task waits to hand them over.
    armed: Cell<bool>,
}

#[derive(Debug, Default)]
struct Gathered {
    chunk: Chunk,
    /// Whose they are.
    writer: Option<Arc<Writer>>,
}

impl Lines {
    /// None yet; lines that are given up are counted in `counters`.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            gathered: RefCell::default(),
            armed: Cell::new(false),
        }
    }

    /// Adds a line. It is given up where the writer is so far behind that a full chunk still waits here.
    pub fn push(self: &Rc<Self>, log: &AccessLog, line: &Line<'_>) {
        let text = log.write(line);
        self.turn_to(&log.writer);
        if self.gathered.borrow().chunk.len() >= CHUNK_BYTES {
            self.hand_over();
        }
        let mut gathered = self.gathered.borrow_mut();
        if gathered.chunk.len() >= CHUNK_BYTES {
            return self.counters.add(Count::AccessLogDropped);
        }
        gathered.chunk.push(&text);
        let full = gathered.chunk.len() >= CHUNK_BYTES;
        drop(gathered);
        if full {
            self.hand_over();
        }
        self.arm();
    }

    /// Lines go to one writer at a time; those of an earlier one go there first, or nowhere.
    fn turn_to(&self, writer: &Arc<Writer>) {
        let same = |known: &Arc<Writer>| Arc::ptr_eq(known, writer);
        if self.gathered.borrow().writer.as_ref().is_some_and(same) {
            return;
        }
        self.hand_over();
        let mut gathered = self.gathered.borrow_mut();
        self.give_up(&gathered.chunk);
        *gathered = Gathered {
            chunk: Chunk::default(),
            writer: Some(Arc::clone(writer)),
        };
    }

    fn give_up(&self, chunk: &Chunk) {
        (0..chunk.lines()).for_each(|_| self.counters.add(Count::AccessLogDropped));
    }

    /// Hands the gathered lines to the writer. Returns whether none is left.
    pub fn hand_over(&self) -> bool {
        let mut gathered = self.gathered.borrow_mut();
        if gathered.chunk.is_empty() {
            return true;
        }
        let Some(writer) = gathered.writer.clone() else {
            return true;
        };
        match writer.offer(std::mem::take(&mut gathered.chunk)) {
            Ok(()) => {
                // A destination that nothing goes to any more ends.
                gathered.writer = None;
                true
            }
            Err(Refused::Full(chunk)) => {
                gathered.chunk = chunk;
                false
            }
            Err(Refused::Gone(chunk)) => {
                self.give_up(&chunk);
                true
            }
        }
    }

    fn arm(self: &Rc<Self>) {
        if self.armed.get() || self.gathered.borrow().chunk.is_empty() {
            return;
        }
        self.armed.set(true);
        let lines = Rc::clone(self);
        drop(io::spawn(async move {
            loop {
                io::sleep(GATHERED_FOR).await;
                if lines.hand_over() {
                    break;
                }
            }
            lines.armed.set(false);
        }));
    }
}
