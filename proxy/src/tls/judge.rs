//! Whether a live connection would still get through: judged anew by the policy that its name has now.
//!
//! Pure but for the clock that it is handed. What a connection proved never grows by it: a connection is kept only
//! where its version, suite, group, protocol and certificate would come to the same facts today.

use super::{
    clients::Clients,
    facts::{ClientChain, Facts},
    fault::TlsReason,
    policy::{EntryPolicies, Policy},
};
use rustls::{ProtocolVersion, pki_types::UnixTime};

/// What is to become of a live connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It goes on.
    Keep,
    /// It ends, for this reason.
    Close(TlsReason),
}

/// Judges a live connection by the policies that its entry point has now.
pub fn judge_again(policies: &EntryPolicies, facts: &Facts, now: UnixTime) -> Judged {
    let policy = policies.of(facts.sni.as_deref());
    if !policy.would_agree_on(facts) {
        return Judged::Close(TlsReason::PolicyChanged);
    }
    match still_proven(policy.clients.as_deref(), facts.shown.as_deref(), now) {
        Ok(()) => Judged::Keep,
        Err(reason) => Judged::Close(reason),
    }
}

/// Whether a request for the policy `demanded` may go over the connection. One whose own policy was replaced is judged
/// by the new one, once, and then counts as one of it; nothing leads from one name's policy to another's.
pub fn stands_for(policies: &EntryPolicies, facts: &Facts, demanded: &Policy, now: UnixTime) -> bool {
    if facts.policy.get() == demanded.id {
        return true;
    }
    let own = policies.of(facts.sni.as_deref());
    if own.id != demanded.id || judge_again(policies, facts, now) != Judged::Keep {
        return false;
    }
    facts.policy.set(own.id);
    true
}

fn still_proven(
    clients: Option<&Clients>,
    shown: Option<&ClientChain>,
    now: UnixTime,
) -> Result<(), TlsReason> {
    let Some(clients) = clients else {
        // Verified by demands that nobody makes any more: no proof by today's.
        return shown.map_or(Ok(()), |_| Err(TlsReason::PolicyChanged));
    };
    let certificates = shown.map_or(&[][..], |chain| &chain.certificates);
    let judged = clients
        .judge(certificates, now)
        .map_err(|error| TlsReason::of(&error))?;
    if judged.map(|chain| chain.standing) == shown.map(|chain| chain.standing) {
        Ok(())
    } else {
        Err(TlsReason::PolicyChanged)
    }
}

impl Policy {
    /// Whether version, suite, group and protocol of a connection are among those of this policy.
    fn would_agree_on(&self, facts: &Facts) -> bool {
        let version = match facts.version {
            "TLSv1.3" => ProtocolVersion::TLSv1_3,
            _ => ProtocolVersion::TLSv1_2,
        };
        let provider = self.server.crypto_provider();
        let has_suite = provider.cipher_suites.iter().any(|suite| {
            suite.version().version == version && super::facts::suite_name(suite.suite()) == facts.suite
        });
        let has_group = facts.group.is_none_or(|group| {
            let mut names = provider.kx_groups.iter().map(|known| known.name().as_str());
            names.any(|name| name == Some(group))
        });
        let has_protocol = facts.alpn.is_none_or(|agreed| {
            let mut names = self.server.alpn_protocols.iter();
            names.any(|name| name == agreed.as_bytes())
        });
        has_suite && has_group && has_protocol
    }
}

#[cfg(test)]
mod tests;
