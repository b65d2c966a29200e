//! Every mention of a name against the definitions.

use crate::{
    reader::nearest,
    report::{Fault, Report, one_of},
    section::{DEFAULT, EVERYONE, Kind, Mention, Names},
};

/// The names that are there without being written.
fn built_in(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Allowlist => Some(EVERYONE),
        Kind::ServersTransport | Kind::TlsOptions => Some(DEFAULT),
        Kind::EntryPoint
        | Kind::UplinkEntryPoint
        | Kind::Middleware
        | Kind::Service
        | Kind::TcpService
        | Kind::Uplink => None,
    }
}

impl Names {
    /// Whether `name` is the name of something of `kind`.
    pub(super) fn is_defined(&self, kind: Kind, name: &str) -> bool {
        built_in(kind) == Some(name)
            || self
                .defined
                .get(&kind)
                .is_some_and(|names| names.contains_key(name))
    }

    fn known(&self, kind: Kind) -> Vec<&str> {
        let written = self
            .defined
            .get(&kind)
            .into_iter()
            .flat_map(|names| names.keys().map(String::as_str));
        let mut all: Vec<&str> = written.chain(built_in(kind)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The kind of TLS settings that is taken for `kind` and has something of that name.
    fn namesake(&self, kind: Kind, name: &str) -> Option<Kind> {
        let other = match kind {
            Kind::ServersTransport => Kind::TlsOptions,
            Kind::TlsOptions => Kind::ServersTransport,
            _ => return None,
        };
        let written = self.defined.get(&other)?;
        written.contains_key(name).then_some(other)
    }

    /// The message for a name that nothing of `kind` has.
    pub(super) fn unknown(&self, kind: Kind, name: &str) -> Fault {
        let known = self.known(kind);
        let expected = match known.as_slice() {
            [] => format!("the name of one of the {}, of which there is none", plural(kind)),
            names => one_of(names.iter().copied()),
        };
        let remedy = match (self.namesake(kind, name), nearest(name, known)) {
            (Some(other), _) => format!(
                "`[{}.{name}]` is another thing ({}); define `[{}.{name}]` or name another",
                other.table(),
                side(other),
                kind.table()
            ),
            (None, Some(near)) => format!("write `{near}` if that was meant"),
            (None, None) => format!("define `[{}.{name}]` or name another", kind.table()),
        };
        Fault::found(format!(
            "found `{name}`, which no {} has as its name",
            kind.label()
        ))
        .expected(expected)
        .fix(remedy)
    }
}

/// Whom TLS settings are for.
fn side(kind: Kind) -> &'static str {
    match kind {
        Kind::TlsOptions => "TLS towards clients",
        _ => "TLS towards servers",
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Allowlist => "allowlists",
        Kind::EntryPoint => "entry points",
        Kind::UplinkEntryPoint => "uplink entry points",
        Kind::Middleware => "middlewares",
        Kind::Service => "services",
        Kind::ServersTransport => "servers transports",
        Kind::TcpService => "TCP services",
        Kind::TlsOptions => "TLS options",
        Kind::Uplink => "uplinks",
    }
}

/// Reports every reference that leads nowhere.
pub(super) fn resolve(report: &Report<'_>, names: &Names) {
    for reference in &names.references {
        let Mention { name, place, path } = &reference.mention;
        if !names.is_defined(reference.kind, name) {
            report.error(*place, path, &names.unknown(reference.kind, name));
        }
    }
}
