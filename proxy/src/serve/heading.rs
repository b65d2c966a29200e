//! The stage preamble on a connection: what a PROXY header says goes to the log, and why one is refused is counted.

use super::{access, context::Context};
use crate::{
    io::Stream,
    preamble::{self, Asserted, AssertedTls, Origin, Preamble, PreambleFault, Told},
    snapshot::Entry,
    telemetry::Count,
};
use std::net::SocketAddr;

/// The PROXY header, where one may come; `None` where the connection must be closed, which is counted and logged.
pub(super) async fn read(context: &Context, entry: &Entry, stream: &mut Stream) -> Option<Preamble> {
    let Some(policy) = &entry.preamble else {
        return Some(Preamble::direct(stream.peer()));
    };
    match preamble::read(stream, policy).await {
        Ok(preamble) => {
            if preamble.origin == Origin::Local {
                context.counters.add(Count::PreambleLocal);
            }
            log_header(stream.peer(), entry, &preamble);
            Some(preamble)
        }
        Err(fault) => {
            refuse(context, entry, stream.peer(), &fault);
            None
        }
    }
}

fn log_header(peer: SocketAddr, entry: &Entry, preamble: &Preamble) {
    if preamble.origin == Origin::Direct || !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let nothing = Asserted::default();
    let asserted = preamble.asserted.as_deref().unwrap_or(&nothing);
    let tls = asserted.tls.as_ref();
    // Fields apart, so that no client's name looks like another field.
    let text = |told: &Option<Told>| told.as_ref().map(ToString::to_string);
    let of_tls = |pick: fn(&AssertedTls) -> &Option<Told>| tls.and_then(|tls| text(pick(tls)));
    tracing::debug!(
        %peer,
        entry = entry.name,
        origin = preamble.origin.word(),
        client = %preamble.client.0,
        destination = preamble.destination.map(|destination| destination.0.to_string()),
        authority = text(&asserted.authority),
        alpn = text(&asserted.alpn),
        unique_id = text(&asserted.unique_id),
        netns = text(&asserted.netns),
        tls = tls.map(|tls| tls.client.over_tls()),
        tls_certificate = tls.map(|tls| tls.client.certificate()),
        tls_verify = tls.map(|tls| tls.verify),
        tls_version = of_tls(|tls| &tls.version),
        tls_cn = of_tls(|tls| &tls.common_name),
        tls_cipher = of_tls(|tls| &tls.cipher),
        tls_sig_alg = of_tls(|tls| &tls.signature_algorithm),
        tls_key_alg = of_tls(|tls| &tls.key_algorithm),
        tls_group = of_tls(|tls| &tls.group),
        tls_sig_scheme = of_tls(|tls| &tls.signature_scheme),
        "proxy header"
    );
}

/// One line a refusal. What a trusted sender does wrong is the operator's to mend; what strangers do is not.
fn refuse(context: &Context, entry: &Entry, peer: SocketAddr, fault: &PreambleFault) {
    let Some(count) = fault.count() else { return };
    context.counters.add(count);
    let (entry, reason) = (entry.name.as_str(), count.code());
    access::refused_preamble(context, entry, peer, reason);
    match fault {
        PreambleFault::Missing | PreambleFault::Malformed(_) | PreambleFault::HeaderTimeout => {
            tracing::info!(%peer, entry, reason, detail = %fault, "closed: PROXY protocol");
        }
        PreambleFault::Untrusted | PreambleFault::SilentClient | PreambleFault::Closed => {
            tracing::debug!(%peer, entry, reason, detail = %fault, "closed: PROXY protocol");
        }
    }
}
