//! What a child is told of whom a request is from: asked for when a connection to it is there, written before a request
//! goes out on it.
//!
//! This stage must not know what is told. It knows that it means something on one connection alone, so that it is
//! written anew wherever a request is sent.

use super::UpstreamFault;
use crate::http::{
    again::Luggage,
    body::RequestBody,
    fields::{HUB_CONTEXT, HUB_GRANT},
};
use hyper::{HeaderMap, Request};
use rustls::sign::CertifiedKey;
use std::{fmt::Debug, rc::Rc, sync::Arc};

/// What connections to a child begin with.
pub trait Hop: Debug + Send + Sync {
    /// What both ends derive their secrets by.
    fn label(&self) -> &'static [u8];

    /// A connection is there.
    fn begin(&self, shaken: Shaken) -> Rc<dyn Seal>;
}

/// A finished handshake with a child.
pub struct Shaken {
    /// Keying material of the session, by the label.
    pub material: [u8; 64],
    /// The name that it was asked for, lower case; empty where by address.
    pub child: String,
    /// The key of the certificate that it has seen, in this handshake or in that of the session.
    pub key: Option<Arc<CertifiedKey>>,
}

/// Writes on one connection.
pub trait Seal {
    /// Writes what is told of one request.
    ///
    /// # Errors
    /// Where that cannot be written; the request must not go out then.
    fn seal(&self, headers: &mut HeaderMap, told: &[u8]) -> Result<(), Unsealable>;
}

/// Why a request cannot go to a child.
#[derive(Debug, thiserror::Error)]
pub enum Unsealable {
    /// It is for no uplink.
    #[error("it names no uplink")]
    NoUplink,
    /// The connection has carried more requests than can be counted.
    #[error("the connection has carried too many requests")]
    Exhausted,
    /// The key does not sign.
    #[error("the certificate's key cannot sign")]
    Key(#[from] rustls::Error),
}

/// Writes what is told of `request` for the connection of `sealer`; without one nothing is told.
pub(super) fn seal(
    sealer: Option<&Rc<dyn Seal>>,
    request: &mut Request<RequestBody>,
) -> Result<(), UpstreamFault> {
    let luggage = request.extensions().get::<Luggage>();
    let Some(told) = luggage.and_then(|luggage| luggage.unsealed.clone()) else {
        return Ok(());
    };
    let headers = request.headers_mut();
    match sealer {
        Some(sealer) => sealer.seal(headers, &told).map_err(UpstreamFault::Unsealable),
        None => {
            // What was written for another connection means nothing here.
            headers.remove(HUB_CONTEXT);
            headers.remove(HUB_GRANT);
            Ok(())
        }
    }
}
