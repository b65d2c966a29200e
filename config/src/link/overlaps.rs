//! Routers whose hosts overlap under different TLS options.
//!
//! The handshake goes by the name alone: by the options of an exact host, else by those of the wildcard above it, else by
//! those of the entry point. So the routers of one host, and those of one wildcard, must agree. A router that takes in
//! names of another by a wildcard, a pattern or no host at all is reached over the other's handshakes; what it demands of
//! clients is held against each request, and here it earns a warning.

use super::Places;
use crate::{
    model::{Config, EntryPoint, Reach, Router},
    report::{Fault, Report},
    rule::Claim,
    section::RouterDraft,
};
use std::collections::BTreeMap;

/// Who gave TLS options to the hosts of an entry point first.
type Claimed<'c> = BTreeMap<Claim<'c>, (&'c RouterDraft, &'c str)>;

/// Looks at every entry point with TLS.
pub(super) fn check(report: &Report<'_>, config: &Config, places: &Places) {
    for (name, point) in config
        .entry_points
        .iter()
        .filter(|(_, point)| point.tls.is_some())
    {
        let here: Vec<(&RouterDraft, &Router)> = places
            .routers
            .iter()
            .filter_map(|draft| Some((draft, config.routers.get(&draft.name)?)))
            .filter(|(_, router)| reaches(router, name))
            .collect();
        let claimed = claimed(report, config, name, point, &here);
        for (draft, router) in here {
            warn_of_refusals(report, config, (name, point), (draft, router), &claimed);
        }
    }
}

fn reaches(router: &Router, point: &str) -> bool {
    matches!(&router.reach, Reach::EntryPoints(points) if points.iter().any(|name| name == point))
}

/// The options of each host and wildcard; two routers of one under different options are refused: one of them would be
/// bypassed.
fn claimed<'c>(
    report: &Report<'_>,
    config: &'c Config,
    name: &str,
    point: &'c EntryPoint,
    here: &[(&'c RouterDraft, &'c Router)],
) -> Claimed<'c> {
    let mut first = Claimed::new();
    for (draft, router) in here {
        let options = config.effective_tls_options(router, point);
        let chooses = |claim: &Claim<'_>| !matches!(claim, Claim::Pattern(_));
        for claim in router.rule.named_hosts().into_iter().filter(chooses) {
            let (earlier, theirs) = *first.entry(claim).or_insert((draft, options));
            if theirs != options {
                conflict(report, (name, claim), (earlier, theirs), (draft, options));
            }
        }
    }
    first
}

fn conflict(
    report: &Report<'_>,
    (point, host): (&str, Claim<'_>),
    one: (&RouterDraft, &str),
    other: (&RouterDraft, &str),
) {
    let ((first, theirs), (second, ours)) = if one.0.place <= other.0.place {
        (one, other)
    } else {
        (other, one)
    };
    let at = report.locate(first.rule_place);
    let fault = Fault::found(format!(
        "the host `{host}` gets the TLS options `{ours}` on `entry_points.{point}`, but `{theirs}` by `{}` at {at}",
        first.path
    ));
    let fault = fault
        .expected("the same options on every router of a host")
        .so("a client could take the way with the weaker ones, so the configuration is refused")
        .fix("give both routers the same `tls.options`, or the options to the entry point");
    report.error(second.rule_place, &second.path, &fault);
}

/// A router that demands certificates and also takes requests for a host whose handshake demands others, or none: those
/// requests are refused one by one.
fn warn_of_refusals(
    report: &Report<'_>,
    config: &Config,
    (name, point): (&str, &EntryPoint),
    (draft, router): (&RouterDraft, &Router),
    claimed: &Claimed<'_>,
) {
    let demanded = |options: &str| {
        let options = config.tls.options.get(options);
        options.map(|options| &options.client_auth)
    };
    let own = demanded(config.effective_tls_options(router, point));
    let exact = |claim: &Claim<'_>| matches!(claim, Claim::Name(_));
    let hosts = router.rule.required_hosts();
    // Where every match has a name of its own, agreement on the names is all there is to see to.
    if hosts.is_some_and(|hosts| hosts.iter().all(exact)) || !own.is_some_and(|own| own.verifies()) {
        return;
    }
    let named = router.rule.named_hosts();
    let overlap = claimed.iter().find(|(claim, (_, theirs))| {
        // A wildcard's own text is one of its names.
        demanded(theirs) != own && !named.contains(claim) && router.rule.may_hold_for(&claim.to_string())
    });
    let Some((host, (other, theirs))) = overlap else {
        return;
    };
    let at = report.locate(other.rule_place);
    let fault = Fault::found(format!(
        "the rule also takes requests for the host `{host}` on `entry_points.{name}`, which gets the TLS options `{theirs}` by `{}` at {at}",
        other.path
    ));
    let fault = fault
        .so("clients of that host are not asked for the certificate that this router demands, and such requests are answered 403")
        .fix(format!("leave them out by ``&& !Host(`{host}`)``, or give both routers the same `tls.options`"));
    report.warning(draft.rule_place, &draft.path, &fault);
}
