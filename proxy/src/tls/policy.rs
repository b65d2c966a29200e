//! TLS policies: what a handshake demands, and which one a connection gets.
//!
//! SNI chooses among the policies of one entry point only. Session tickets are bound to the policy: each
//! distinct policy (options and contents of its CA and revocation files) has ticket keys of its own, which
//! survive reloads that leave it alone, and a resumed session's client chain is verified again, because the
//! library restores it unverified.

use super::{
    certificates::Certificates,
    clients::{Demand, verifier},
    files::Files,
    provider::{alpn, provider, versions},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{NoServerSessionStorage, ProducesTickets, danger::ClientCertVerifier},
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{ClientAuth, Located, TlsOptions},
};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Identifies a policy within the process, over reloads: connections with one identifier went by the same
/// demands and the same trust anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyId(pub u32);

/// One compiled `[tls.options.NAME]`.
#[derive(Debug)]
pub struct Policy {
    /// Its name in the configuration.
    pub name: String,
    /// Its identifier.
    pub id: PolicyId,
    /// Whether a name that no certificate covers is refused.
    pub sni_strict: bool,
    pub(super) server: Arc<ServerConfig>,
    pub(super) clients: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) certificates: Arc<Certificates>,
}

impl Policy {
    /// Compiles the options called `name`.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn compile(
        name: &str,
        options: &TlsOptions,
        certificates: &Arc<Certificates>,
        files: &Files,
        known: &Known,
    ) -> Result<Self, Vec<Diagnostic>> {
        let provider = Arc::new(provider(options));
        let clients = match &options.client_auth {
            ClientAuth::None => None,
            ClientAuth::VerifyIfGiven(how) => Some(verifier(how, Demand::IfGiven, files, &provider)?),
            ClientAuth::RequireAndVerify(how) => Some(verifier(how, Demand::Required, files, &provider)?),
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions(options.min_version))
            .map_err(|_| Vec::new())?;
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        };
        let mut server = builder.with_cert_resolver(Arc::clone(certificates) as _);
        server.alpn_protocols = options
            .alpn_protocols
            .iter()
            .map(|name| alpn(*name).to_vec())
            .collect();
        server.session_storage = Arc::new(NoServerSessionStorage {});
        // One ticket a handshake: the default of two doubles the sealing work, and none at all makes some
        // clients wait for a delayed acknowledgement.
        server.send_tls13_tickets = 1;
        let (id, ticketer) = known.identify(name, options, contents(&options.client_auth, files)?);
        if let Some(ticketer) = ticketer {
            server.ticketer = ticketer;
        }
        let (name, sni_strict) = (name.to_owned(), options.sni_strict);
        Ok(Self {
            name,
            id,
            sni_strict,
            server: Arc::new(server),
            clients,
            certificates: Arc::clone(certificates),
        })
    }

    /// Whether every connection under this policy has shown a verified client certificate.
    pub fn proves_client(&self) -> bool {
        self.clients
            .as_ref()
            .is_some_and(|verifier| verifier.client_auth_mandatory())
    }
}

/// The files that decide who is trusted, byte for byte.
fn contents(auth: &ClientAuth, files: &Files) -> Result<Vec<Vec<u8>>, Vec<Diagnostic>> {
    let named: Vec<&Located<PathBuf>> = match auth {
        ClientAuth::None => Vec::new(),
        ClientAuth::VerifyIfGiven(how) | ClientAuth::RequireAndVerify(how) => {
            how.ca_files.iter().chain(&how.crl_files).collect()
        }
    };
    named
        .into_iter()
        .map(|file| files.read(file).map_err(|problem| vec![problem]))
        .collect()
}

/// The policies that this process has known: identifiers and ticket keys, shared by the workers and kept
/// over reloads.
#[derive(Debug, Default)]
pub struct Known {
    policies: Mutex<Vec<KnownPolicy>>,
    next: AtomicU32,
}

#[derive(Debug)]
struct KnownPolicy {
    name: String,
    options: TlsOptions,
    contents: Vec<Vec<u8>>,
    id: PolicyId,
    ticketer: Arc<dyn ProducesTickets>,
}

/// Policies that are remembered; beyond it the oldest are forgotten, which costs resumption and a 421 on
/// connections that outlive so many changes.
const KNOWN_POLICIES_MAX: usize = 256;

impl Known {
    /// The identity of a policy. Without working random numbers it has no ticket keys: sessions are then
    /// not resumed.
    fn identify(
        &self,
        name: &str,
        options: &TlsOptions,
        contents: Vec<Vec<u8>>,
    ) -> (PolicyId, Option<Arc<dyn ProducesTickets>>) {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&KnownPolicy| {
            known.name == name && known.options == *options && known.contents == contents
        };
        if let Some(known) = policies.iter().find(same) {
            return (known.id, Some(Arc::clone(&known.ticketer)));
        }
        let id = PolicyId(self.next.fetch_add(1, Ordering::Relaxed));
        let Ok(ticketer) = Ticketer::new() else {
            return (id, None);
        };
        if policies.len() == KNOWN_POLICIES_MAX {
            policies.remove(0);
        }
        let (name, options) = (name.to_owned(), options.clone());
        policies.push(KnownPolicy {
            name,
            options,
            contents,
            id,
            ticketer: Arc::clone(&ticketer),
        });
        (id, Some(ticketer))
    }
}

/// The policies of one entry point.
#[derive(Debug)]
pub struct EntryPolicies {
    /// For names that no router of the entry point claims, and for no name.
    pub default: Arc<Policy>,
    /// By host, lower case; empty on an uplink entry point.
    pub by_host: HashMap<String, Arc<Policy>>,
}

impl EntryPolicies {
    /// The policy of a host name in lower case.
    pub fn of(&self, host: Option<&str>) -> &Arc<Policy> {
        host.and_then(|host| self.by_host.get(host))
            .unwrap_or(&self.default)
    }
}
