//! What only the files of the allowlists can tell of a configuration.

use crate::gate::policy::{Allowlists, prefixes};
use ipnet::IpNet;
use sallyport_config::{
    diagnostic::Diagnostic,
    effective::covers_a_family,
    model::{Config, EntryPointKind},
};

/// An allowlist that is the only proof of a parent must keep somebody out, its files included: every one that
/// does not.
pub fn check_sources(config: &Config, lists: &Allowlists) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (name, entry) in &config.entry_points {
        let EntryPointKind::Uplink {
            allow_unauthenticated: false,
        } = entry.kind
        else {
            continue;
        };
        let Some(gate) = &entry.gate else { continue };
        let allowed: Vec<IpNet> = prefixes(&gate.allow, lists).into_iter().copied().collect();
        if !config.certificate_is_proof(entry) && covers_a_family(&allowed) {
            problems.push(Diagnostic {
                at: entry.address_at.clone(),
                message: format!(
                    "`uplink_entry_points.{name}.gate.allow` holds every address, its files included, and is the only proof of a parent; anybody could use the uplinks; verify client certificates or narrow the list"
                ),
            });
        }
    }
    problems
}
