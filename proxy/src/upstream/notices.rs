//! How often the operator is told that a server does not answer: one line a second for each server and kind of
//! fault, so that clients who keep asking cannot flood the log.

use super::{Server, UpstreamFault};
use crate::io::Instant;
use std::{
    cell::RefCell,
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::Arc,
    time::Duration,
};

/// Between two lines about one server and one kind of fault.
const QUIET: Duration = Duration::from_secs(1);

/// When something was last told, and how often it happened since.
#[derive(Clone, Copy)]
struct Told {
    at: Instant,
    withheld: u64,
}

/// What was told of late. It holds an entry a server and kind of fault, and forgets the old ones.
#[derive(Default)]
pub(super) struct Notices {
    told: RefCell<HashMap<(usize, Discriminant<UpstreamFault>), Told>>,
}

/// Whether a fault is worth a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Yes; so many like it were not told since the last line.
    Tell {
        /// Faults without a line.
        withheld: u64,
    },
    /// One like it was told a moment ago.
    Withhold,
}

impl Notices {
    pub(super) fn notice(&self, server: &Arc<Server>, fault: &UpstreamFault, now: Instant) -> Notice {
        // The address may come to be another server's: then one of its lines may come late.
        let key = (Arc::as_ptr(server).addr(), discriminant(fault));
        let mut told = self.told.borrow_mut();
        let fresh = Told { at: now, withheld: 0 };
        match told.get_mut(&key) {
            Some(known) if known.at + QUIET > now => {
                known.withheld += 1;
                Notice::Withhold
            }
            Some(known) => {
                let withheld = known.withheld;
                *known = fresh;
                Notice::Tell { withheld }
            }
            None => {
                told.insert(key, fresh);
                Notice::Tell { withheld: 0 }
            }
        }
    }

    /// Forgets what has been quiet for long; what was withheld last is told by then or never.
    pub(super) fn forget(&self, now: Instant) {
        self.told
            .borrow_mut()
            .retain(|_, told| told.at + 60 * QUIET > now);
    }
}
