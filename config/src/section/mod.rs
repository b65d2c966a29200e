//! The sections of the file, each read into what it says; references between them are noted, not followed.
//!
//! A section checks its own keys and values. What needs another section is the [`crate::link`] stage's.

mod access_log;
mod client_auth;
pub(crate) mod entry_point;
mod inside;
mod middleware;
mod multicluster;
mod process;
mod router;
mod send_proxy;
mod service;
mod statuses;
mod tcp;
mod tls;

pub(crate) use middleware::MiddlewareDraft;
pub(crate) use multicluster::UplinkDraft;
pub(crate) use router::{Priority, RouterDraft};
pub(crate) use tcp::{TcpRouterDraft, TcpTlsDraft};

use crate::{
    address,
    model::{
        Admin, Allowlist, EntryPoint, Gate, Log, Metrics, Multicluster, Proxy, SourceRef, Tls,
        access_log::AccessLog, limits::RedirectScheme, service::Service, tcp::TcpService,
    },
    reader::{Named, Table, Value},
    report::{Fault, Place},
};
use ipnet::{Ipv4Net, Ipv6Net};
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

/// The allowlist that is built in: everybody.
pub(crate) const EVERYONE: &str = "everyone";

/// The name that holds where none is given, of TLS options and servers transports.
pub(crate) const DEFAULT: &str = "default";

/// Longest name of a header field or cookie that can be named.
const NAME_BYTES_MAX: usize = 256;

/// A token of RFC 9110 section 5.6.2: the name of a header field, or of a cookie.
pub(crate) fn is_field_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(token)
}

/// What a name can be the name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Allowlist,
    EntryPoint,
    UplinkEntryPoint,
    Middleware,
    Service,
    ServersTransport,
    TcpService,
    TlsOptions,
    Uplink,
}

impl Kind {
    /// What it is called in messages.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Allowlist => "allowlist",
            Self::EntryPoint => "entry point",
            Self::UplinkEntryPoint => "uplink entry point",
            Self::Middleware => "middleware",
            Self::Service => "service",
            Self::ServersTransport => "servers transport",
            Self::TcpService => "TCP service",
            Self::TlsOptions => "TLS options",
            Self::Uplink => "uplink",
        }
    }

    /// The table that defines it.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Allowlist => "allowlists",
            Self::EntryPoint => "entry_points",
            Self::UplinkEntryPoint => "uplink_entry_points",
            Self::Middleware => "middlewares",
            Self::Service => "services",
            Self::ServersTransport => "servers_transports",
            Self::TcpService => "tcp_services",
            Self::TlsOptions => "tls.options",
            Self::Uplink => "uplinks",
        }
    }
}

/// A name that stands somewhere, with the place and the path of the key that it stands under.
#[derive(Clone, Debug)]
pub(crate) struct Mention {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) path: String,
}

impl Mention {
    fn of(value: &Value<'_>, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            place: value.place(),
            path: value.path().to_owned(),
        }
    }
}

/// A mention that must be the name of something.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    pub(crate) kind: Kind,
    pub(crate) mention: Mention,
}

/// An entry point with the places that later messages point at.
pub(crate) struct EntryPointDraft {
    pub(crate) place: Place,
    /// What it says; its address is [`entry_point::UNKNOWN`] where that was refused.
    pub(crate) point: EntryPoint,
    /// `proxy_protocol.trusted_ips`, where it is written.
    pub(crate) trusted_place: Option<Place>,
    /// `middlewares` as it is written.
    pub(crate) middlewares: Vec<Mention>,
    /// `gate.required`, where it is written.
    pub(crate) required: Option<Mention>,
    /// `redirect`, where it is written.
    pub(crate) redirect: Option<RedirectDraft>,
}

/// A redirect whose target is not looked up yet.
#[derive(Clone)]
pub(crate) struct RedirectDraft {
    /// Where `to` is written.
    pub(crate) place: Place,
    pub(crate) to: RedirectTo,
    /// As it is written.
    pub(crate) scheme: Option<RedirectScheme>,
    pub(crate) permanent: bool,
}

/// `redirect.to`.
#[derive(Clone)]
pub(crate) enum RedirectTo {
    /// The name of an entry point.
    EntryPoint(String),
    /// `:PORT`
    Port(u16),
}

/// All sections; every name in it may still be wrong.
pub(crate) struct Draft {
    pub(crate) proxy: Proxy,
    pub(crate) log: Log,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) metrics: Metrics,
    pub(crate) admin: Admin,
    pub(crate) gate: Gate,
    pub(crate) allowlists: BTreeMap<String, Allowlist>,
    pub(crate) entry_points: BTreeMap<String, EntryPointDraft>,
    pub(crate) routers: Vec<RouterDraft>,
    pub(crate) middlewares: BTreeMap<String, MiddlewareDraft>,
    pub(crate) services: BTreeMap<String, Service>,
    pub(crate) servers_transports: BTreeMap<String, crate::model::transport::ServersTransport>,
    pub(crate) tcp_routers: Vec<TcpRouterDraft>,
    pub(crate) tcp_services: BTreeMap<String, TcpService>,
    pub(crate) tls: Tls,
    pub(crate) uplinks: BTreeMap<String, UplinkDraft>,
    pub(crate) multicluster: Multicluster,
    pub(crate) names: Names,
}

/// What is defined and what is mentioned.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) defined: BTreeMap<Kind, BTreeMap<String, Place>>,
    pub(crate) references: Vec<Reference>,
}

impl Names {
    fn define(&mut self, kind: Kind, named: &Named<'_>) {
        self.defined
            .entry(kind)
            .or_default()
            .insert(named.name.clone(), named.place);
    }

    /// Notes that `value` names something of `kind`.
    fn mention(&mut self, kind: Kind, value: &Value<'_>, name: &str) -> Mention {
        let mention = Mention::of(value, name);
        self.references.push(Reference {
            kind,
            mention: mention.clone(),
        });
        mention
    }

    /// The name under `key`, noted; `None` where absent or no string.
    fn one(&mut self, kind: Kind, table: &Table<'_>, key: &str) -> Option<String> {
        let value = table.get(key)?;
        let name = value.text()?;
        Some(self.mention(kind, &value, name).name)
    }

    /// As [`Names::one`], but absence is an error.
    fn need(&mut self, kind: Kind, table: &Table<'_>, key: &str) -> Option<String> {
        let value = table.need(key, &format!("the name of a {}", kind.label()))?;
        let name = value.text()?;
        Some(self.mention(kind, &value, name).name)
    }

    /// The names under `key`, noted; `None` where absent.
    fn list(&mut self, kind: Kind, table: &Table<'_>, key: &str) -> Option<Vec<Mention>> {
        if !table.has(key) {
            return None;
        }
        let mut found: Vec<Mention> = Vec::new();
        for value in table.filled(key, kind.label()) {
            let Some(name) = value.text() else { continue };
            if found.iter().any(|earlier| earlier.name == name) {
                value.refuse(&twice(name));
            }
            found.push(self.mention(kind, &value, name));
        }
        Some(found)
    }

    /// Prefixes and names of allowlists; `everyone` becomes its two prefixes.
    fn sources(&mut self, values: &[Value<'_>]) -> Vec<SourceRef> {
        let mut found = Vec::new();
        for value in values {
            let Some(text) = value.text() else { continue };
            if text == EVERYONE {
                found.push(SourceRef::Prefix(
                    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
                ));
                found.push(SourceRef::Prefix(
                    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
                ));
            } else if address::looks_like_prefix(text) {
                found.extend(value.parsed(address::prefix).map(SourceRef::Prefix));
            } else {
                found.push(SourceRef::List(self.mention(Kind::Allowlist, value, text).name));
            }
        }
        found
    }
}

fn twice(word: &str) -> Fault {
    Fault::found(format!("found `{word}` twice"))
        .expected("each once")
        .fix("remove one of them")
}

/// Reads everything below the root.
pub(crate) fn read(root: &Table<'_>) -> Draft {
    let mut names = Names::default();
    Draft {
        proxy: process::proxy(&root.merged("proxy")),
        log: process::log(&root.merged("log")),
        access_log: access_log::access_log(root),
        metrics: process::metrics(&root.merged("metrics")),
        admin: process::admin(&root.merged("admin")),
        gate: process::gate(&root.merged("gate")),
        allowlists: process::allowlists(root, &mut names),
        entry_points: entry_point::entry_points(root, &mut names),
        routers: router::routers(root, &mut names),
        middlewares: middleware::middlewares(root, &mut names),
        services: service::services(root, &mut names),
        servers_transports: service::transports(root, &mut names),
        tcp_routers: tcp::tcp_routers(root, &mut names),
        tcp_services: tcp::tcp_services(root, &mut names),
        tls: tls::tls(&root.merged("tls"), &mut names),
        uplinks: multicluster::uplinks(root, &mut names),
        multicluster: multicluster::multicluster(&root.merged("multicluster"), &mut names),
        names,
    }
}
