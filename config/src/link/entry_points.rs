//! Entry points against each other and against the gate.

mod redirects;

use super::Places;
use crate::{
    address::overlaps,
    effective::covers_a_family,
    model::{Config, EntryPoint, EntryPointKind, GateMode, SourceRef},
    report::{Fault, Report},
    section::{EntryPointDraft, entry_point::UNKNOWN},
    spelled::Spelled,
};
use ipnet::IpNet;

/// Checks all entry points and fills in what their gates leave open.
pub(super) fn check(report: &Report<'_>, config: &mut Config, places: &Places) {
    check_addresses(report, config);
    redirects::resolve(report, config, places);
    for (name, draft) in &places.entry_points {
        fill_required(report, config, name, draft);
    }
    for (name, draft) in &places.entry_points {
        if let Some(point) = config.entry_points.get(name) {
            warn_of_trusted_outside(report, config, name, point, draft);
            check_proof(report, config, name, point, draft);
        }
    }
}

fn path(name: &str, point: &EntryPoint, key: &str) -> String {
    let table = if point.is_uplink() {
        "uplink_entry_points"
    } else {
        "entry_points"
    };
    if key.is_empty() {
        format!("{table}.{name}")
    } else {
        format!("{table}.{name}.{key}")
    }
}

fn check_addresses(report: &Report<'_>, config: &Config) {
    let known: Vec<(&String, &EntryPoint)> = config
        .entry_points
        .iter()
        .filter(|(_, point)| point.address != UNKNOWN)
        .collect();
    for (index, (name, point)) in known.iter().enumerate() {
        for (other_name, other) in known.iter().skip(index + 1) {
            if !overlaps(point.address, other.address) {
                continue;
            }
            // The later one in the file is the one that was added.
            let ((first, first_point), (second, second_point)) = if point.address_at <= other.address_at {
                ((name, point), (other_name, other))
            } else {
                ((other_name, other), (name, point))
            };
            let fault = Fault::found(format!(
                "found `{}`, which overlaps `{}` of `{}` at {}",
                second_point.address,
                first_point.address,
                path(first, first_point, ""),
                first_point.address_at
            ));
            let fault = fault
                .expected("an address of its own")
                .so("only one of them could listen");
            report.error_at(
                &second_point.address_at,
                &path(second, second_point, "address"),
                &fault.fix("change one of the two"),
            );
        }
    }
}

/// `required` where it was not written, and what contradicts it where it was.
fn fill_required(report: &Report<'_>, config: &mut Config, name: &str, draft: &EntryPointDraft) {
    let mode = config.gate.mode;
    let Some(point) = config.entry_points.get_mut(name) else {
        return;
    };
    let (is_uplink, object) = (point.is_uplink(), path(name, point, "gate.required"));
    let Some(gate) = &mut point.gate else { return };
    let Some(written) = &draft.required else {
        // A rehearsal (`observe`) changes one word of the file, so the default follows the mode.
        gate.required = is_uplink && !gate.interfaces.is_empty() && mode == GateMode::Enforce;
        return;
    };
    if !gate.required {
        return;
    }
    if gate.interfaces.is_empty() {
        let fault = Fault::found("found `true` and no `interfaces`").expected("interfaces to attach to");
        let fault = fault
            .so("the entry point would wait for ever")
            .fix("name the `interfaces` or remove `required`");
        report.error(written.place, &object, &fault);
    }
    if mode == GateMode::Enforce {
        return;
    }
    let word = mode.word();
    let fault = Fault::found(format!("found `true` while `gate.mode` is `{word}`"))
        .expected("`gate.mode = \"enforce\"`");
    let fault = fault.so("the filter that is required would drop nothing");
    report.error(
        written.place,
        &object,
        &fault.fix("set the mode to `enforce` or remove `required`"),
    );
}

/// A sender of PROXY headers that the gate turns away never gets to send one.
fn warn_of_trusted_outside(
    report: &Report<'_>,
    config: &Config,
    name: &str,
    point: &EntryPoint,
    draft: &EntryPointDraft,
) {
    let (Some(gate), Some(proxy), Some(place)) = (&point.gate, &point.proxy_protocol, draft.trusted_place)
    else {
        return;
    };
    let from_file = |source: &SourceRef| match source {
        SourceRef::Prefix(_) => false,
        SourceRef::List(list) => config
            .allowlists
            .get(list)
            .is_some_and(|list| list.file.is_some()),
    };
    if gate.allow.iter().any(from_file) {
        return;
    }
    let allowed = IpNet::aggregate(&config.written_prefixes(&gate.allow));
    for net in config.written_prefixes(&proxy.trusted) {
        if !allowed.iter().any(|allow| allow.contains(&net)) {
            let fault = Fault::found(format!("`{net}` is not inside `gate.allow`"))
                .so("connections from outside `gate.allow` are closed before a PROXY header is read")
                .fix("add it to `gate.allow` or remove it here");
            report.warning(place, &path(name, point, "proxy_protocol.trusted_ips"), &fault);
        }
    }
}

/// An uplink entry point needs something that proves a parent.
fn check_proof(
    report: &Report<'_>,
    config: &Config,
    name: &str,
    point: &EntryPoint,
    draft: &EntryPointDraft,
) {
    let EntryPointKind::Uplink {
        allow_unauthenticated,
    } = point.kind
    else {
        return;
    };
    let options_known = point
        .tls
        .as_ref()
        .is_none_or(|tls| config.tls.options.contains_key(&tls.options));
    let object = path(name, point, "");
    if config.certificate_is_proof(point) || config.gate_is_proof(point) {
        warn_of_needless_permission(report, &object, allow_unauthenticated, draft);
        warn_of_proof_by_sender(report, config, name, point, draft);
        return;
    }
    if !options_known {
        return;
    }
    let found = match &point.gate {
        None => "found neither verified client certificates nor a gate",
        Some(_) if config.gate.mode == GateMode::Observe => {
            "found a gate that only observes as the only proof of a parent"
        }
        Some(_) if config.gate.mode == GateMode::Off => {
            "found a gate that is off as the only proof of a parent"
        }
        Some(gate) if covers_a_family(&config.written_prefixes(&gate.allow)) => {
            "found a gate that lets everyone in as the only proof of a parent"
        }
        Some(_) => "found no proof of a parent",
    };
    if allow_unauthenticated {
        let fault =
            Fault::found(found).so("`allow_unauthenticated` lets anyone who can connect use every uplink");
        report.warning(
            draft.place,
            &object,
            &fault.fix("verify client certificates or narrow `gate.allow`"),
        );
        return;
    }
    let fault = Fault::found(found)
        .expected(
            "TLS options whose `client_auth` verifies, \
                   or a `gate` that enforces and lets in known sources alone",
        )
        .so("anyone who can connect could use every uplink")
        .fix(
            "add `tls = { options = \"…\" }` with `client_auth.ca_files`, or `gate.allow`, \
              or say `allow_unauthenticated = true`",
        );
    report.error(draft.place, &object, &fault);
}

/// What is needless today lets everyone in on the day when the proof is taken away.
fn warn_of_needless_permission(
    report: &Report<'_>,
    object: &str,
    allow_unauthenticated: bool,
    draft: &EntryPointDraft,
) {
    if !allow_unauthenticated {
        return;
    }
    let fault = Fault::found("found `allow_unauthenticated` beside a proof of a parent")
        .so("it has no effect now, and would let anyone in once that proof is taken away");
    report.warning(draft.place, object, &fault.fix("remove `allow_unauthenticated`"));
}

/// The gate sees who sends the header, so that whoever gets through the sender is taken for a parent.
fn warn_of_proof_by_sender(
    report: &Report<'_>,
    config: &Config,
    name: &str,
    point: &EntryPoint,
    draft: &EntryPointDraft,
) {
    let (false, Some(place)) = (config.certificate_is_proof(point), draft.trusted_place) else {
        return;
    };
    let fault = Fault::found("found senders of PROXY headers where the source address is the only proof")
        .so("whoever they pass on is taken for a parent")
        .fix("verify client certificates, or see to it that they pass on parents alone");
    report.warning(place, &path(name, point, "proxy_protocol.trusted_ips"), &fault);
}
