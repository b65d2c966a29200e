//! TLS policies: what a handshake demands, and which one a connection gets.
//!
//! SNI chooses among the policies of one entry point only. A policy is known by the digest of all that it demands:
//! the words of its options and the contents of its CA and revocation files. Session tickets are bound to that digest
//! and to the entry point, so that reloads which leave both alone leave sessions alone.

use super::{
    certificates::Certificates,
    clients::Clients,
    files::Files,
    provider::{alpn, provider, sha256, versions},
    revocation,
    tickets::{Masters, Tickets},
};
use rustls::{
    NamedGroup, ProtocolVersion, ServerConfig,
    crypto::{CryptoProvider, SupportedKxGroup},
    pki_types::UnixTime,
    server::{NoServerSessionStorage, ProducesTickets},
};
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::{ClientAuth, ClientVerification, Located, TlsOptions},
};
use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

/// Identifies a policy within the process, over reloads: connections with one identifier went by the same
/// demands and the same trust anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyId(pub u32);

/// One compiled `[tls.options.NAME]`.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name in the configuration.
    pub name: String,
    /// Its identifier.
    pub id: PolicyId,
    /// Whether a name that no certificate covers is refused.
    pub sni_strict: bool,
    /// With all groups.
    pub(super) server: Arc<ServerConfig>,
    /// With one group each, in the order of preference: the library alone would go by the client's.
    by_group: Vec<(&'static dyn SupportedKxGroup, Arc<ServerConfig>)>,
    pub(super) clients: Option<Arc<Clients>>,
    pub(super) certificates: Arc<Certificates>,
    digest: [u8; 32],
}

impl Policy {
    /// Compiles the options called `name`. It hands out no tickets before [`Policy::at`]. What refuses clients although
    /// every file can be read goes to `remarks`.
    ///
    /// # Errors
    /// Every file that cannot be used.
    pub fn compile(
        name: &str,
        options: &TlsOptions,
        certificates: &Arc<Certificates>,
        files: &Files,
        known: &Known,
        remarks: &mut Vec<Diagnostic>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let provider = provider(options);
        let clients = Clients::compile(&options.client_auth, files, &provider)?.map(Arc::new);
        if let Some(how) = verification(&options.client_auth) {
            remarks.extend(revocation::remarks(how, files, UnixTime::now()));
        }
        let build = |groups: &[&'static dyn SupportedKxGroup]| {
            let provider = CryptoProvider {
                kx_groups: groups.to_vec(),
                ..provider.clone()
            };
            server(provider, options, clients.as_ref(), certificates).map(Arc::new)
        };
        let each = provider
            .kx_groups
            .iter()
            .map(|group| Ok((*group, build(&[*group])?)));
        let by_group: Result<Vec<_>, rustls::Error> = each.collect();
        // The library refuses versions without suites and groups, which the configuration's words rule out.
        let failed = |error: rustls::Error| vec![no_server(name, &error)];
        let (server, by_group) = (
            build(&provider.kx_groups).map_err(failed)?,
            by_group.map_err(failed)?,
        );
        let digest = digest(name, options, files)?;
        Ok(Self {
            name: name.to_owned(),
            id: known.identify(digest),
            sni_strict: options.sni_strict,
            server,
            by_group,
            clients,
            certificates: Arc::clone(certificates),
            digest,
        })
    }

    /// The same policy for one entry point: its tickets open there alone.
    pub fn at(&self, entry_point: &str, known: &Known) -> Self {
        let purpose = sha256(&[self.digest.as_slice(), entry_point.as_bytes()].concat());
        let tickets: Arc<dyn ProducesTickets> = Arc::new(Tickets::new(&known.masters, purpose));
        self.changed(|server| server.ticketer = Arc::clone(&tickets))
    }

    /// The same policy where peers derive secrets from the session: one of TLS 1.2 without an extended master secret
    /// (RFC 7627) may share them with another, and is refused.
    pub fn of_own_secrets(&self) -> Self {
        self.changed(|server| server.require_ems = true)
    }

    /// The same policy for what is not HTTP: one of `protocols` is agreed on, and where there are none, none is.
    pub fn speaking(&self, protocols: &[&str]) -> Self {
        self.changed(|server| {
            server.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        })
    }

    fn changed(&self, change: impl Fn(&mut ServerConfig)) -> Self {
        let changed = |server: &Arc<ServerConfig>| {
            let mut server = ServerConfig::clone(server);
            change(&mut server);
            Arc::new(server)
        };
        let each = self.by_group.iter();
        Self {
            server: changed(&self.server),
            by_group: each.map(|(group, server)| (*group, changed(server))).collect(),
            ..self.clone()
        }
    }

    /// The library's configuration for a client that has these groups: the first of ours that it has decides, at the
    /// price of another round trip where the client has sent no share of it.
    pub(super) fn server_for(
        &self,
        version: ProtocolVersion,
        groups: Option<&[NamedGroup]>,
    ) -> &Arc<ServerConfig> {
        let groups = groups.unwrap_or_default();
        let common = |(group, _): &&(&'static dyn SupportedKxGroup, _)| {
            group.usable_for_version(version) && groups.contains(&group.name())
        };
        let preferred = self.by_group.iter().find(common);
        preferred.map_or(&self.server, |(_, server)| server)
    }

    /// Whether every connection under this policy has shown a verified client certificate.
    pub fn proves_client(&self) -> bool {
        self.clients
            .as_ref()
            .is_some_and(|clients| clients.prove_everybody())
    }
}

fn no_server(options: &str, error: &rustls::Error) -> Diagnostic {
    Diagnostic {
        at: Location::start_of(""),
        message: format!(
            "`tls.options.{options}` cannot be served: {error}; the configuration is refused; change its versions, suites or groups"
        ),
    }
}

fn server(
    provider: CryptoProvider,
    options: &TlsOptions,
    clients: Option<&Arc<Clients>>,
    certificates: &Arc<Certificates>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions(options.min_version, options.max_version))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients) as _),
    };
    let mut server = builder.with_cert_resolver(Arc::clone(certificates) as _);
    let protocols = options.alpn_protocols.iter();
    server.alpn_protocols = protocols.map(|name| alpn(*name).to_vec()).collect();
    // A client that names its weakest suite first does not get it.
    server.ignore_client_order = true;
    server.session_storage = Arc::new(NoServerSessionStorage {});
    // One ticket a handshake: the default of two doubles the sealing work, and none at all makes some
    // clients wait for a delayed acknowledgement.
    server.send_tls13_tickets = 1;
    Ok(server)
}

/// What the certificates leave of the versions that a policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Every version that it allows.
    All,
    /// TLS 1.3; no certificate can sign for the suites of TLS 1.2.
    Tls13Alone,
    /// None.
    Nobody,
}

impl Policy {
    /// Whether the certificates can sign for the suites of TLS 1.2, where that is allowed. Those of TLS 1.3 go with any.
    pub fn reached(&self) -> Reached {
        let suites = &self.server.crypto_provider().cipher_suites;
        let (new, old): (Vec<_>, Vec<_>) = suites.iter().partition(|suite| suite.tls13().is_some());
        match (new.is_empty(), old.is_empty() || self.certificates.sign_for(&old)) {
            (_, true) => Reached::All,
            (false, false) => Reached::Tls13Alone,
            (true, false) => Reached::Nobody,
        }
    }
}

fn verification(auth: &ClientAuth) -> Option<&ClientVerification> {
    match auth {
        ClientAuth::None | ClientAuth::Request | ClientAuth::RequireAny => None,
        ClientAuth::VerifyIfGiven(how) | ClientAuth::RequireAndVerify(how) => Some(how),
    }
}

/// All that decides who gets through and what was agreed. Where the files are is not part of it, what they hold is.
fn digest(name: &str, options: &TlsOptions, files: &Files) -> Result<[u8; 32], Vec<Diagnostic>> {
    let TlsOptions {
        min_version,
        max_version,
        cipher_suites,
        curve_preferences,
        alpn_protocols,
        sni_strict,
        client_auth,
    } = options;
    let (mode, how) = match client_auth {
        ClientAuth::None => ("none", None),
        ClientAuth::Request => ("request", None),
        ClientAuth::RequireAny => ("require any", None),
        ClientAuth::VerifyIfGiven(how) => ("if given", Some(how)),
        ClientAuth::RequireAndVerify(how) => ("required", Some(how)),
    };
    let digests = |named: &[Located<PathBuf>]| {
        let read = |file| files.read(file).map(|bytes| sha256(&bytes));
        let all: Result<Vec<[u8; 32]>, Diagnostic> = named.iter().map(read).collect();
        all.map_err(|problem| vec![problem])
    };
    let asked = match how {
        None => None,
        Some(how) => Some((
            digests(&how.ca_files)?,
            digests(&how.crl_files)?,
            how.crl_scope,
            &how.subject_names,
        )),
    };
    // The text quotes what is free, so that different options never read alike; it is compared within this process only.
    let words = (min_version, max_version, cipher_suites, curve_preferences);
    let text = format!("{name:?} {words:?} {alpn_protocols:?} {sni_strict} {mode} {asked:?}");
    Ok(sha256(text.as_bytes()))
}

/// What this process remembers of policies over reloads: identifiers by digest, and the masters of their tickets.
#[derive(Debug, Default)]
pub struct Known {
    policies: Mutex<Numbered>,
    masters: Arc<Masters>,
}

#[derive(Debug, Default)]
struct Numbered {
    next: u32,
    /// Oldest first.
    known: VecDeque<([u8; 32], PolicyId)>,
}

/// Policies that are remembered; beyond it the oldest are forgotten, which costs a 421 on connections that outlive so
/// many changes.
const KNOWN_POLICIES_MAX: usize = 1024;

impl Known {
    fn identify(&self, digest: [u8; 32]) -> PolicyId {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, id)) = policies.known.iter().find(|(known, _)| *known == digest) {
            return *id;
        }
        let id = PolicyId(policies.next);
        policies.next = policies.next.wrapping_add(1);
        if policies.known.len() == KNOWN_POLICIES_MAX {
            policies.known.pop_front();
        }
        policies.known.push_back((digest, id));
        id
    }
}

/// The policies of one entry point.
#[derive(Debug)]
pub struct EntryPolicies {
    /// For names that no router of the entry point claims, and for no name.
    pub default: Arc<Policy>,
    /// By host, lower case; empty on an uplink entry point.
    pub by_host: HashMap<String, Arc<Policy>>,
    /// For names with one label before this that are not among those hosts.
    pub by_parent: HashMap<String, Arc<Policy>>,
}

impl EntryPolicies {
    /// One policy, whatever the name.
    pub fn alone(policy: Arc<Policy>) -> Self {
        Self {
            default: policy,
            by_host: HashMap::new(),
            by_parent: HashMap::new(),
        }
    }

    /// The policy of a host name in lower case: its own, else that of the wildcard above it, else the default.
    pub fn of(&self, host: Option<&str>) -> &Arc<Policy> {
        let own = host.and_then(|host| self.by_host.get(host));
        let of_parent = || {
            let (_, parent) = host?.split_once('.')?;
            self.by_parent.get(parent)
        };
        own.or_else(|| {
            if self.by_parent.is_empty() {
                None
            } else {
                of_parent()
            }
        })
        .unwrap_or(&self.default)
    }
}
