//! `limit_body`: how much a request may bring.

/// `[middlewares.NAME.limit_body]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitBody {
    /// Bytes of a request's body.
    pub request_bytes_max: u64,
}
