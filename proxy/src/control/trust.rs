//! What stands behind TLS, for the status: certificates, authorities, revocation lists, and what entry points demand.
//!
//! It reads what is held and the running configuration, and changes nothing.

use super::{credentials::display, state::State};
use crate::tls::{CertificateFacts, RevocationFacts, Says, Unit, UnitState};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{CertFiles, ClientAuth, Config, EntryPoint, EntryPointKind, Located, Reach},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct TlsStatus {
    /// `valid`, or `invalid` where a file as it is now is not taken.
    pub state: &'static str,
    /// Why files are not taken.
    pub problems: Vec<String>,
    /// Certificates with their keys, those for servers included.
    pub certificates: Vec<CertificateStatus>,
    /// Files of authorities.
    pub authorities: Vec<AuthoritiesStatus>,
    /// Files of revocation lists.
    pub revocation_lists: Vec<RevocationsStatus>,
    /// Sessions that ended because they would not get in any more, by reason.
    pub sessions_ended: BTreeMap<&'static str, u64>,
}

/// What is the same of every unit.
#[derive(Debug, Serialize)]
pub(super) struct FileStatus {
    /// Certificate and key, joined by `+`; `generated` for the generated certificate.
    #[serde(rename = "name")]
    pub file: String,
    /// The keys of the configuration that name it.
    pub used_by: Vec<String>,
    /// When what counts was read, in seconds since the epoch.
    pub taken: u64,
    /// Why the file as it is now is not taken.
    pub problems: Vec<String>,
}

/// A certificate and its key.
#[derive(Debug, Serialize)]
pub(super) struct CertificateStatus {
    /// Its files.
    #[serde(flatten)]
    pub file: FileStatus,
    /// What it says.
    #[serde(flatten)]
    pub facts: CertificateFacts,
    /// Whole days to its end; negative after it.
    pub days_left: i64,
}

/// A file of authorities.
#[derive(Debug, Serialize)]
pub(super) struct AuthoritiesStatus {
    #[serde(flatten)]
    file: FileStatus,
    count: usize,
    /// The first twenty.
    certificates: Vec<CertificateFacts>,
}

/// A file of revocation lists.
#[derive(Debug, Serialize)]
pub(super) struct RevocationsStatus {
    /// The file.
    #[serde(flatten)]
    pub file: FileStatus,
    /// Its lists.
    pub lists: Vec<ListStatus>,
}

/// One revocation list.
#[derive(Debug, Serialize)]
pub(super) struct ListStatus {
    /// What it says.
    #[serde(flatten)]
    pub facts: RevocationFacts,
    /// Whether it refuses whom it speaks about, because its time has passed.
    pub expired: bool,
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// What stands behind TLS now.
pub(super) fn status(state: &State) -> TlsStatus {
    let (loaded, now) = (state.loaded(), now());
    let used = used_by(&loaded.config, &loaded.base);
    let mut all = TlsStatus {
        state: "valid",
        problems: Vec::new(),
        certificates: Vec::new(),
        authorities: Vec::new(),
        revocation_lists: Vec::new(),
        sessions_ended: state.sessions_ended(),
    };
    for unit in loaded.tls_files.states() {
        let file = file_status(&unit, &used);
        all.problems.extend(file.problems.iter().cloned());
        match unit.says {
            Says::Certificate(facts) => all.certificates.push(CertificateStatus {
                file,
                days_left: (facts.not_after - now).div_euclid(DAY),
                facts: *facts,
            }),
            Says::Authorities(count, certificates) => all.authorities.push(AuthoritiesStatus {
                file,
                count,
                certificates,
            }),
            Says::Revocations(lists) => all.revocation_lists.push(RevocationsStatus {
                file,
                lists: lists.into_iter().map(|facts| list_status(facts, now)).collect(),
            }),
            Says::Nothing => {}
        }
    }
    if !all.problems.is_empty() {
        all.state = "invalid";
    }
    all
}

fn list_status(facts: RevocationFacts, now: i64) -> ListStatus {
    ListStatus {
        expired: facts.next_update.is_some_and(|next| next < now),
        facts,
    }
}

fn file_status(unit: &UnitState, used: &BTreeMap<Unit, BTreeSet<String>>) -> FileStatus {
    let by = match unit.unit {
        Unit::Generated => vec!["tls.default_certificate".to_owned()],
        _ => used.get(&unit.unit).into_iter().flatten().cloned().collect(),
    };
    FileStatus {
        file: display(&unit.unit),
        used_by: by,
        taken: unit
            .taken
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        problems: unit.problems.iter().map(Diagnostic::to_string).collect(),
    }
}

/// The keys that name each unit.
fn used_by(config: &Config, base: &Path) -> BTreeMap<Unit, BTreeSet<String>> {
    let mut used: BTreeMap<Unit, BTreeSet<String>> = BTreeMap::new();
    let mut note = |unit: Unit, key: String| {
        used.entry(unit).or_default().insert(key);
    };
    let file = |file: &Located<PathBuf>| Unit::File(base.join(&file.value));
    let pair =
        |pair: &CertFiles| Unit::Pair(base.join(&pair.cert_file.value), base.join(&pair.key_file.value));
    if let Some(one) = &config.tls.default_certificate {
        note(pair(one), "tls.default_certificate".to_owned());
    }
    for one in &config.tls.certificates {
        note(pair(one), "tls.certificates".to_owned());
    }
    for (name, options) in &config.tls.options {
        let Some(how) = verification(&options.client_auth) else {
            continue;
        };
        for one in how.ca_files.iter().chain(&how.crl_files) {
            note(file(one), format!("tls.options.{name}"));
        }
    }
    for (name, transport) in &config.servers_transports {
        for one in &transport.root_cas {
            note(file(one), format!("servers_transports.{name}"));
        }
        for one in &transport.certificates {
            note(pair(one), format!("servers_transports.{name}"));
        }
    }
    used
}

fn verification(auth: &ClientAuth) -> Option<&sallyport_config::model::ClientVerification> {
    match auth {
        ClientAuth::None | ClientAuth::Request | ClientAuth::RequireAny => None,
        ClientAuth::VerifyIfGiven(how) | ClientAuth::RequireAndVerify(how) => Some(how),
    }
}

/// What clients of an entry point must show.
#[derive(Debug, Serialize)]
pub(super) struct DemandStatus {
    /// Name of the options.
    options: String,
    /// `client_auth.type`.
    client_auth: &'static str,
    /// The hosts for which they count; empty: all that no other names.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    hosts: BTreeSet<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ca_files: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    crl_files: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subject_names: Vec<String>,
}

/// What clients of the entry point `name` must show: its own options first, then those of its routers' hosts.
pub(super) fn demands(config: &Config, name: &str, entry: &EntryPoint) -> Vec<DemandStatus> {
    let Some(tls) = &entry.tls else { return Vec::new() };
    let mut by_options: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    if entry.kind == EntryPointKind::Ordinary {
        for router in config.routers.values() {
            let options = config.effective_tls_options(router, entry);
            let here =
                matches!(&router.reach, Reach::EntryPoints(names) if names.iter().any(|at| at == name));
            if here && options != tls.options {
                let hosts = router.rule.required_hosts().unwrap_or_default();
                let hosts = hosts.into_iter().map(|host| host.to_string());
                by_options.entry(options).or_default().extend(hosts);
            }
        }
    }
    let own = std::iter::once((tls.options.as_str(), BTreeSet::new()));
    own.chain(by_options)
        .filter_map(|(options, hosts)| demand(config, options, hosts))
        .collect()
}

fn demand(config: &Config, name: &str, hosts: BTreeSet<String>) -> Option<DemandStatus> {
    let auth = &config.tls.options.get(name)?.client_auth;
    let how = verification(auth);
    let paths = |files: &[Located<PathBuf>]| files.iter().map(|file| file.value.clone()).collect();
    Some(DemandStatus {
        options: name.to_owned(),
        client_auth: match auth {
            ClientAuth::None => "NoClientCert",
            ClientAuth::Request => "RequestClientCert",
            ClientAuth::RequireAny => "RequireAnyClientCert",
            ClientAuth::VerifyIfGiven(_) => "VerifyClientCertIfGiven",
            ClientAuth::RequireAndVerify(_) => "RequireAndVerifyClientCert",
        },
        hosts,
        ca_files: how.map(|how| paths(&how.ca_files)).unwrap_or_default(),
        crl_files: how.map(|how| paths(&how.crl_files)).unwrap_or_default(),
        subject_names: how.map(|how| how.subject_names.clone()).unwrap_or_default(),
    })
}
