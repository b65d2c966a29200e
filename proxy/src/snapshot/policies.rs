//! The TLS policies of a configuration, with the certificates that they share.

use super::{Kept, StateDir};
use crate::{
    fault::with_causes,
    tls::{Certificates, Files, GeneratedError, Policy, Reached, base_provider, default_key, passing_key},
};
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::{Config, EntryPointKind},
};
use std::{collections::HashMap, path::Path, sync::Arc};

/// By the name of the options.
pub(super) type Policies = HashMap<String, Arc<Policy>>;

/// Compiles every `[tls.options]`; none where no entry point has TLS. What is odd but usable goes to `remarks`.
pub(super) fn tls_policies(
    config: &Config,
    files: &Files,
    kept: &Kept,
    state_dir: StateDir,
    problems: &mut Vec<Diagnostic>,
    remarks: &mut Vec<Diagnostic>,
) -> Policies {
    let Some(secured) = config.entry_points.values().find(|entry| entry.tls.is_some()) else {
        return Policies::new();
    };
    let provider = base_provider();
    let default = match &config.tls.default_certificate {
        Some(pair) => files
            .certified_key(pair, &provider)
            .map_err(|problem| problems.push(problem)),
        None => files
            .generated(|| generated(&config.proxy.state_dir, state_dir, &provider))
            .map_err(|error| {
                let at = secured.address_at.clone();
                let message = format!("{}; entry points with tls cannot start", with_causes(&error));
                problems.push(Diagnostic { at, message });
            }),
    };
    let Ok(default) = default else {
        return Policies::new();
    };
    let certificates = match Certificates::load(&config.tls, files, &provider, Arc::new(default), remarks) {
        Ok(certificates) => Arc::new(certificates),
        Err(mut found) => {
            problems.append(&mut found);
            return Policies::new();
        }
    };
    let mut policies = Policies::new();
    for (name, options) in &config.tls.options {
        match Policy::compile(name, options, &certificates, files, &kept.policies, remarks) {
            Ok(policy) => {
                let at = first_place(config, &secured.address_at);
                match policy.reached() {
                    Reached::All => {}
                    Reached::Tls13Alone => remarks.push(unsigned(at, name, "clients of TLS 1.2 are refused")),
                    Reached::Nobody => problems.push(unsigned(at, name, "nobody could connect")),
                }
                policies.insert(name.clone(), Arc::new(policy));
            }
            Err(mut found) => problems.append(&mut found),
        }
    }
    policies
}

/// Where the certificates are named, or else where they are needed.
fn first_place(config: &Config, needed: &Location) -> Location {
    let named = config.tls.certificates.first();
    named
        .or(config.tls.default_certificate.as_ref())
        .map_or_else(|| needed.clone(), |pair| pair.cert_file.at.clone())
}

fn unsigned(at: Location, options: &str, consequence: &str) -> Diagnostic {
    Diagnostic {
        at,
        message: format!(
            "`tls.options.{options}.cipher_suites`: no certificate has a key that signs for one of them; {consequence}; add suites of the key's type (`TLS_ECDHE_ECDSA_…` or `TLS_ECDHE_RSA_…`) or a certificate of the other"
        ),
    }
}

/// The policies of one entry point, with tickets of its own.
pub(super) fn policies_at(
    policies: &Policies,
    entry_point: &str,
    kind: EntryPointKind,
    kept: &Kept,
) -> Policies {
    let own = |policy: &Arc<Policy>| {
        let own = policy.at(entry_point, &kept.policies);
        Arc::new(match kind {
            EntryPointKind::Ordinary => own,
            EntryPointKind::Uplink { .. } => own.of_own_secrets(),
        })
    };
    policies
        .iter()
        .map(|(name, policy)| (name.clone(), own(policy)))
        .collect()
}

fn generated(
    directory: &Path,
    state_dir: StateDir,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, GeneratedError> {
    match state_dir {
        StateDir::Keep => default_key(directory, provider),
        StateDir::LookOnly => passing_key(directory, provider),
    }
}
