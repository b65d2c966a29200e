//! Middlewares: chains become the names that they stand for, and lists of entry points and routers too.
//!
//! That each name is defined was asked already; a chain that leads back to itself, or a list that grows too long, is
//! found here.

use super::Places;
use crate::{
    model::{
        Config, EntryPoint, Reach,
        middleware::{
            MIDDLEWARES_MAX, Middleware,
            forward_auth::{ForwardAuth, SERVICE_SUFFIX},
            ip_strategy::Picked,
        },
        service::{Queue, Server, Servers, Service, Strategy},
    },
    report::{Fault, Report},
    section::{Mention, MiddlewareDraft},
};
use std::{collections::BTreeMap, time::Duration};

/// Names that are looked at to resolve one chain: chains that lead nowhere must not take for ever either.
const ENTERED_MAX: usize = 16 * MIDDLEWARES_MAX;

/// The middlewares, their chains resolved.
pub(super) fn resolve(
    report: &Report<'_>,
    drafts: BTreeMap<String, MiddlewareDraft>,
) -> BTreeMap<String, Middleware> {
    let mut chains = BTreeMap::new();
    for (name, draft) in &drafts {
        if let MiddlewareDraft::Chain(members) = draft {
            chains.insert(name.clone(), unroll(report, &drafts, name, members));
        }
    }
    let resolved = drafts.into_iter().filter_map(|(name, draft)| {
        let middleware = match draft {
            MiddlewareDraft::Made(middleware) => *middleware,
            MiddlewareDraft::Chain(_) => Middleware::Chain(chains.remove(&name)?),
            MiddlewareDraft::Broken => return None,
        };
        Some((name, middleware))
    });
    resolved.collect()
}

/// What a chain stands for. No recursion: how deep chains nest is the file's choice.
fn unroll(
    report: &Report<'_>,
    drafts: &BTreeMap<String, MiddlewareDraft>,
    own: &str,
    members: &[Mention],
) -> Vec<String> {
    let (mut found, mut entered) = (Vec::new(), 0);
    for member in members {
        let mut path = vec![own];
        let mut waiting = vec![Step::Enter(member.name.as_str())];
        while let Some(step) = waiting.pop() {
            let Step::Enter(name) = step else {
                path.pop();
                continue;
            };
            entered += 1;
            match drafts.get(name) {
                _ if name == own => {
                    report.error(member.place, &member.path, &leads_back(own));
                    return Vec::new();
                }
                // Another chain's circle, which is told there.
                Some(MiddlewareDraft::Chain(_)) if path.contains(&name) => {}
                Some(MiddlewareDraft::Chain(inner)) => {
                    path.push(name);
                    waiting.push(Step::Leave);
                    waiting.extend(inner.iter().rev().map(|inner| Step::Enter(inner.name.as_str())));
                }
                Some(_) => found.push(name.to_owned()),
                None => {}
            }
            if found.len() > MIDDLEWARES_MAX || entered > ENTERED_MAX {
                report.error(member.place, &member.path, &too_many());
                return Vec::new();
            }
        }
    }
    found
}

enum Step<'a> {
    Enter(&'a str),
    Leave,
}

fn leads_back(own: &str) -> Fault {
    Fault::found(format!("the chain `{own}` leads back to itself by this name"))
        .expected("chains that end")
        .fix("remove the name from one of the chains")
}

fn too_many() -> Fault {
    Fault::found(format!(
        "this name makes it more than {MIDDLEWARES_MAX} middlewares"
    ))
    .expected(format!("at most {MIDDLEWARES_MAX}, chains resolved"))
    .fix("name fewer")
}

/// The services that middlewares ask and no `[services]` names.
pub(super) fn services(middlewares: &BTreeMap<String, Middleware>) -> BTreeMap<String, Service> {
    let asked = middlewares
        .iter()
        .filter_map(|(name, middleware)| match middleware {
            Middleware::ForwardAuth(settings) => Some((format!("{name}{SERVICE_SUFFIX}"), auth(settings))),
            _ => None,
        });
    asked.collect()
}

/// The name of the service that the middleware whose table stands at `path` asks.
pub(super) fn service_at(path: &str) -> Option<String> {
    let name = path.strip_prefix("middlewares.")?.strip_suffix(".forward_auth")?;
    Some(format!("{name}{SERVICE_SUFFIX}"))
}

fn auth(settings: &ForwardAuth) -> Service {
    let server = Server {
        url: settings.server.clone(),
        weight: 1,
    };
    Service::Servers(Box::new(Servers {
        servers: vec![server],
        strategy: Strategy::Wrr,
        pass_host_header: false,
        servers_transport: settings.servers_transport.clone(),
        health_check: None,
        passive: None,
        slow_start: Duration::ZERO,
        requests_max: None,
        queue: Queue {
            waiting_max: 0,
            timeout: Duration::ZERO,
        },
        sticky: None,
    }))
}

/// A list of mentions, chains resolved.
fn flatten(report: &Report<'_>, known: &BTreeMap<String, Middleware>, list: &[Mention]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for mention in list {
        match known.get(&mention.name) {
            Some(Middleware::Chain(members)) => found.extend(members.iter().cloned()),
            Some(_) => found.push(mention.name.clone()),
            None => {}
        }
        if found.len() > MIDDLEWARES_MAX {
            report.error(mention.place, &mention.path, &too_many());
            break;
        }
    }
    found
}

/// Fills in the middlewares of the entry points.
pub(super) fn attach_to_entry_points(report: &Report<'_>, config: &mut Config, places: &Places) {
    for (name, draft) in &places.entry_points {
        let list = flatten(report, &config.middlewares, &draft.middlewares);
        if let Some(point) = config.entry_points.get_mut(name) {
            if point.is_uplink() {
                warn_of_parents(report, &config.middlewares, &draft.middlewares, &list);
            } else if point.forwarded_trusted.is_empty() {
                warn_of_hops(report, &config.middlewares, &draft.middlewares, &list, name);
            }
            point.middlewares = list;
        }
    }
}

/// Fills in the middlewares of the routers.
pub(super) fn attach_to_routers(report: &Report<'_>, config: &mut Config, places: &Places) {
    for draft in &places.routers {
        let list = flatten(report, &config.middlewares, &draft.middlewares);
        if let Some(router) = config.routers.get_mut(&draft.name) {
            if matches!(router.reach, Reach::Uplinks(_)) {
                warn_of_parents(report, &config.middlewares, &draft.middlewares, &list);
            }
            if let Some(entry) = believing_nobody(&config.entry_points, &router.reach) {
                warn_of_hops(report, &config.middlewares, &draft.middlewares, &list, entry);
            }
            router.middlewares = list;
        }
    }
}

/// The first entry point of a router that takes nobody's word for the client's address.
fn believing_nobody<'c>(points: &'c BTreeMap<String, EntryPoint>, reach: &'c Reach) -> Option<&'c str> {
    let Reach::EntryPoints(names) = reach else {
        return None;
    };
    let deaf = |name: &&String| {
        points
            .get(*name)
            .is_some_and(|point| point.forwarded_trusted.is_empty())
    };
    names.iter().find(deaf).map(String::as_str)
}

/// A middleware that goes by hops of `X-Forwarded-For` where nobody may write them lets nobody in.
fn warn_of_hops(
    report: &Report<'_>,
    known: &BTreeMap<String, Middleware>,
    written: &[Mention],
    list: &[String],
    entry: &str,
) {
    let by_hops = |name: &&String| known.get(*name).is_some_and(goes_by_hops);
    let (Some(name), Some(first)) = (list.iter().find(by_hops), written.first()) else {
        return;
    };
    let fault = Fault::found(format!(
        "`{name}` goes by `X-Forwarded-For`, which entry point `{entry}` takes from nobody"
    ))
    .so("nobody has an address there, and nobody passes")
    .fix(format!("name the proxies in front in `entry_points.{entry}.forwarded_headers.trusted_ips`, or leave `ip_strategy` out"));
    report.warning(first.place, &first.path, &fault);
}

fn goes_by_hops(middleware: &Middleware) -> bool {
    match middleware {
        Middleware::IpAllowList(list) | Middleware::IpDenyList(list) => {
            list.ip_strategy.picked != Picked::Client
        }
        _ => false,
    }
}

/// A request over an uplink comes with the parent's certificate, which says nothing of the client.
fn warn_of_parents(
    report: &Report<'_>,
    known: &BTreeMap<String, Middleware>,
    written: &[Mention],
    list: &[String],
) {
    let tells = |name: &&String| matches!(known.get(*name), Some(Middleware::PassTlsClientCert(_)));
    let (Some(name), Some(first)) = (list.iter().find(tells), written.first()) else {
        return;
    };
    let fault = Fault::found(format!("`{name}` tells of certificates on the way of parents"))
        .so("it tells nothing there: the certificate is the parent's, and what the parent says of its client passes")
        .fix("put it on the parent's routers");
    report.warning(first.place, &first.path, &fault);
}
