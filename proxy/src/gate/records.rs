//! What programs of a debug object say, as lines of this process's log.
//!
//! A thread of its own reads the rings: [`EbpfLogger::flush`] goes on for as long as packets come, and nothing of the
//! gate may wait for that. It must not run beside the embedded programs, which say nothing.

use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use sallyport_ebpf::ATTACHMENTS_MAX;
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How often the rings are read.
const READ_EVERY: Duration = Duration::from_millis(100);
/// How many lines an attachment may say in a [`WINDOW`]; a flood of packets must not become one of lines.
const LINES_MAX: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(1);

/// The ring of one loaded object.
pub(super) type Records = EbpfLogger<Lines>;

/// Reads the rings of all attached debug programs until it is dropped.
pub(super) struct Reader {
    rings: SyncSender<(u32, Records)>,
}

impl Reader {
    /// Starts its thread.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub(super) fn start() -> io::Result<Self> {
        let (rings, new) = sync_channel(ATTACHMENTS_MAX as usize);
        thread::Builder::new()
            .name("gate-records".to_owned())
            .spawn(move || read(&new))?;
        Ok(Self { rings })
    }

    /// Reads this ring from now on, in the place of the one that the attachment had before.
    pub(super) fn follow(&self, attachment: u32, records: Records) {
        // A full queue means that the reader is behind; the filter does not wait for its log.
        if self.rings.try_send((attachment, records)).is_err() {
            tracing::warn!(
                attachment,
                "the debug programs say more than can be read; this attachment's lines are left out"
            );
        }
    }
}

fn read(new: &Receiver<(u32, Records)>) {
    let mut followed = BTreeMap::new();
    loop {
        match new.recv_timeout(READ_EVERY) {
            Ok((attachment, records)) => {
                followed.insert(attachment, records);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        followed.values_mut().for_each(EbpfLogger::flush);
    }
}

/// Takes the records of one ring into `tracing`, no more of them than [`LINES_MAX`] in a [`WINDOW`].
#[derive(Default)]
pub(super) struct Lines(Mutex<Budget>);

impl Log for Lines {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        tracing::enabled!(tracing::Level::DEBUG)
    }

    fn log(&self, record: &Record<'_>) {
        let admitted = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(Instant::now());
        let Some(left_out) = admitted else {
            return;
        };
        if left_out > 0 {
            tracing::debug!(left_out, "debug programs said more than is logged");
        }
        tracing::debug!(said = %record.args(), "debug program");
    }

    fn flush(&self) {}
}

#[derive(Default)]
struct Budget {
    since: Option<Instant>,
    said: u32,
    left_out: u64,
}

impl Budget {
    /// Whether one more line may be said, and then how many were left out before it and not told yet.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= WINDOW)
        {
            self.since = Some(now);
            self.said = 0;
        }
        if self.said == LINES_MAX {
            self.left_out += 1;
            return None;
        }
        self.said += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_the_next_window_tells_how_much_was_left_out() {
        let mut budget = Budget::default();
        let start = Instant::now();
        for _ in 0..LINES_MAX {
            assert_eq!(budget.take(start), Some(0));
        }
        let late = start + WINDOW - Duration::from_millis(1);
        assert_eq!((budget.take(start), budget.take(late)), (None, None));
        let next = start + WINDOW;
        assert_eq!((budget.take(next), budget.take(next)), (Some(2), Some(0)));
    }
}
