//! Verifies passwords away from the workers: a few threads, a bounded queue, and what was verified lately.
//!
//! One for the whole process. It must not know users: it gets a hash and a password.

use super::{
    cache::Cache,
    hashes::{identity, verify},
};
use sallyport_config::password::PasswordHash;
use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};
use tokio::sync::oneshot;

/// Passwords that may wait for a thread.
const QUEUE_MAX: usize = 256;
/// Those of one client that may wait or be verified: one client must not keep all others out.
const PENDING_PER_CLIENT_MAX: u32 = 8;
/// Counters of what clients have pending; two that share one share its limit.
const CLIENTS: usize = 4096;
/// Threads; a verification may hold as much memory as a hash asks for.
const THREADS_MAX: usize = 2;

/// A hash that passwords are verified by.
#[derive(Clone, Debug)]
pub(super) struct Known {
    hash: Arc<PasswordHash>,
    identity: [u8; 32],
}

impl Known {
    /// One of the operator's hashes.
    pub(super) fn new(hash: PasswordHash) -> Self {
        Self {
            identity: identity(&hash),
            hash: Arc::new(hash),
        }
    }
}

/// Too much is waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// The threads' other end.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None` where there are no random numbers: then every password is verified.
    cache: Option<Cache>,
    jobs: SyncSender<Job>,
    keys: RandomState,
    pending: Vec<AtomicU32>,
}

struct Job {
    hash: Arc<PasswordHash>,
    password: Vec<u8>,
    answer: oneshot::Sender<bool>,
}

impl Verifier {
    /// Starts the threads, which end with the last holder of this. Where none can be started nobody is let in.
    pub(super) fn start() -> Self {
        let (jobs, waiting) = mpsc::sync_channel(QUEUE_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for number in 0..cores.min(THREADS_MAX) {
            let waiting = Arc::clone(&waiting);
            let name = format!("password-{number}");
            if let Err(error) = thread::Builder::new().name(name).spawn(move || work(&waiting)) {
                tracing::error!(%error, "cannot start a thread that verifies passwords");
            }
        }
        Self {
            cache: Cache::new(),
            jobs,
            keys: RandomState::new(),
            pending: std::iter::repeat_with(AtomicU32::default).take(CLIENTS).collect(),
        }
    }

    /// Whether a client's password comes to a hash. Cancelling leaves the work to be skipped.
    ///
    /// # Errors
    /// Where too much of this client, or of all, is waiting.
    pub(super) async fn verify(
        &self,
        known: &Known,
        password: Vec<u8>,
        client: IpAddr,
    ) -> Result<bool, Busy> {
        let tag = self
            .cache
            .as_ref()
            .map(|cache| (cache, cache.tag(&known.identity, &password)));
        if tag.is_some_and(|(cache, tag)| cache.knows(tag)) {
            return Ok(true);
        }
        let _held = self.hold(client).ok_or(Busy)?;
        let (answer, answered) = oneshot::channel();
        let hash = Arc::clone(&known.hash);
        let job = Job {
            hash,
            password,
            answer,
        };
        self.jobs.try_send(job).map_err(|_| Busy)?;
        let verified = answered.await.map_err(|_| Busy)?;
        if verified && let Some((cache, tag)) = tag {
            cache.keep(tag);
        }
        Ok(verified)
    }

    fn hold(&self, client: IpAddr) -> Option<Held<'_>> {
        let index = self.keys.hash_one(source(client)) % CLIENTS as u64;
        let count = self.pending.get(usize::try_from(index).ok()?)?;
        let held = Held(count);
        let before = count.fetch_add(1, Ordering::AcqRel);
        // What was added is taken back with `held`.
        (before < PENDING_PER_CLIENT_MAX).then_some(held)
    }
}

/// A client of IPv6 has a network of its own, all of whose addresses are one.
fn source(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

/// One password that is pending.
struct Held<'a>(&'a AtomicU32);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // No sender is left.
        let Ok(job) = next else { return };
        // Whoever asked may have gone.
        if !job.answer.is_closed() {
            let verified = verify(&job.hash, &job.password);
            let _gone = job.answer.send(verified);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_config::password::user;
    use std::net::Ipv6Addr;

    const CLIENT: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn known(text: &str) -> Known {
        Known::new(user(&format!("joe:{text}")).expect(text).hash)
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(work)
    }

    #[test]
    fn a_password_is_verified_and_remembered_with_its_hash_alone() {
        let verifier = Verifier::start();
        let (sha, apr) = (
            known("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
            known("$apr1$qHDFfhPC$nITSVHgYbDAK1Y0acGRnY0"),
        );
        let ask =
            |known: &Known, password: &str| run(verifier.verify(known, password.as_bytes().to_vec(), CLIENT));
        assert_eq!(ask(&sha, "passwore"), Ok(false));
        assert_eq!(ask(&sha, "password"), Ok(true));
        let cache = verifier.cache.as_ref().expect("random numbers");
        assert!(cache.knows(cache.tag(&sha.identity, b"password")));
        assert!(!cache.knows(cache.tag(&sha.identity, b"passwore")));
        assert_eq!(ask(&apr, "password"), Ok(false), "of another user");
        assert_eq!(ask(&apr, "myPassword"), Ok(true));
    }

    #[test]
    fn one_client_has_only_so_many_pending_and_others_still_get_in() {
        let verifier = Verifier::start();
        let mut held: Vec<_> = (0..PENDING_PER_CLIENT_MAX)
            .map(|_| verifier.hold(CLIENT).expect("below the limit"))
            .collect();
        assert!(verifier.hold(CLIENT).is_none());
        let sha = known("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=");
        assert_eq!(
            run(verifier.verify(&sha, b"password".to_vec(), CLIENT)),
            Err(Busy)
        );
        held.pop();
        assert_eq!(run(verifier.verify(&sha, b"password".to_vec(), CLIENT)), Ok(true));
        assert_eq!(
            verifier
                .pending
                .iter()
                .map(|count| count.load(Ordering::Acquire))
                .sum::<u32>(),
            7
        );
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        let of = |text: &str| source(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
