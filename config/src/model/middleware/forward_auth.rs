//! `forward_auth`: another server says who may pass.

use crate::model::ServerUrl;
use std::time::Duration;

/// What the name of the service behind an `address` ends in; no name of the operator's can.
pub const SERVICE_SUFFIX: &str = "@forward_auth";

/// `forward_auth`. Names of fields are lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    /// The server that is asked.
    pub server: ServerUrl,
    /// Path and query that it is asked for.
    pub target: String,
    /// How to talk to it.
    pub servers_transport: String,
    /// From asking it to its whole answer.
    pub timeout: Duration,
    /// Fields that it may set on the request.
    pub response_headers: Vec<String>,
    /// A pattern of more of them.
    pub response_headers_regex: Option<String>,
    /// The only fields of the request that it gets; empty: all.
    pub request_headers: Vec<String>,
    /// Whether what a trusted peer says of method and target goes before what was asked here.
    pub trust_forward_header: bool,
    /// The body goes to it, up to so many bytes; `None`: it does not.
    pub body_bytes_max: Option<u64>,
    /// Most bytes of its answer's body.
    pub answer_bytes_max: u64,
    /// Whether a relative `Location` of its answer stays as it is.
    pub preserve_location_header: bool,
    /// Whether it is asked by the request's method in place of `GET`.
    pub preserve_request_method: bool,
    /// Cookies of its answer that the client gets with the server's.
    pub cookies: Vec<String>,
    /// Where clients go that it answers 401.
    pub signin_url: Option<String>,
}
