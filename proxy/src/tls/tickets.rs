//! Session tickets: sealed by keys that follow the clock, and bound to the policy that a session was made under.
//!
//! Every key is HKDF (RFC 5869) of a random master and of what the ticket is for: the digest of the policy and
//! the entry point. Masters are the process's, one every [`PERIOD`]; the workers share them, reloads keep them, and a
//! restart forgets them. So a ticket opens only where the same demands are made, by the same CAs, lists and names.
//!
//! A ticket also says when the full handshake was and until when what was verified then holds. Past either it is
//! not opened, and the client is verified anew, which tells it by an alert what is wrong. The library restores a
//! session's client chain unverified: whoever accepts a resumed session verifies it again.

use super::attempt::{self, Proven};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};
use rustls::{pki_types::UnixTime, server::ProducesTickets};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// How long one master seals.
pub(super) const PERIOD: Duration = Duration::from_hours(6);
/// The master that seals and those before it that still open.
const MASTERS: usize = 3;
/// How long after a full handshake its session can be resumed, by however many tickets. A ticket is opened for at
/// least this long, because the masters before the current one cover two periods.
pub(super) const LIFETIME: Duration = Duration::from_hours(12);
/// The largest session that gets a ticket; one of mutual TLS holds the client's chain. A ticket comes back in a
/// hello, which should stay small.
const SESSION_BYTES_MAX: usize = 12 * 1024;

const NAME_BYTES: usize = 8;
const FRAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// What time it is: the process's own clock, which nobody sets, and UNIX time, which certificates go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Seconds of a clock that only goes on.
    pub own: u64,
    /// Seconds of UNIX time.
    pub unix: u64,
}

/// The masters of a process.
pub(super) struct Masters {
    started: Instant,
    current: RwLock<Arc<Ring>>,
}

/// The masters at some time; a later time makes another ring.
struct Ring {
    /// Periods since the process started.
    period: u64,
    /// Newest first; `None` for periods in which nobody asked.
    masters: [Option<Prk>; MASTERS],
}

impl Default for Masters {
    fn default() -> Self {
        let empty = Ring {
            period: 0,
            masters: [None, None, None],
        };
        Self {
            started: Instant::now(),
            current: RwLock::new(Arc::new(empty)),
        }
    }
}

impl fmt::Debug for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masters").finish_non_exhaustive()
    }
}

impl Masters {
    /// Now, by the clocks of this process.
    fn now(&self) -> Now {
        Now {
            own: self.started.elapsed().as_secs(),
            unix: UnixTime::now().as_secs(),
        }
    }

    /// The ring of a time. Readers share the lock for the copy of a pointer, once a handshake.
    fn at(&self, now: Now) -> Arc<Ring> {
        let period = now.own / PERIOD.as_secs();
        let known = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        if known.period >= period && known.masters.first().is_some_and(Option::is_some) {
            return known;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Another worker may have been first.
        if current.period < period || current.masters.first().is_some_and(Option::is_none) {
            *current = Arc::new(current.turned(period));
        }
        Arc::clone(&current)
    }
}

impl Ring {
    /// The ring of a later period, or of this one with a master to seal with. Without working random numbers there
    /// is none, and no tickets.
    fn turned(&self, period: u64) -> Self {
        let passed = usize::try_from(period.saturating_sub(self.period)).unwrap_or(usize::MAX);
        let mut masters = [None, None, None];
        for (old, master) in self.masters.iter().enumerate() {
            if let Some(place) = old.checked_add(passed).and_then(|at| masters.get_mut(at)) {
                *place = master.clone();
            }
        }
        let mut secret = [0; SECRET_BYTES];
        if rand::fill(&mut secret).is_ok()
            && let Some(newest) = masters.first_mut()
        {
            *newest = Some(Salt::new(HKDF_SHA256, b"sallyport ticket master").extract(&secret));
        }
        Self { period, masters }
    }
}

/// Seals and opens the tickets of one policy on one entry point.
pub(super) struct Tickets {
    masters: Arc<Masters>,
    purpose: [u8; 32],
    keys: RwLock<Arc<Keys>>,
}

/// The keys of one ring for one purpose.
struct Keys {
    period: Option<u64>,
    /// Newest first.
    keys: Vec<Option<TicketKey>>,
}

struct TicketKey {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

/// How many bytes HKDF is to give.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl TicketKey {
    fn derive(master: &Prk, purpose: &[u8; 32]) -> Option<Self> {
        let mut name = [0; NAME_BYTES];
        let mut secret = [0; SECRET_BYTES];
        expand(master, &[purpose, b"name"], &mut name)?;
        expand(master, &[purpose, b"key"], &mut secret)?;
        let key = UnboundKey::new(&AES_256_GCM, &secret).ok()?;
        Some(Self {
            name,
            key: LessSafeKey::new(key),
        })
    }
}

fn expand(master: &Prk, info: &[&[u8]], into: &mut [u8]) -> Option<()> {
    master.expand(info, Bytes(into.len())).ok()?.fill(into).ok()
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    /// The tickets for one purpose, a digest of all that they are bound to.
    pub(super) fn new(masters: &Arc<Masters>, purpose: [u8; 32]) -> Self {
        let none = Keys {
            period: None,
            keys: Vec::new(),
        };
        Self {
            masters: Arc::clone(masters),
            purpose,
            keys: RwLock::new(Arc::new(none)),
        }
    }

    fn keys(&self, now: Now) -> Arc<Keys> {
        let ring = self.masters.at(now);
        let known = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        if known.period == Some(ring.period) {
            return known;
        }
        let derive = |master: &Option<Prk>| TicketKey::derive(master.as_ref()?, &self.purpose);
        let fresh = Arc::new(Keys {
            period: Some(ring.period),
            keys: ring.masters.iter().map(derive).collect(),
        });
        let mut kept = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Arc::clone(&fresh);
        fresh
    }

    /// The ticket of a session that goes back to `proven`.
    fn seal(&self, now: Now, proven: Proven, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() > SESSION_BYTES_MAX {
            return None;
        }
        let keys = self.keys(now);
        let TicketKey { name, key } = keys.keys.first()?.as_ref()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(FRAME_BYTES + session.len());
        sealed.extend_from_slice(&proven.at.to_be_bytes());
        sealed.extend_from_slice(&proven.until.to_be_bytes());
        sealed.extend_from_slice(session);
        let by = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(by, Aad::from(name), &mut sealed)
            .ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    /// The session of a ticket and what it goes back to; `None` for what is not ours, too old, or verified by what
    /// does not hold any more.
    fn open(&self, now: Now, ticket: &[u8]) -> Option<(Proven, Vec<u8>)> {
        let (named, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys(now);
        let known = keys.keys.iter().flatten().find(|key| key.name == *named)?;
        let mut opened = sealed.to_vec();
        let by = Nonce::assume_unique_for_key(*nonce);
        let plain = known.key.open_in_place(by, Aad::from(named), &mut opened).ok()?;
        let (at, rest) = plain.split_first_chunk::<8>()?;
        let (until, session) = rest.split_first_chunk::<8>()?;
        let proven = Proven {
            at: u64::from_be_bytes(*at),
            until: u64::from_be_bytes(*until),
        };
        let young = now.own.saturating_sub(proven.at) < LIFETIME.as_secs();
        (young && now.unix < proven.until).then(|| (proven, session.to_vec()))
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let now = self.masters.now();
        // A full handshake without a client certificate has noted nothing yet.
        let fresh = Proven {
            at: now.own,
            until: u64::MAX,
        };
        let proven = attempt::current(|record| {
            record.limit(fresh);
            record.proven
        });
        self.seal(now, proven??, session)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (proven, session) = self.open(self.masters.now(), ticket)?;
        attempt::current(|record| record.limit(proven))?;
        Some(session)
    }
}

#[cfg(test)]
mod tests;
