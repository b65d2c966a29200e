//! `[middlewares]`, validated: what requests and answers go through on their way. One file a kind.
//!
//! Chains are gone by the time they stand in an entry point or a router: those hold the names in order.

pub mod errors;
pub mod headers;
pub mod ip_list;
pub mod ip_strategy;
pub mod limit_body;
pub mod pass_tls_client_cert;
pub mod path;
pub mod pattern;
pub mod redirect;

use errors::Errors;
use headers::Headers;
use ip_list::IpList;
use limit_body::LimitBody;
use pass_tls_client_cert::PassTlsClientCert;
use path::{AddPrefix, ReplacePath, ReplacePathRegex, StripPrefix, StripPrefixRegex};
use redirect::{RedirectRegex, RedirectScheme};

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
}
