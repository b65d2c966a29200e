//! The current snapshot, handed from the control thread to the workers: a swap and a generation.

use super::Snapshot;
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::watch;

/// The current snapshot, for all threads.
#[derive(Debug)]
pub struct Published {
    generation: AtomicU64,
    current: Mutex<Arc<Snapshot>>,
    changes: watch::Sender<()>,
}

impl Published {
    /// Publishes the first one, generation 1.
    pub fn new(first: Snapshot) -> Self {
        Self {
            generation: AtomicU64::new(1),
            current: Mutex::new(Arc::new(first)),
            changes: watch::Sender::new(()),
        }
    }

    /// Tells of each snapshot that is published from now on; for the few who wait for one.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The current generation; a reader that has it already need not lock.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current snapshot and its generation.
    pub fn read(&self) -> (u64, Arc<Snapshot>) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), Arc::clone(&current))
    }

    /// Publishes the next one.
    pub fn publish(&self, next: Snapshot) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(next);
        self.generation.fetch_add(1, Ordering::Release);
        drop(current);
        self.changes.send_replace(());
    }
}
