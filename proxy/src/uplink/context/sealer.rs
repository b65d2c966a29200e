//! The parent's end of a connection: signs its grant, writes contexts.

use super::{EXPORTER_LABEL, GRANT_LIFE, GRANT_RENEWED, Secrets, VERSION, grant::Grant};
use crate::{
    http::fields::{HUB_CONTEXT, HUB_GRANT, HUB_UPLINK},
    upstream::{Hop, Seal, Shaken, Unsealable},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use rustls::sign::CertifiedKey;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::SystemTime,
};

/// What connections to children begin with.
#[derive(Clone, Copy, Debug)]
pub struct Parent;

impl Hop for Parent {
    fn label(&self) -> &'static [u8] {
        EXPORTER_LABEL
    }

    fn begin(&self, shaken: Shaken) -> Rc<dyn Seal> {
        let Shaken { material, child, key } = shaken;
        Rc::new(Sealer::new(Secrets::new(&material), child, key))
    }
}

/// Writes the contexts of one connection.
pub struct Sealer {
    secrets: Secrets,
    /// The name that the child was asked for, empty where by none.
    child: String,
    /// The key of the certificate that the child has seen.
    key: Option<Arc<CertifiedKey>>,
    /// The last counter.
    last: Cell<u64>,
    /// The grant as it is sent, and its expiry.
    grant: RefCell<Option<(HeaderValue, u64)>>,
}

impl Sealer {
    /// Of a connection to the child that was asked for as `child`; nothing is signed before there is a request.
    pub fn new(secrets: Secrets, child: String, key: Option<Arc<CertifiedKey>>) -> Self {
        Self {
            secrets,
            child,
            key,
            last: Cell::new(0),
            grant: RefCell::default(),
        }
    }

    /// Writes context and grant for the uplink that `headers` name, at `now` in seconds of UNIX time.
    ///
    /// # Errors
    /// Where the key does not sign, or the request names no uplink.
    pub fn seal_at(&self, headers: &mut HeaderMap, told: &[u8], now: u64) -> Result<(), Unsealable> {
        let counter = self.last.get().checked_add(1).ok_or(Unsealable::Exhausted)?;
        let uplink = headers.get(HUB_UPLINK).ok_or(Unsealable::NoUplink)?;
        let mut context = Vec::with_capacity(9 + told.len() + 32);
        context.push(VERSION);
        context.extend_from_slice(&counter.to_be_bytes());
        context.extend_from_slice(told);
        let tag = self.secrets.tag(uplink.as_bytes(), &context);
        context.extend_from_slice(tag.as_ref());
        let text = URL_SAFE_NO_PAD.encode(context);
        let mut sealed = HeaderValue::try_from(text).map_err(|_| Unsealable::NoUplink)?;
        // Never the same twice: HTTP/2 is not to keep it in its table.
        sealed.set_sensitive(true);
        let grant = self.granted(now)?;
        self.last.set(counter);
        headers.insert(HUB_CONTEXT, sealed);
        headers.insert(HUB_GRANT, grant);
        Ok(())
    }

    /// The grant that stands, or a new one where little is left of it.
    fn granted(&self, now: u64) -> Result<HeaderValue, Unsealable> {
        let mut grant = self.grant.borrow_mut();
        if let Some((text, expires)) = &*grant
            && expires.saturating_sub(now) > GRANT_RENEWED
            && expires.saturating_sub(now) <= GRANT_LIFE
        {
            return Ok(text.clone());
        }
        let expires = now.saturating_add(GRANT_LIFE);
        let fresh = Grant::sign(self.key.as_deref(), &self.secrets.binding, &self.child, expires)?;
        let text = HeaderValue::try_from(fresh.text()).map_err(|_| Unsealable::NoUplink)?;
        *grant = Some((text.clone(), expires));
        Ok(text)
    }
}

impl Seal for Sealer {
    fn seal(&self, headers: &mut HeaderMap, told: &[u8]) -> Result<(), Unsealable> {
        self.seal_at(headers, told, unix_now())
    }
}

/// Seconds of UNIX time.
fn unix_now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs())
}
