//! Services against their servers transports: what a transport checks, servers in the clear escape.

use crate::{
    model::{Config, Scheme, transport::ServersTransport},
    report::{Fault, Report},
    section::{Kind, Names, Reference},
};

/// Refuses a service whose transport proves servers where no server can be proven, and warns where some cannot.
pub(super) fn check(report: &Report<'_>, config: &Config, names: &Names) {
    for reference in &names.references {
        if reference.kind == Kind::ServersTransport {
            check_one(report, config, reference);
        }
    }
}

fn check_one(report: &Report<'_>, config: &Config, reference: &Reference) {
    let mention = &reference.mention;
    let named = mention
        .path
        .strip_prefix("services.")
        .and_then(|rest| rest.strip_suffix(".servers_transport"));
    let service = named.and_then(|name| config.services.get(name));
    let transport = config.servers_transports.get(&mention.name);
    let (Some(service), Some(transport)) = (service, transport) else {
        return;
    };
    let Some(key) = proving(transport) else { return };
    let in_the_clear = |scheme: Scheme| matches!(scheme, Scheme::Http | Scheme::H2c);
    let mut clear = service
        .servers
        .iter()
        .filter(|server| in_the_clear(server.url.scheme));
    let Some(first) = clear.next() else { return };
    let all = clear.count() + 1 == service.servers.len();
    let (url, transport) = (first.url.to_string(), &mention.name);
    let fault = Fault::found(format!(
        "found `{transport}`, whose `{key}` is about TLS, beside `{url}`, which is in the clear"
    ));
    let remedy = "write `https://`, or name a transport without it";
    if all {
        let fault = fault.expected("a server by `https://`");
        report.error(
            mention.place,
            &mention.path,
            &fault.so(format!("`{key}` would check nothing")).fix(remedy),
        );
    } else {
        let fault = fault.so("it checks nothing there; the other servers are checked");
        report.warning(mention.place, &mention.path, &fault.fix(remedy));
    }
}

/// A key that demands or gives a proof over TLS.
fn proving(transport: &ServersTransport) -> Option<&'static str> {
    [
        ("root_cas", transport.root_cas.is_empty()),
        ("subject_names", transport.subject_names.is_empty()),
        ("pinned_spki", transport.pinned_spki.is_empty()),
        ("certificates", transport.certificates.is_empty()),
    ]
    .into_iter()
    .find_map(|(key, absent)| (!absent).then_some(key))
}
