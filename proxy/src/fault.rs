//! What a request can come to instead of a server's answer: one table from fault to status, text and count.
//!
//! The text is all that the client learns. Nothing of the operator's or the server's is in it; what the
//! operator needs is logged where the fault arises.

use crate::telemetry::Count;
use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CONNECTION, CONTENT_TYPE},
    response,
};
use hyper::StatusCode;
use std::error::Error;

/// What requests can be refused for, or come to in place of a server's answer: the counts of [`Fault`], each once.
pub const REFUSALS: [Count; 34] = [
    Count::BadRequest,
    Count::HeaderTooLarge,
    Count::EncodedCharacter,
    Count::IdentityTooLong,
    Count::RequestTimeout,
    Count::Misdirected,
    Count::NotProven,
    Count::NotImplemented,
    Count::Loop,
    Count::ContextMalformed,
    Count::ContextForged,
    Count::ContextReplayed,
    Count::ContextExpired,
    Count::ContextMissing,
    Count::SourceForbidden,
    Count::HostForbidden,
    Count::PathAmbiguous,
    Count::BodyTooLarge,
    Count::NoRouter,
    Count::UplinkUnproven,
    Count::UplinkUnknown,
    Count::UplinkForbidden,
    Count::DiscoveryExceeded,
    Count::Unauthorized,
    Count::AuthBusy,
    Count::AuthRefused,
    Count::RateExceeded,
    Count::InFlightExceeded,
    Count::BreakerOpen,
    Count::UpstreamFailed,
    Count::UpstreamSilent,
    Count::NoServer,
    Count::QueueFull,
    Count::QueueTimeout,
];

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
    /// The path says by a triplet what its route does not allow.
    EncodedCharacter,
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
    /// It has passed here again and again, or too many gateways.
    Loop,
    /// What a parent says of whom the request is from cannot be read.
    ContextMalformed,
    /// That was not written by this parent for this connection and uplink.
    ContextForged,
    /// That was said before.
    ContextReplayed,
    /// The parent's grant is over.
    ContextExpired,
    /// The parent says it of its other requests, and not of this one.
    ContextMissing,
    /// `ip_allow_list` does not let the client in, or `ip_deny_list` keeps it out; with the status that the operator chose.
    SourceForbidden(StatusCode),
    /// `allowed_hosts` does not hold the host that was asked for.
    HostForbidden,
    /// A changed path would not be in its one form.
    PathAmbiguous,
    /// The body is longer than `limit_body` allows.
    BodyTooLarge,
    /// No router.
    NotFound,
    /// On an uplink entry point, and the peer has not proven to be a parent. It is told what [`Fault::NotFound`] tells.
    UplinkUnproven,
    /// No such uplink is published here; told in the same way.
    UplinkUnknown,
    /// The uplink is not for this parent; told in the same way.
    UplinkForbidden,
    /// The parent asks too often what there is.
    DiscoveryExceeded,
    /// The server refused, reset, or answered with something that is no answer.
    UpstreamFailed,
    /// No server to ask.
    NoServer,
    /// As [`Fault::UpstreamFailed`], and no server has seen anything of the request.
    Unreached,
    /// As [`Fault::UpstreamSilent`], and no server has seen anything of the request.
    UnreachedSilent,
    /// `basic_auth` knows no such user with this password.
    Unauthorized,
    /// `basic_auth` has too many passwords to verify.
    AuthBusy,
    /// The server of `forward_auth` does not let the request pass; with the status that the client gets.
    AuthRefused(StatusCode),
    /// The source makes more requests than `rate_limit` lets it.
    RateExceeded,
    /// The source has more requests under way than `in_flight` lets it.
    InFlightExceeded,
    /// A `circuit_breaker` is open; with the status that the operator chose.
    BreakerOpen(StatusCode),
    /// The server did not answer in time.
    UpstreamSilent,
    /// All servers have the requests that they may have, and as many wait as may.
    QueueFull,
    /// No server had room in time.
    QueueTimeout,
}

impl Fault {
    /// Status, text and count.
    pub fn answer(self) -> (StatusCode, &'static str, Count) {
        let (status, count) = self.judged();
        let text = match self {
            Self::IdentityTooLong => "client certificate too large\n",
            _ => refusal(status),
        };
        (status, text, count)
    }

    fn judged(self) -> (StatusCode, Count) {
        match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, Count::BadRequest),
            Self::HeadersTooMany => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Count::HeaderTooLarge),
            Self::EncodedCharacter => (StatusCode::BAD_REQUEST, Count::EncodedCharacter),
            Self::IdentityTooLong => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                Count::IdentityTooLong,
            ),
            Self::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, Count::RequestTimeout),
            Self::Misdirected => (StatusCode::MISDIRECTED_REQUEST, Count::Misdirected),
            Self::NotProven => (StatusCode::FORBIDDEN, Count::NotProven),
            Self::NotImplemented => (StatusCode::NOT_IMPLEMENTED, Count::NotImplemented),
            Self::Loop => (StatusCode::LOOP_DETECTED, Count::Loop),
            Self::ContextMalformed => (StatusCode::BAD_REQUEST, Count::ContextMalformed),
            Self::ContextForged => (StatusCode::FORBIDDEN, Count::ContextForged),
            Self::ContextReplayed => (StatusCode::FORBIDDEN, Count::ContextReplayed),
            Self::ContextExpired => (StatusCode::FORBIDDEN, Count::ContextExpired),
            Self::ContextMissing => (StatusCode::FORBIDDEN, Count::ContextMissing),
            Self::SourceForbidden(status) => (status, Count::SourceForbidden),
            Self::HostForbidden => (StatusCode::FORBIDDEN, Count::HostForbidden),
            Self::PathAmbiguous => (StatusCode::BAD_REQUEST, Count::PathAmbiguous),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Count::BodyTooLarge),
            Self::NotFound => (StatusCode::NOT_FOUND, Count::NoRouter),
            Self::UplinkUnproven => (StatusCode::NOT_FOUND, Count::UplinkUnproven),
            Self::UplinkUnknown => (StatusCode::NOT_FOUND, Count::UplinkUnknown),
            Self::UplinkForbidden => (StatusCode::NOT_FOUND, Count::UplinkForbidden),
            Self::DiscoveryExceeded => (StatusCode::TOO_MANY_REQUESTS, Count::DiscoveryExceeded),
            Self::UpstreamFailed | Self::Unreached => (StatusCode::BAD_GATEWAY, Count::UpstreamFailed),
            Self::NoServer => (StatusCode::SERVICE_UNAVAILABLE, Count::NoServer),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, Count::Unauthorized),
            Self::AuthBusy => (StatusCode::SERVICE_UNAVAILABLE, Count::AuthBusy),
            Self::AuthRefused(status) => (status, Count::AuthRefused),
            Self::RateExceeded => (StatusCode::TOO_MANY_REQUESTS, Count::RateExceeded),
            Self::InFlightExceeded => (StatusCode::TOO_MANY_REQUESTS, Count::InFlightExceeded),
            Self::BreakerOpen(status) => (status, Count::BreakerOpen),
            Self::UpstreamSilent | Self::UnreachedSilent => {
                (StatusCode::GATEWAY_TIMEOUT, Count::UpstreamSilent)
            }
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, Count::QueueFull),
            Self::QueueTimeout => (StatusCode::SERVICE_UNAVAILABLE, Count::QueueTimeout),
        }
    }

    /// Whether no server has seen anything of the request, so that it may go to another whatever it asks for.
    pub fn is_unreached(self) -> bool {
        matches!(self, Self::Unreached | Self::UnreachedSilent)
    }

    /// The answer itself. It carries the fault, for whoever asks [`of`].
    pub fn into_answer(self) -> Response<Bytes> {
        let (status, text, _) = self.answer();
        let mut response = Response::new(Bytes::from_static(text.as_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(self);
        response
    }

    /// Whether what follows on an HTTP/1.1 connection cannot be trusted any more.
    pub fn ends_connection(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::NotImplemented
                | Self::HeadersTooMany
                | Self::RequestTimeout
                | Self::BodyTooLarge
        )
    }
}

/// The text of a refusal: where the operator disguises it, that of what it is disguised as.
fn refusal(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "bad request\n",
        StatusCode::UNAUTHORIZED => "unauthorized\n",
        StatusCode::FORBIDDEN => "forbidden\n",
        StatusCode::NOT_FOUND => "not found\n",
        StatusCode::REQUEST_TIMEOUT => "request timeout\n",
        StatusCode::PAYLOAD_TOO_LARGE => "content too large\n",
        StatusCode::MISDIRECTED_REQUEST => "misdirected request\n",
        StatusCode::TOO_MANY_REQUESTS => "too many requests\n",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "request header fields too large\n",
        StatusCode::NOT_IMPLEMENTED => "not implemented\n",
        StatusCode::BAD_GATEWAY => "bad gateway\n",
        StatusCode::SERVICE_UNAVAILABLE => "service unavailable\n",
        StatusCode::GATEWAY_TIMEOUT => "gateway timeout\n",
        StatusCode::LOOP_DETECTED => "loop detected\n",
        _ => "refused\n",
    }
}

/// The fault that an answer was made of, where it was made of one: a middleware may have changed it since.
pub fn of<B>(answer: &Response<B>) -> Option<Fault> {
    answer.extensions().get().copied()
}

/// As [`of`], of an answer without its body.
pub fn of_parts(answer: &response::Parts) -> Option<Fault> {
    answer.extensions.get().copied()
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
