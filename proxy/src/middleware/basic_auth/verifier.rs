//! Verifies passwords away from the workers: a few threads, a bounded queue, and what was verified lately.
//!
//! One for the whole process. It must not know users: it gets a hash and a password.

use super::{
    cache::{Cache, Tag},
    hashes::{identity, verify},
};
use sallyport_config::password::PasswordHash;
use std::{
    collections::HashMap,
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
/// Requests that may wait for one password: a browser asks for much at once.
const JOINED_MAX: usize = 1024;
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

/// Who waits for which password. Locked where a password is not known already, and where its verification ends.
type Waiting = Mutex<HashMap<Tag, Vec<oneshot::Sender<bool>>>>;

/// The threads' other end.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None` where there are no random numbers: then nobody is let in.
    cache: Option<Cache>,
    jobs: SyncSender<Job>,
    waiting: Arc<Waiting>,
    keys: RandomState,
    pending: Arc<[AtomicU32]>,
}

struct Job {
    tag: Tag,
    hash: Arc<PasswordHash>,
    password: Vec<u8>,
    /// Given back when it is done.
    _held: Held,
}

impl Verifier {
    /// Starts the threads, which end with the last holder of this. Where none can be started nobody is let in.
    pub(super) fn start() -> Self {
        let (jobs, queue) = mpsc::sync_channel(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let waiting = Arc::<Waiting>::default();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for number in 0..cores.min(THREADS_MAX) {
            let (queue, waiting) = (Arc::clone(&queue), Arc::clone(&waiting));
            let name = format!("password-{number}");
            let thread = thread::Builder::new().name(name);
            if let Err(error) = thread.spawn(move || work(&queue, &waiting)) {
                tracing::error!(%error, "cannot start a thread that verifies passwords");
            }
        }
        Self {
            cache: Cache::new(),
            jobs,
            waiting,
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
        let cache = self.cache.as_ref().ok_or(Busy)?;
        let tag = cache.tag(&known.identity, &password);
        if cache.knows(tag) {
            return Ok(true);
        }
        let answered = self.join(tag, known, password, client)?;
        let verified = answered.await.map_err(|_| Busy)?;
        if verified {
            cache.keep(tag);
        }
        Ok(verified)
    }

    /// Waits with those who wait for the same password already, or has it verified.
    fn join(
        &self,
        tag: Tag,
        known: &Known,
        password: Vec<u8>,
        client: IpAddr,
    ) -> Result<oneshot::Receiver<bool>, Busy> {
        let (answer, answered) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.get_mut(&tag) {
            Some(others) if others.len() < JOINED_MAX => others.push(answer),
            Some(_) => return Err(Busy),
            None => {
                let job = Job {
                    tag,
                    hash: Arc::clone(&known.hash),
                    password,
                    _held: self.hold(client).ok_or(Busy)?,
                };
                self.jobs.try_send(job).map_err(|_| Busy)?;
                waiting.insert(tag, vec![answer]);
            }
        }
        Ok(answered)
    }

    fn hold(&self, client: IpAddr) -> Option<Held> {
        let index = self.keys.hash_one(source(client)) % CLIENTS as u64;
        let held = Held {
            pending: Arc::clone(&self.pending),
            index: usize::try_from(index).ok()?,
        };
        let before = held.count()?.fetch_add(1, Ordering::AcqRel);
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
struct Held {
    pending: Arc<[AtomicU32]>,
    index: usize,
}

impl Held {
    fn count(&self) -> Option<&AtomicU32> {
        self.pending.get(self.index)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(count) = self.count() {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>, waiting: &Waiting) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        // No sender is left.
        let Ok(job) = next else { return };
        // Whoever asked may have gone.
        let verified = is_awaited(waiting, job.tag).then(|| verify(&job.hash, &job.password));
        let mut all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = all.remove(&job.tag).unwrap_or_default();
        drop(all);
        drop(job);
        for answer in answers {
            // Who came after the look, and gets no answer, is told to come again.
            let _gone = verified.map(|verified| answer.send(verified));
        }
    }
}

fn is_awaited(waiting: &Waiting, tag: Tag) -> bool {
    let all = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(&tag)
        .is_some_and(|answers| answers.iter().any(|answer| !answer.is_closed()))
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
        let mut held: Vec<Held> = (0..PENDING_PER_CLIENT_MAX)
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
    fn requests_with_the_same_password_wait_for_one_verification() {
        let verifier = Verifier::start();
        let bcrypt = known("$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe");
        let cache = verifier.cache.as_ref().expect("random numbers");
        let ask = |password: &str| {
            let tag = cache.tag(&bcrypt.identity, password.as_bytes());
            verifier.join(tag, &bcrypt, password.as_bytes().to_vec(), CLIENT)
        };
        let all: Vec<_> = (0..100).map(|_| ask("a")).collect();
        for answered in all {
            let answered = answered.expect("all of them may wait");
            assert_eq!(run(answered), Ok(true));
        }
        assert!(verifier.waiting.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        let of = |text: &str| source(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
