//! From the sections to one configuration: names resolve, default sets are filled in, and what only two
//! sections together show to be wrong is reported.
//!
//! It reads no TOML. What a section already refused is left out here, so that nothing is reported twice.

mod entry_points;
mod middlewares;
mod names;
mod overlaps;
mod routers;
mod services;
mod tcp;
mod twins;
mod uplinks;

use crate::{
    model::{Config, EntryPoint, tcp::Tcp},
    report::{Fault, Place, Report},
    section::{Draft, EntryPointDraft, RouterDraft, TcpRouterDraft, UplinkDraft},
};
use std::collections::BTreeMap;

/// The places that the configuration itself does not keep.
pub(crate) struct Places {
    entry_points: BTreeMap<String, EntryPointDraft>,
    routers: Vec<RouterDraft>,
    tcp_routers: Vec<TcpRouterDraft>,
    uplinks: BTreeMap<String, UplinkDraft>,
}

/// Resolves and checks; the result counts only where `report` holds no error.
pub(crate) fn link(report: &Report<'_>, draft: Draft) -> Config {
    names::resolve(report, &draft.names);
    let points: BTreeMap<String, EntryPoint> = draft
        .entry_points
        .iter()
        .map(|(name, draft)| (name.clone(), draft.point.clone()))
        .collect();
    let mut config = Config {
        proxy: draft.proxy,
        log: draft.log,
        access_log: draft.access_log,
        metrics: draft.metrics,
        admin: draft.admin,
        gate: draft.gate,
        allowlists: draft.allowlists,
        entry_points: points,
        routers: BTreeMap::new(),
        middlewares: BTreeMap::new(),
        services: draft.services,
        servers_transports: draft.servers_transports,
        tcp: Tcp {
            routers: BTreeMap::new(),
            services: draft.tcp_services,
        },
        tls: draft.tls,
        uplinks: BTreeMap::new(),
        multicluster: draft.multicluster,
        warnings: Vec::new(),
    };
    config.middlewares = middlewares::resolve(report, draft.middlewares);
    config.services.extend(middlewares::services(&config.middlewares));
    services::check(report, &config, &draft.names);
    let places = Places {
        entry_points: draft.entry_points,
        routers: draft.routers,
        tcp_routers: draft.tcp_routers,
        uplinks: draft.uplinks,
    };
    middlewares::attach_to_entry_points(report, &mut config, &places);
    entry_points::check(report, &mut config, &places);
    config.uplinks = uplinks::resolve(report, &config, &places);
    config.routers = routers::resolve(report, &config, &places);
    config.tcp.routers = tcp::resolve(report, &config, &places);
    uplinks::check_proofs(report, &config, &places);
    middlewares::attach_to_routers(report, &mut config, &places);
    routers::check_twins(report, &config, &places);
    overlaps::check(report, &config, &places);
    tcp::check_conflicts(report, &config, &places);
    if config.entry_points.is_empty() {
        let fault = Fault::found("found no entry point")
            .so("nothing listens")
            .fix("add `[entry_points.web]`");
        report.warning(Place { file: 0, offset: 0 }, "entry_points", &fault);
    }
    config
}
