//! TLS towards clients and servers: who the peer is, proven.
//!
//! Configuration is compiled once into [`Policy`] and [`ClientSide`] values; a handshake only chooses among
//! them. This stage must not know routers, requests or services.

mod accept;
mod attempt;
mod certificates;
mod clients;
mod connect;
mod distinguished;
mod facts;
mod fault;
mod files;
mod generated;
mod judge;
mod names;
mod notes;
mod offering;
mod policy;
mod presented;
mod provider;
mod refused;
mod revocation;
mod servers;
mod shown;
mod tally;
#[cfg(test)]
mod test_authority;
mod tickets;

pub use accept::{Refused, Secured, accept};
pub use attempt::Attempt;
pub use certificates::Certificates;
pub use connect::{ClientSide, Connected, Wanted, WorkerSide, connect};
pub use distinguished::{NameValue, value as name_value};
pub use facts::{ClientChain, Facts, Protocol, Session, Standing};
pub use fault::{TLS_REASONS, TlsFault, TlsReason};
pub use files::{Files, Fresh, Says, Unit, UnitState, Version};
pub use generated::{GeneratedError, default_key, passing_key};
pub use judge::{Judged, judge_again, stands_for};
pub use names::{ClientIdentity, address_of, general_names};
pub use policy::{EntryPolicies, Known, Policy, PolicyId, Reached};
pub use refused::{Asked, HandshakeFault, RefusedServer, alert_on_certificate};
pub use shown::{CertificateFacts, RevocationFacts};
pub use tally::{HANDSHAKES, Tally};

/// The primitives that certificates are loaded with, whatever a policy allows later.
pub fn base_provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// 32 hexadecimal digits that nobody can guess; `None` without working random numbers.
pub fn random_name() -> Option<String> {
    let mut bytes = [0; 16];
    base_provider().secure_random.fill(&mut bytes).ok()?;
    Some(names::hexadecimal(&bytes))
}
