//! What the TLS library's callbacks find out during a handshake with a server.
//!
//! The library gives a callback no connection to tell it to. All of one poll is about one connection, so what is
//! noted is collected poll by poll. Nothing here decides anything.

use super::refused::{Asked, RefusedServer};
use rustls::sign::CertifiedKey;
use std::{cell::RefCell, sync::Arc};

thread_local! {
    static NOTED: RefCell<Notes> = RefCell::default();
}

/// Of one handshake.
#[derive(Default)]
pub(super) struct Notes {
    /// Why the server's certificate was refused.
    pub(super) refused: Option<RefusedServer>,
    /// What the server asked for.
    pub(super) asked: Option<Asked>,
    /// What it was shown.
    pub(super) shown: Option<Arc<CertifiedKey>>,
}

impl Notes {
    /// Does a part of this handshake; what is noted meanwhile is kept here.
    pub(super) fn during<T>(&mut self, part: impl FnOnce() -> T) -> T {
        NOTED.replace(Self::default());
        let outcome = part();
        let noted = NOTED.take();
        self.refused = noted.refused.or(self.refused.take());
        self.asked = noted.asked.or(self.asked.take());
        self.shown = noted.shown.or(self.shown.take());
        outcome
    }
}

/// Notes why a certificate is refused.
pub(super) fn refused(refused: RefusedServer) {
    NOTED.with_borrow_mut(|noted| noted.refused = Some(refused));
}

/// Notes that the server asked for a certificate, and the one that it is shown.
pub(super) fn asked(asked: Asked, shown: Option<Arc<CertifiedKey>>) {
    NOTED.with_borrow_mut(|noted| (noted.asked, noted.shown) = (Some(asked), shown));
}
