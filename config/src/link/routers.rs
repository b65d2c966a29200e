//! Routers: where they are reached, and which TLS options their hosts get.

use super::{
    Places,
    twins::{self, Candidate},
    uplinks,
};
use crate::{
    effective::EntryPointSet,
    model::{Config, EntryPoint, Reach, Router, ServiceRef},
    report::{Fault, Report, one_of},
    rule::Claim,
    section::{DEFAULT, Mention, RouterDraft},
};
use std::collections::BTreeMap;

/// The routers, each with the places it is reached by.
pub(super) fn resolve(report: &Report<'_>, config: &Config, places: &Places) -> BTreeMap<String, Router> {
    let mut found = BTreeMap::new();
    for draft in &places.routers {
        refuse_contradictions(report, draft);
        warn_of_no_children(report, config, draft);
        let reach = uplinks::reach(draft).or_else(|| entry_points(report, config, draft));
        if let (Some(reach), Some(rule), Some(service)) = (reach, &draft.rule, &draft.service) {
            let router = Router {
                rule: rule.clone(),
                reach,
                priority: draft.priority.rank(),
                middlewares: Vec::new(),
                service: service.clone(),
                refused_encoded: draft.refused_encoded,
                tls: draft.tls.as_ref().map(|tls| tls.name.clone()),
                at: report.locate(draft.place),
            };
            check_own_options(report, config, draft, &router);
            found.insert(draft.name.clone(), router);
        }
    }
    found
}

/// A router of uplinks has neither entry points nor TLS of its own: both are the parent's business.
fn refuse_contradictions(report: &Report<'_>, draft: &RouterDraft) {
    if draft.uplinks.is_none() {
        return;
    }
    for (key, written) in [
        ("entry_points", draft.entry_points.is_some()),
        ("tls", draft.tls.is_some()),
    ] {
        if written {
            let fault = Fault::found(format!("found `{key}` beside `uplinks`")).expected("one or the other");
            let fault =
                fault.so("a router of uplinks is reached by them alone, under the TLS of their entry points");
            let object = format!("{}.{key}", draft.path);
            report.error(
                draft.place,
                &object,
                &fault.fix(format!(
                    "remove `{key}`, or make a second router without `uplinks`"
                )),
            );
        }
    }
}

fn warn_of_no_children(report: &Report<'_>, config: &Config, draft: &RouterDraft) {
    if let (Some(ServiceRef::Multicluster(name)), true) =
        (&draft.service, config.multicluster.children.is_empty())
    {
        let fault = Fault::found(format!(
            "`{name}@multicluster` is named and there are no children"
        ));
        let fault = fault
            .so("it answers 503")
            .fix("add `[multicluster.children.NAME]`");
        report.warning(draft.place, &format!("{}.service", draft.path), &fault);
    }
}

/// The ordinary entry points of a router: those it names, or the default set.
fn entry_points(report: &Report<'_>, config: &Config, draft: &RouterDraft) -> Option<Reach> {
    let named = draft
        .entry_points
        .as_ref()
        .map(|list| named(report, config, draft, list));
    let points = named.unwrap_or_else(|| default_set(report, config, draft));
    (!points.is_empty()).then_some(Reach::EntryPoints(points))
}

fn named(report: &Report<'_>, config: &Config, draft: &RouterDraft, list: &[Mention]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for Mention { name, place, path } in list {
        let fault = match ordinary_point(config, &found, name) {
            Err(fault) => fault,
            Ok(point) if draft.tls.is_some() && point.tls.is_none() => Fault::found(format!(
                "found `{name}`, which has no TLS, on a router with `tls`"
            ))
            .expected("entry points with a `tls` table")
            .so("the router would never match there")
            .fix(format!(
                "add `tls = {{}}` to `entry_points.{name}`, or remove `tls` from the router"
            )),
            Ok(_) => {
                found.push(name.clone());
                continue;
            }
        };
        report.error(*place, path, &fault);
    }
    found
}

/// The entry point that a router names beside those it has `found` so far.
pub(super) fn ordinary_point<'c>(
    config: &'c Config,
    found: &[String],
    name: &str,
) -> Result<&'c EntryPoint, Fault> {
    match config.entry_points.get(name) {
        _ if found.iter().any(|earlier| earlier == name) => {
            Err(Fault::found(format!("found `{name}` twice"))
                .expected("each once")
                .fix("remove one of them"))
        }
        None => {
            let points = config.entry_points.iter().filter(|(_, point)| !point.is_uplink());
            Err(
                Fault::found(format!("found `{name}`, which no entry point has as its name"))
                    .expected(one_of(points.map(|(name, _)| name.as_str())))
                    .fix(format!("define `[entry_points.{name}]` or name another")),
            )
        }
        Some(point) if point.is_uplink() => {
            Err(Fault::found(format!("found the uplink entry point `{name}`"))
                .expected("an entry point of clients")
                .so("uplink entry points serve uplinks alone")
                .fix("attach a router of HTTP to an uplink by `uplinks`"))
        }
        Some(point) => Ok(point),
    }
}

fn default_set(report: &Report<'_>, config: &Config, draft: &RouterDraft) -> Vec<String> {
    let default = config.default_entry_points(EntryPointSet::Ordinary);
    let has_tls = |name: &&str| {
        config
            .entry_points
            .get(*name)
            .is_some_and(|point| point.tls.is_some())
    };
    let usable: Vec<String> = default
        .iter()
        .filter(|name| draft.tls.is_none() || has_tls(name))
        .map(|name| (*name).to_owned())
        .collect();
    if usable.is_empty() {
        let fault = if default.is_empty() {
            Fault::found("found no entry point that it could be reached by").expected("`[entry_points.NAME]`")
        } else {
            Fault::found("found `tls`, but no entry point of the default set has TLS")
                .expected("one that has")
        };
        let fault = fault
            .so("the router would never match")
            .fix("add an entry point, or name it in `entry_points`");
        report.error(draft.place, &draft.path, &fault);
    }
    usable
}

/// Options are chosen at the handshake by name, so a router's own choice needs the names.
fn check_own_options(report: &Report<'_>, config: &Config, draft: &RouterDraft, router: &Router) {
    let (Some(own), Reach::EntryPoints(points)) = (&draft.tls, &router.reach) else {
        return;
    };
    let chooses = |claim: &Claim<'_>| !matches!(claim, Claim::Pattern(_));
    if router
        .rule
        .required_hosts()
        .is_some_and(|hosts| hosts.iter().all(chooses))
    {
        return;
    }
    for name in points {
        let Some(tls) = config.entry_points.get(name).and_then(|point| point.tls.as_ref()) else {
            continue;
        };
        if tls.options == own.name {
            continue;
        }
        let object = if own.path.ends_with(".options") {
            own.path.clone()
        } else {
            format!("{}.options", own.path)
        };
        let found = format!(
            "found `{}` on a rule that matches without `Host`, while `entry_points.{name}` has `{}`",
            own.name, tls.options
        );
        let consequence = "TLS options are chosen by server name before any request, so these could not be";
        let fault = Fault::found(found)
            .expected("a `Host` in every alternative of the rule")
            .so(consequence);
        let fault = fault.fix("add `Host(`…`) &&` to the rule, or give the options to the entry point");
        if own.name == DEFAULT {
            report.warning(own.place, &object, &fault);
        } else {
            report.error(own.place, &object, &fault);
        }
    }
}

/// Refuses routers that can never be told apart.
pub(super) fn check_twins(report: &Report<'_>, config: &Config, places: &Places) {
    let candidates = places.routers.iter().filter_map(|draft| {
        let router = config.routers.get(&draft.name)?;
        let (table, names) = match &router.reach {
            Reach::EntryPoints(names) => ("entry_points", names),
            Reach::Uplinks(names) => ("uplinks", names),
        };
        Some(Candidate {
            place: draft.rule_place,
            path: &draft.path,
            meaning: router.rule.meaning(),
            priority: draft.priority,
            reached: names.iter().map(|name| format!("{table}.{name}")).collect(),
        })
    });
    twins::check(report, candidates.collect());
}
