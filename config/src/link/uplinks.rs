//! Uplinks and the entry points that parents reach them by.

use super::Places;
use crate::{
    effective::EntryPointSet,
    model::{Config, Reach, Uplink},
    report::{Fault, Report},
    section::UplinkDraft,
};
use std::collections::BTreeMap;

/// The uplinks with their default set filled in.
pub(super) fn resolve(report: &Report<'_>, config: &Config, places: &Places) -> BTreeMap<String, Uplink> {
    let default: Vec<String> = config
        .default_entry_points(EntryPointSet::Uplink)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let uplink = |(name, draft): (&String, &UplinkDraft)| {
        if default.is_empty() && draft.entry_points.is_none() {
            let fault = Fault::found("found no uplink entry point").expected("at least one");
            let fault = fault
                .so("no parent could reach this uplink")
                .fix("add `[uplink_entry_points.multicluster]`");
            report.error(draft.place, &draft.path, &fault);
        }
        let named = draft
            .entry_points
            .as_ref()
            .map(|list| list.iter().map(|mention| mention.name.clone()).collect());
        let uplink = Uplink {
            entry_points: named.unwrap_or_else(|| default.clone()),
            weight: draft.weight,
            parents: draft.parents.clone(),
            health_check: draft.health_check.clone(),
            passive: draft.passive,
        };
        (name.clone(), uplink)
    };
    places.uplinks.iter().map(uplink).collect()
}

/// Names of parents need certificates to be checked against, and an uplink without a router answers nothing.
pub(super) fn check_proofs(report: &Report<'_>, config: &Config, places: &Places) {
    for (name, uplink) in &config.uplinks {
        let Some(draft) = places.uplinks.get(name) else {
            continue;
        };
        if let Some(place) = draft.parents_place {
            check_parents(report, config, uplink, draft, place);
        }
        let routed = places.routers.iter().any(|router| {
            router
                .uplinks
                .iter()
                .flatten()
                .any(|mention| mention.name == *name)
        });
        if !routed {
            let fault = Fault::found("no router names this uplink").so("parents that use it get 404");
            report.warning(
                draft.place,
                &draft.path,
                &fault.fix(format!("add a router with `uplinks = [\"{name}\"]`")),
            );
        }
    }
}

fn check_parents(
    report: &Report<'_>,
    config: &Config,
    uplink: &Uplink,
    draft: &UplinkDraft,
    place: crate::report::Place,
) {
    for point_name in &uplink.entry_points {
        let Some(point) = config
            .entry_points
            .get(point_name)
            .filter(|point| point.is_uplink())
        else {
            continue;
        };
        let options_known = point
            .tls
            .as_ref()
            .is_none_or(|tls| config.tls.options.contains_key(&tls.options));
        if config.certificate_is_proof(point) || !options_known {
            continue;
        }
        let fault = Fault::found(format!(
            "found names of parents on `{point_name}`, which verifies no client certificates"
        ))
        .expected("an entry point whose TLS options have `client_auth.ca_files`")
        .so("no parent could show such a name");
        let fault = fault.fix(format!(
            "verify client certificates on `uplink_entry_points.{point_name}`, or remove `parents`"
        ));
        report.error(place, &format!("{}.parents", draft.path), &fault);
    }
}

/// The uplinks that a router is reached by.
pub(super) fn reach(router: &crate::section::RouterDraft) -> Option<Reach> {
    let uplinks = router.uplinks.as_ref()?;
    Some(Reach::Uplinks(
        uplinks.iter().map(|mention| mention.name.clone()).collect(),
    ))
}
