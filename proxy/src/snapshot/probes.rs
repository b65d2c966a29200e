//! Servers that are probed: what is asked of each, how often, and whose standing the outcome changes.

use crate::{
    balance::{Health, Line, Standing},
    upstream::Server,
};
use http::HeaderValue;
use sallyport_config::model::{
    sending::SendProxy,
    service::{HealthCheck, InitialState, Rhythm, TcpHealthCheck},
    tcp::ServerAddress,
};
use std::sync::Arc;

/// A server that is probed.
#[derive(Debug)]
pub struct Probed {
    /// The service that it is of, for the operator.
    pub service: String,
    /// Where it is, for the operator.
    pub server: String,
    /// How it stands.
    pub standing: Arc<Standing>,
    /// Requests that may go on once it is up.
    pub line: Option<Arc<Line>>,
    /// How often it is asked.
    pub rhythm: Rhythm,
    /// What it is asked.
    pub asking: Asking,
}

/// What a probe asks.
#[derive(Clone, Debug)]
pub enum Asking {
    /// A request.
    Http {
        /// Where.
        server: Arc<Server>,
        /// What.
        check: HealthCheck,
        /// The uplink that it is for, where the server is a child.
        uplink: Option<HeaderValue>,
    },
    /// A connection, and what is said on it.
    Tcp {
        /// Where.
        at: ServerAddress,
        /// What.
        check: TcpHealthCheck,
        /// The header that comes before all else.
        proxy_protocol: Option<SendProxy>,
    },
}

impl Probed {
    /// Whether what runs for `other` does for this one too.
    pub fn is_like(&self, other: &Self) -> bool {
        let asks_the_same = match (&self.asking, &other.asking) {
            (
                Asking::Http {
                    server,
                    check,
                    uplink,
                },
                Asking::Http {
                    server: other,
                    check: others,
                    uplink: named,
                },
            ) => Arc::ptr_eq(server, other) && check == others && uplink == named,
            (
                Asking::Tcp {
                    at,
                    check,
                    proxy_protocol,
                },
                Asking::Tcp {
                    at: other,
                    check: others,
                    proxy_protocol: header,
                },
            ) => at == other && check == others && proxy_protocol == header,
            (Asking::Http { .. }, Asking::Tcp { .. }) | (Asking::Tcp { .. }, Asking::Http { .. }) => false,
        };
        asks_the_same && Arc::ptr_eq(&self.standing, &other.standing) && self.rhythm == other.rhythm
    }
}

/// What a server that is probed so is until its first probe has ended.
pub(super) fn initially(rhythm: &Rhythm) -> Health {
    match rhythm.initial {
        InitialState::Up => Health::Up,
        InitialState::Down => Health::Down,
    }
}
