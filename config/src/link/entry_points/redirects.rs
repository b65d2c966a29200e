//! Redirects between entry points: each leads somewhere, and never round in a circle.

use super::path;
use crate::{
    link::Places,
    model::{
        Config, EntryPoint,
        limits::{Redirect, RedirectScheme},
    },
    report::{Fault, Report},
    section::{RedirectDraft, RedirectTo},
};

/// Resolves all; one that cannot be is reported, and never left out in silence: the entry point would serve in the clear.
pub(super) fn resolve(report: &Report<'_>, config: &mut Config, places: &Places) {
    for (name, draft) in &places.entry_points {
        let (Some(redirect), Some(point)) = (&draft.redirect, config.entry_points.get(name)) else {
            continue;
        };
        let object = path(name, point, "redirect.to");
        match target(config, point, redirect) {
            Ok(resolved) => {
                if let Some(point) = config.entry_points.get_mut(name) {
                    point.redirect = resolved;
                }
            }
            Err(fault) => report.error(redirect.place, &object, &fault),
        }
    }
    check_circles(report, config, places);
}

/// What a redirect means; nothing where the name was reported as unknown.
fn target(config: &Config, from: &EntryPoint, redirect: &RedirectDraft) -> Result<Option<Redirect>, Fault> {
    let (port, own) = match &redirect.to {
        RedirectTo::Port(port) => (*port, RedirectScheme::Https),
        RedirectTo::EntryPoint(name) => {
            // Names of uplink entry points are unknown here, which was reported.
            let Some(to) = config.entry_points.get(name).filter(|to| !to.is_uplink()) else {
                return Ok(None);
            };
            let own = match to.tls {
                Some(_) => RedirectScheme::Https,
                None => RedirectScheme::Http,
            };
            (to.address.port(), own)
        }
    };
    let scheme = redirect.scheme.unwrap_or(own);
    let here = match from.tls {
        Some(_) => RedirectScheme::Https,
        None => RedirectScheme::Http,
    };
    if port == from.address.port() && scheme == here {
        return Err(Fault::found("found a redirect to the entry point itself")
            .so("every client would go round in a circle")
            .fix("name another entry point, or remove the redirect"));
    }
    Ok(Some(Redirect {
        scheme,
        port,
        permanent: redirect.permanent,
    }))
}

/// Follows names from each entry point; a walk that is longer than there are entry points has come round.
fn check_circles(report: &Report<'_>, config: &Config, places: &Places) {
    for (name, draft) in &places.entry_points {
        let Some(redirect) = &draft.redirect else { continue };
        let mut at = name;
        for _ in 0..places.entry_points.len() {
            let next = places
                .entry_points
                .get(at)
                .and_then(|draft| draft.redirect.as_ref());
            let Some(RedirectTo::EntryPoint(to)) = next.map(|redirect| &redirect.to) else {
                break;
            };
            if to == name && at != name {
                let fault = Fault::found(format!("found a circle: `{at}` leads back to `{name}`"))
                    .so("every client would go round in it")
                    .fix("remove one of the redirects");
                let point = config.entry_points.get(name);
                let object = point.map_or_else(String::new, |point| path(name, point, "redirect.to"));
                report.error(redirect.place, &object, &fault);
                break;
            }
            at = to;
        }
    }
}
