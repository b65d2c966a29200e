//! `[middlewares]`, validated: what requests and answers go through on their way. One file a kind.
//!
//! Chains are gone by the time they stand in an entry point or a router: those hold the names in order.

pub mod basic_auth;
pub mod circuit_breaker;
pub mod compress;
pub mod errors;
pub mod forward_auth;
pub mod headers;
pub mod in_flight;
pub mod ip_list;
pub mod ip_strategy;
pub mod limit_body;
pub mod pass_tls_client_cert;
pub mod path;
pub mod pattern;
pub mod rate_limit;
pub mod redirect;
pub mod retry;
pub mod source_criterion;

use basic_auth::BasicAuth;
use circuit_breaker::CircuitBreaker;
use compress::Compress;
use errors::Errors;
use forward_auth::ForwardAuth;
use headers::Headers;
use in_flight::InFlight;
use ip_list::IpList;
use limit_body::LimitBody;
use pass_tls_client_cert::PassTlsClientCert;
use path::{AddPrefix, ReplacePath, ReplacePathRegex, StripPrefix, StripPrefixRegex};
use rate_limit::RateLimit;
use redirect::{RedirectRegex, RedirectScheme};
use retry::Retry;

/// Most middlewares that one request goes through for one entry point or one router.
pub const MIDDLEWARES_MAX: usize = 64;

/// `[middlewares.NAME.KIND]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Middleware {
    /// `chain`, resolved: names of others that are no chains, in order.
    Chain(Vec<String>),
    // Kinds that look at the header section of a request.
    /// `ip_allow_list`.
    IpAllowList(IpList),
    /// `ip_deny_list`.
    IpDenyList(IpList),
    /// `strip_prefix`.
    StripPrefix(StripPrefix),
    /// `strip_prefix_regex`.
    StripPrefixRegex(StripPrefixRegex),
    /// `add_prefix`.
    AddPrefix(AddPrefix),
    /// `replace_path`.
    ReplacePath(ReplacePath),
    /// `replace_path_regex`.
    ReplacePathRegex(ReplacePathRegex),
    /// `redirect_scheme`.
    RedirectScheme(RedirectScheme),
    /// `redirect_regex`.
    RedirectRegex(RedirectRegex),
    /// `limit_body`.
    LimitBody(LimitBody),
    /// `errors`.
    Errors(Errors),
    /// `headers`.
    Headers(Box<Headers>),
    // Kinds that tell servers of the client.
    /// `pass_tls_client_cert`.
    PassTlsClientCert(PassTlsClientCert),
    // Kinds that wait, count or ask others.
    /// `basic_auth`.
    BasicAuth(BasicAuth),
    /// `forward_auth`.
    ForwardAuth(ForwardAuth),
    /// `rate_limit`.
    RateLimit(RateLimit),
    /// `in_flight`.
    InFlight(InFlight),
    /// `retry`.
    Retry(Retry),
    /// `circuit_breaker`.
    CircuitBreaker(CircuitBreaker),
    /// `compress`.
    Compress(Compress),
}
