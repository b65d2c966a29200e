//! `[tcp_routers]` and `[tcp_services]`.

use crate::{
    address,
    model::tcp::{TcpServer, TcpService, TunnelIdle},
    reader::{NameRule, Named, Table, Value},
    report::{Fault, Place},
    rule::{Op, TcpMatcher, TcpRule},
    section::{
        Kind, Mention, Names,
        router::{Priority, entry_points, length, rule},
        send_proxy::send_proxy,
        service::{health::tcp_check, weighted},
    },
};
use std::{collections::BTreeMap, time::Duration};

/// TCP connect, where nothing is written.
const DIAL: Duration = Duration::from_secs(30);

/// A TCP router as it is written.
pub(crate) struct TcpRouterDraft {
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) path: String,
    /// `None` where it was refused.
    pub(crate) rule: Option<TcpRule>,
    pub(crate) rule_place: Place,
    /// `None` where absent.
    pub(crate) entry_points: Option<Vec<Mention>>,
    pub(crate) priority: Priority,
    /// `None` where it was refused.
    pub(crate) service: Option<String>,
    pub(crate) tls: TcpTlsDraft,
}

/// `tls` as it is written.
pub(crate) enum TcpTlsDraft {
    Clear,
    PassThrough,
    Terminate(Option<String>),
}

pub(super) fn tcp_routers(root: &Table<'_>, names: &mut Names) -> Vec<TcpRouterDraft> {
    root.named("tcp_routers", NameRule::Word)
        .iter()
        .map(|named| tcp_router(named, names))
        .collect()
}

fn tcp_router(named: &Named<'_>, names: &mut Names) -> TcpRouterDraft {
    let table = &named.table;
    let written = table.need("rule", "a rule such as \"HostSNI(`db.example.com`)\"");
    let rule = written.as_ref().and_then(|value| rule(value, TcpRule::parse_tcp));
    let tls = tls(table, names);
    if let (TcpTlsDraft::Clear, Some(value), Some(rule)) = (&tls, &written, &rule) {
        refuse_names_in_the_clear(value, rule);
    }
    TcpRouterDraft {
        name: named.name.clone(),
        place: named.place,
        path: table.path().to_owned(),
        rule_place: written.as_ref().map_or(named.place, Value::place),
        entry_points: entry_points(table),
        priority: Priority::read(table, rule.as_ref().map(own_priority)),
        rule,
        service: names.need(Kind::TcpService, table, "service"),
        tls,
    }
}

/// The length of the rule; the rule that takes any name goes last.
fn own_priority(rule: &TcpRule) -> i64 {
    match rule.ops() {
        [Op::Match(TcpMatcher::Any)] => -1,
        _ => length(rule.text()),
    }
}

fn tls(table: &Table<'_>, names: &mut Names) -> TcpTlsDraft {
    let Some(written) = table.get("tls") else {
        return TcpTlsDraft::Clear;
    };
    let Some(tls) = written.table() else {
        return TcpTlsDraft::Clear;
    };
    let passthrough = tls.flag("passthrough").unwrap_or(false);
    let options = names.one(Kind::TlsOptions, &tls, "options");
    match (passthrough, options) {
        (true, None) => TcpTlsDraft::PassThrough,
        (true, Some(_)) => {
            let fault = Fault::found("found `options` beside `passthrough = true`").expected("one of them");
            let fault = fault.so("the server shakes hands, so the options would demand nothing");
            tls.refuse(&fault.fix("remove `options`, or `passthrough` where this gateway is to shake hands"));
            TcpTlsDraft::PassThrough
        }
        (false, options) => TcpTlsDraft::Terminate(options),
    }
}

/// Names and protocols are in the ClientHello; without TLS there is none.
fn refuse_names_in_the_clear(value: &Value<'_>, rule: &TcpRule) {
    let Some(matcher) = rule.hello_matchers().next() else {
        return;
    };
    let fault = Fault::found(format!("found ``{matcher}`` on a router without `tls`"))
        .expected("``HostSNI(`*`)`` and `ClientIP` alone")
        .so("a connection in the clear tells no name and no protocol");
    value.refuse(
        &fault.fix("add `tls = { passthrough = true }`, or `tls = {}` where this gateway is to shake hands"),
    );
}

pub(super) fn tcp_services(root: &Table<'_>, names: &mut Names) -> BTreeMap<String, TcpService> {
    let mut found = BTreeMap::new();
    for named in root.named("tcp_services", NameRule::Word) {
        names.define(Kind::TcpService, &named);
        let table = &named.table;
        let timeouts = table.table("timeouts");
        let timeouts = timeouts.as_ref();
        let service = TcpService {
            servers: servers(table),
            proxy_protocol: send_proxy(table),
            dial_timeout: timeouts.map_or(Some(DIAL), |table| table.deadline("dial", Some(DIAL))),
            idle_timeout: match timeouts {
                Some(table) if table.has("idle") => TunnelIdle::Own(table.deadline("idle", None)),
                _ => TunnelIdle::OfEntryPoint,
            },
            health_check: tcp_check(table),
        };
        found.insert(named.name, service);
    }
    found
}

fn servers(table: &Table<'_>) -> Vec<TcpServer> {
    let found = weighted(table, "connection", |server| {
        let address = server.need("address", "an address such as `10.0.0.9:5432`");
        address.and_then(|address| address.parsed(address::server_address))
    });
    let servers = found.into_iter();
    servers
        .map(|(address, weight)| TcpServer { address, weight })
        .collect()
}
