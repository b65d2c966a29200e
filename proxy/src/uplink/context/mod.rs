//! Whom a request of a parent is from: told to the child in a field that only the parent can write.
//!
//! Requests of many clients share one connection between gateways. Once a connection the parent's key signs a
//! grant over a secret that only the two ends of this TLS session can derive, the child's name and an expiry. Each
//! request carries a context under an HMAC by another such secret, with a counter that the child takes once. So what was
//! written for one connection means nothing on any other, and what was sent once means nothing again.
//!
//! Pure: secrets, keys and clock readings come in. It must not know how a request is routed, or how a connection is made.

mod codec;
mod gateway;
mod grant;
mod guard;
mod sealer;
mod told;
mod window;

pub use codec::Malformed;
pub use gateway::GatewayId;
pub use guard::{Brought, Guard, Proof, Refusal};
pub use sealer::{Parent, Sealer};
pub use told::{Certificate, ClientTls, Past, Scheme, Told};

/// What both ends of the TLS session derive their secrets by (RFC 8446 section 7.5; RFC 5705 section 4 keeps
/// `EXPERIMENTAL` free for labels that nobody registers).
pub const EXPORTER_LABEL: &[u8] = b"EXPERIMENTAL sallyport uplink v1";
/// Gateways that a request may have passed before it comes to this one.
pub const HOPS_MAX: usize = 8;

/// The version of grant and context that is spoken here.
const VERSION: u8 = 1;
/// For how long a grant is signed, in seconds.
const GRANT_LIFE: u64 = 600;
/// A grant is signed anew once less than this is left of it, in seconds.
const GRANT_RENEWED: u64 = 300;
/// What clocks may differ by, in seconds.
const CLOCK_SKEW: u64 = 60;
/// How far ahead a grant's expiry may lie, in seconds: what is signed for longer is refused.
const GRANT_LIFE_MAX: u64 = 3600;

/// What one end of a TLS session derives from it: never sent, different on every connection.
#[derive(Clone)]
pub struct Secrets {
    /// What the grant is signed over.
    binding: [u8; 32],
    /// What contexts are protected by.
    mac: aws_lc_rs::hmac::Key,
}

impl Secrets {
    /// Takes the session's keying material apart: no byte serves two purposes.
    pub fn new(material: &[u8; 64]) -> Self {
        let (binding, mac) = material.split_at(32);
        let mut bound = [0; 32];
        bound.copy_from_slice(binding);
        Self {
            binding: bound,
            mac: aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, mac),
        }
    }

    /// The HMAC of a context for `uplink`; the length in front keeps name and context apart.
    fn tag(&self, uplink: &[u8], context: &[u8]) -> aws_lc_rs::hmac::Tag {
        let mut under = aws_lc_rs::hmac::Context::with_key(&self.mac);
        under.update(b"sallyport uplink context v1\0");
        under.update(&u64::try_from(uplink.len()).unwrap_or(u64::MAX).to_be_bytes());
        under.update(uplink);
        under.update(context);
        under.sign()
    }
}

#[cfg(test)]
mod tests;
