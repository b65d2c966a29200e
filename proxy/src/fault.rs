//! What a request can come to instead of a server's answer: one table from fault to status, text and count.
//!
//! The text is all that the client learns. Nothing of the operator's or the server's is in it; what the
//! operator needs is logged where the fault arises.

use crate::telemetry::Count;
use hyper::StatusCode;
use std::error::Error;

/// An error with its causes, on one line, for the operator.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat the cause in their own words.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// A request's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Malformed or contradictory.
    BadRequest,
    /// More header fields than `limits.headers`.
    HeadersTooMany,
    /// What servers would be told of the client's certificate is too long.
    IdentityTooLong,
    /// The body did not come in time.
    RequestTimeout,
    /// The host's TLS policy is not the handshake's.
    Misdirected,
    /// The route demands what the connection has not proven.
    NotProven,
    /// CONNECT, which this gateway does not do.
    NotImplemented,
    /// It has passed here again and again.
    Loop,
    /// No router, or nothing that this peer may see.
    NotFound,
    /// The server refused, reset, or answered with something that is no answer.
    UpstreamFailed,
    /// No server to ask.
    NoServer,
    /// The server did not answer in time.
    UpstreamSilent,
}

impl Fault {
    /// Status, text and count.
    pub fn answer(self) -> (StatusCode, &'static str, Count) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "bad request\n", Count::BadRequest),
            Self::HeadersTooMany => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "request header fields too large\n",
                Count::BadRequest,
            ),
            Self::IdentityTooLong => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "client certificate too large\n",
                Count::IdentityTooLong,
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request timeout\n",
                Count::RequestTimeout,
            ),
            Self::Misdirected => (
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected request\n",
                Count::Misdirected,
            ),
            Self::NotProven => (StatusCode::FORBIDDEN, "forbidden\n", Count::NotProven),
            Self::NotImplemented => (
                StatusCode::NOT_IMPLEMENTED,
                "not implemented\n",
                Count::NotImplemented,
            ),
            Self::Loop => (StatusCode::LOOP_DETECTED, "loop detected\n", Count::Loop),
            Self::NotFound => (StatusCode::NOT_FOUND, "not found\n", Count::NoRouter),
            Self::UpstreamFailed => (StatusCode::BAD_GATEWAY, "bad gateway\n", Count::UpstreamFailed),
            Self::NoServer => (
                StatusCode::SERVICE_UNAVAILABLE,
                "service unavailable\n",
                Count::NoServer,
            ),
            Self::UpstreamSilent => (
                StatusCode::GATEWAY_TIMEOUT,
                "gateway timeout\n",
                Count::UpstreamSilent,
            ),
        }
    }

    /// Whether what follows on an HTTP/1.1 connection cannot be trusted any more.
    pub fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::BadRequest | Self::NotImplemented | Self::HeadersTooMany | Self::RequestTimeout
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn causes_follow_each_other_and_none_is_said_twice() {
        let layer = |text, source| Layer { text, source };
        let inner = layer("refused", None);
        let repeating = layer("socket: refused", Some(Box::new(inner)));
        let outer = layer("cannot connect", Some(Box::new(repeating)));
        assert_eq!(with_causes(&outer), "cannot connect: socket: refused");
    }
}
