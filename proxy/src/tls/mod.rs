//! TLS towards clients and servers: who the peer is, proven.
//!
//! Configuration is compiled once into [`Policy`] and [`ClientSide`] values; a handshake only chooses among
//! them. This stage must not know routers, requests or services.

mod accept;
mod certificates;
mod clients;
mod connect;
mod facts;
mod files;
mod generated;
mod names;
mod policy;
mod provider;
mod shown;

pub use accept::{Secured, TlsFault, TlsReason, accept};
pub use certificates::Certificates;
pub use connect::{ClientSide, connect};
pub use facts::{ClientChain, Facts, Protocol, Session, Standing};
pub use files::{Files, Fresh, Says, Unit, UnitState, Version};
pub use generated::{GeneratedError, default_key, passing_key};
pub use names::ClientIdentity;
pub use policy::{EntryPolicies, Known, Policy, PolicyId};
pub use shown::{CertificateFacts, RevocationFacts};

/// The primitives that certificates are loaded with, whatever a policy allows later.
pub fn base_provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}
