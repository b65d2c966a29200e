//! TCP routers: where they are reached, and what must not stand beside what.

use super::{
    Places,
    routers::ordinary_point,
    twins::{self, Candidate},
};
use crate::{
    effective::EntryPointSet,
    model::{
        Config, EntryPoint, Reach,
        tcp::{TcpRouter, TcpTls},
    },
    report::{Fault, Report},
    section::{Mention, TcpRouterDraft, TcpTlsDraft},
};
use std::collections::BTreeMap;

/// The TCP routers with their entry points.
pub(super) fn resolve(report: &Report<'_>, config: &Config, places: &Places) -> BTreeMap<String, TcpRouter> {
    let mut found = BTreeMap::new();
    for draft in &places.tcp_routers {
        let points = match &draft.entry_points {
            Some(list) => named(report, config, draft, list),
            None => default_set(report, config, draft),
        };
        if points.is_empty() {
            continue;
        }
        if let (Some(rule), Some(service)) = (&draft.rule, &draft.service) {
            let router = TcpRouter {
                rule: rule.clone(),
                entry_points: points,
                priority: draft.priority.rank(),
                service: service.clone(),
                tls: match &draft.tls {
                    TcpTlsDraft::Clear => TcpTls::Clear,
                    TcpTlsDraft::PassThrough => TcpTls::PassThrough,
                    TcpTlsDraft::Terminate(options) => TcpTls::Terminate {
                        options: options.clone(),
                    },
                },
                at: report.locate(draft.place),
            };
            found.insert(draft.name.clone(), router);
        }
    }
    found
}

fn named(report: &Report<'_>, config: &Config, draft: &TcpRouterDraft, list: &[Mention]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for Mention { name, place, path } in list {
        let fault = match ordinary_point(config, &found, name) {
            Err(fault) => fault,
            Ok(point) => match misplaced(draft, name, point) {
                Some(fault) => fault,
                None => {
                    found.push(name.clone());
                    continue;
                }
            },
        };
        report.error(*place, path, &fault);
    }
    found
}

/// Why a router cannot be reached by an entry point, if so.
fn misplaced(draft: &TcpRouterDraft, name: &str, point: &EntryPoint) -> Option<Fault> {
    match (&draft.tls, &point.tls) {
        (TcpTlsDraft::Terminate(_), None) => {
            let found = format!("found `{name}`, which has no TLS, on a router that shakes hands");
            let fault = Fault::found(found).expected("entry points with a `tls` table");
            let fault = fault.so("the router would never match there");
            Some(fault.fix(format!(
                "add `tls = {{}}` to `entry_points.{name}`, or write `passthrough = true`"
            )))
        }
        (TcpTlsDraft::Clear, Some(_)) => {
            let found = format!("found `{name}`, which has TLS, on a router without `tls`");
            let fault = Fault::found(found).expected("entry points without a `tls` table");
            let fault = fault.so("no connection in the clear is served there");
            Some(fault.fix("add `tls` to the router, or name another entry point"))
        }
        (TcpTlsDraft::Clear, None) | (TcpTlsDraft::PassThrough, _) | (TcpTlsDraft::Terminate(_), Some(_)) => {
            None
        }
    }
}

/// The entry points of the default set that have TLS. In the clear there is no default: such a router takes
/// whole ports.
fn default_set(report: &Report<'_>, config: &Config, draft: &TcpRouterDraft) -> Vec<String> {
    if matches!(draft.tls, TcpTlsDraft::Clear) {
        let fault =
            Fault::found("found neither `entry_points` nor `tls`").expected("the entry points by name");
        let fault = fault.so("a router without `tls` takes what comes over a port before HTTP does");
        report.error(draft.place, &draft.path, &fault.fix("add `entry_points`"));
        return Vec::new();
    }
    let default = config.default_entry_points(EntryPointSet::Ordinary);
    let has_tls = |name: &&str| {
        config
            .entry_points
            .get(*name)
            .is_some_and(|point| point.tls.is_some())
    };
    let usable: Vec<String> = default.into_iter().filter(has_tls).map(str::to_owned).collect();
    if usable.is_empty() {
        let fault = Fault::found("found no entry point of the default set that has TLS");
        let fault = fault
            .expected("one that has, or `entry_points`")
            .so("the router would never match")
            .fix("name entry points in `entry_points`, or add `tls = {}` to one of the default set");
        report.error(draft.place, &draft.path, &fault);
    }
    usable
}

/// What stands at one entry point and must not stand together.
pub(super) fn check_conflicts(report: &Report<'_>, config: &Config, places: &Places) {
    let clear = |draft: &TcpRouterDraft| matches!(draft.tls, TcpTlsDraft::Clear);
    check_twins(report, config, places, clear);
    check_twins(report, config, places, |draft| !clear(draft));
    for draft in &places.tcp_routers {
        let Some(router) = config.tcp.routers.get(&draft.name) else {
            continue;
        };
        for point in &router.entry_points {
            check_hosts(report, config, places, (draft, router), point);
            warn_of_nothing_left(report, config, places, (draft, router), point);
        }
    }
}

/// Two routers that take the same connections at the same rank: which of them it is would be chance. Those for TLS and
/// those for connections in the clear never take the same.
fn check_twins(
    report: &Report<'_>,
    config: &Config,
    places: &Places,
    wanted: impl Fn(&TcpRouterDraft) -> bool,
) {
    let candidates = places.tcp_routers.iter().filter(|draft| wanted(draft));
    let candidates = candidates.filter_map(|draft| {
        let router = config.tcp.routers.get(&draft.name)?;
        let names = router.entry_points.iter();
        Some(Candidate {
            place: draft.rule_place,
            path: &draft.path,
            meaning: router.rule.meaning(),
            priority: draft.priority,
            reached: names.map(|name| format!("entry_points.{name}")).collect(),
        })
    });
    twins::check(report, candidates.collect());
}

/// A host that both a TCP router and a router of HTTP name on one entry point.
fn check_hosts(
    report: &Report<'_>,
    config: &Config,
    places: &Places,
    (draft, router): (&TcpRouterDraft, &TcpRouter),
    point_name: &str,
) {
    let Some(point) = config.entry_points.get(point_name) else {
        return;
    };
    for http in &places.routers {
        let Some(theirs) = config.routers.get(&http.name) else {
            continue;
        };
        if point.tls.is_none() || !reaches(&theirs.reach, point_name) {
            continue;
        }
        let (own, options) = (
            config.tcp_tls_options(router, point),
            config.effective_tls_options(theirs, point),
        );
        for host in theirs.rule.named_hosts() {
            let at = report.locate(http.rule_place);
            let named = router.rule.named_names().contains(&host);
            let fault = match own {
                _ if router.rule.demands_hello() && router.rule.takes_all_of(host) => Fault::found(format!(
                    "takes every connection of the host `{host}` on `entry_points.{point_name}`, which `{}` at {at} routes as HTTP",
                    http.path
                ))
                .expected("one of the two")
                .so("that router would never match, so the configuration is refused")
                .fix("remove the host from one of the rules, or tell the two apart by `ALPN` or `ClientIP`"),
                Some(own) if named && own != options => Fault::found(format!(
                    "the host `{host}` gets the TLS options `{own}` on `entry_points.{point_name}`, but `{options}` by `{}` at {at}",
                    http.path
                ))
                .expected("the same options on every router of a host")
                .so("a client could take the way with the weaker ones, so the configuration is refused")
                .fix("give both routers the same `tls.options`, or the options to the entry point"),
                _ => continue,
            };
            report.error(draft.rule_place, &draft.path, &fault);
        }
    }
}

fn reaches(reach: &Reach, point: &str) -> bool {
    matches!(reach, Reach::EntryPoints(names) if names.iter().any(|name| name == point))
}

/// A router of HTTP that names an entry point where a TCP router takes everything in the clear.
fn warn_of_nothing_left(
    report: &Report<'_>,
    config: &Config,
    places: &Places,
    (draft, router): (&TcpRouterDraft, &TcpRouter),
    point: &str,
) {
    if router.tls != TcpTls::Clear || !router.rule.takes_everything() {
        return;
    }
    for http in &places.routers {
        let named = http
            .entry_points
            .iter()
            .flatten()
            .find(|mention| mention.name == point);
        if let (Some(mention), true) = (named, config.routers.contains_key(&http.name)) {
            let fault = Fault::found(format!(
                "`{point}`, where `{}` takes every connection",
                draft.path
            ))
            .so("this router never matches there")
            .fix("name another entry point in one of the two");
            report.warning(mention.place, &mention.path, &fault);
        }
    }
}
