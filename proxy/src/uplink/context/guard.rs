//! The child's end of a connection: which contexts it believes.

use super::{
    CLOCK_SKEW, GRANT_LIFE_MAX, Secrets, VERSION, codec::Malformed, grant::Grant, told::Told, window::Window,
};
use aws_lc_rs::constant_time;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use std::cell::{Cell, RefCell};

/// Characters of a context: what a parent can tell at most, with room.
const TEXT_MAX: usize = 12 * 1024;
/// Bytes of the HMAC at the end.
const TAG_BYTES: usize = 32;

/// What a request brings.
#[derive(Clone, Debug, Default)]
pub struct Brought {
    /// The context.
    pub context: Option<HeaderValue>,
    /// The grant; one that stands on the connection need not come again.
    pub grant: Option<HeaderValue>,
}

/// What proves the parent of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// A verified certificate, whose key must have signed the grant.
    Certificate(&'a CertificateDer<'a>),
    /// Its source, and that it is the other end of this TLS session.
    Source,
}

/// Why a context is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Nobody who may has written it.
    #[error("forged: neither this connection's parent nor for this connection and uplink")]
    Forged,
    /// It was taken before, or is too old to tell.
    #[error("replayed: its counter was taken before")]
    Replayed,
    /// The grant is over, or is for longer than any may be.
    #[error("expired: the grant is over, or the clocks of both gateways differ")]
    Expired,
    /// There is none, where the parent sends them.
    #[error("missing: this connection's requests carry one")]
    Missing,
}

/// Whether a grant until `expires` holds.
fn in_force(expires: u64, now: u64) -> Result<(), Refusal> {
    let is_over = expires.saturating_add(CLOCK_SKEW) < now;
    if is_over || expires > now.saturating_add(GRANT_LIFE_MAX) {
        return Err(Refusal::Expired);
    }
    Ok(())
}

/// A grant that was verified.
struct Granted {
    text: HeaderValue,
    expires: u64,
}

/// Judges the contexts of one connection.
pub struct Guard {
    secrets: Secrets,
    /// The name that the parent asked for, empty where by none.
    child: String,
    standing: RefCell<Option<Box<(Granted, Window)>>>,
    has_refused: Cell<bool>,
}

impl Guard {
    /// Of a connection on which this gateway was asked for as `child`.
    pub fn new(secrets: Secrets, child: String) -> Self {
        Self {
            secrets,
            child,
            standing: RefCell::default(),
            has_refused: Cell::default(),
        }
    }

    /// Whether this is the first refusal that is told of this connection.
    pub fn is_first_refusal(&self) -> bool {
        !self.has_refused.replace(true)
    }

    /// What the parent tells of a request for `uplink`; `None` where it has told nothing on this connection yet. `now` is
    /// in seconds of UNIX time.
    ///
    /// # Errors
    /// Where what it tells is not to be believed.
    pub fn judge(
        &self,
        brought: &Brought,
        uplink: &[u8],
        proof: Proof<'_>,
        now: u64,
    ) -> Result<Option<Told>, Refusal> {
        let Some(context) = &brought.context else {
            let silent = brought.grant.is_none() && self.standing.borrow().is_none();
            return if silent { Ok(None) } else { Err(Refusal::Missing) };
        };
        if let Some(grant) = &brought.grant {
            self.grant(grant, proof, now)?;
        }
        let mut standing = self.standing.borrow_mut();
        let (granted, window) = &mut **standing.as_mut().ok_or(Refusal::Missing)?;
        in_force(granted.expires, now)?;
        let (counter, told) = self.open(context.as_bytes(), uplink)?;
        if !window.take(counter) {
            return Err(Refusal::Replayed);
        }
        Ok(Some(Told::decode(&told)?))
    }

    /// Takes a grant; the one that stands is known by its text.
    fn grant(&self, text: &HeaderValue, proof: Proof<'_>, now: u64) -> Result<(), Refusal> {
        let mut standing = self.standing.borrow_mut();
        if standing.as_ref().is_some_and(|standing| standing.0.text == text) {
            return Ok(());
        }
        let grant = Grant::read(text.as_bytes())?;
        let leaf = match proof {
            Proof::Certificate(leaf) => Some(leaf),
            Proof::Source => None,
        };
        if !grant.is_by(leaf, &self.secrets.binding, &self.child) {
            return Err(Refusal::Forged);
        }
        // One that does not hold must not stand in the way of the next.
        in_force(grant.expires, now)?;
        let granted = Granted {
            text: text.clone(),
            expires: grant.expires,
        };
        match &mut *standing {
            // A grant that was on its way when the next one overtook it does not shorten anything.
            Some(standing) if standing.0.expires >= granted.expires => {}
            Some(standing) => standing.0 = granted,
            None => *standing = Some(Box::new((granted, Window::default()))),
        }
        Ok(())
    }

    /// Counter and contents of a context that is this connection's and for `uplink`.
    fn open(&self, text: &[u8], uplink: &[u8]) -> Result<(u64, Vec<u8>), Refusal> {
        if text.len() > TEXT_MAX {
            return Err(Malformed("the context is too long").into());
        }
        let wrong = Malformed("the context is none");
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong)?;
        let end = bytes.len().checked_sub(TAG_BYTES).ok_or(wrong)?;
        let (context, tag) = bytes.split_at(end);
        if context.first() != Some(&VERSION) {
            return Err(Malformed("the context has another version").into());
        }
        let counter = context.get(1..9).and_then(|counter| counter.try_into().ok());
        let counter = u64::from_be_bytes(counter.ok_or(wrong)?);
        let expected = self.secrets.tag(uplink, context);
        constant_time::verify_slices_are_equal(expected.as_ref(), tag).map_err(|_| Refusal::Forged)?;
        bytes.truncate(end);
        bytes.drain(..9);
        Ok((counter, bytes))
    }
}
