//! `[middlewares]`, validated: what requests and answers go through on their way. One file a kind.
//!
//! Chains are gone by the time they stand in an entry point or a router: those hold the names in order.

pub mod ip_list;
pub mod ip_strategy;
pub mod pass_tls_client_cert;

use ip_list::IpList;
use pass_tls_client_cert::PassTlsClientCert;

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
    // Kinds that tell servers of the client.
    /// `pass_tls_client_cert`.
    PassTlsClientCert(PassTlsClientCert),
    // Kinds that wait, count or ask others.
}
