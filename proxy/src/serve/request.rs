//! One request, from its header to its answer.

use super::{
    access::Notes,
    advertising,
    answer::{self, Began, ResponseBody, UnderWay},
    connection::Connection,
    context::View,
    forward::{self, Way},
    hop,
    lane::By,
    switching::{self, Opening},
    unrouted::Unrouted,
};
use crate::{
    fault::{self, Fault},
    http::{
        authority::{self, Authority},
        body::RequestBody,
        call::AnswerBody,
        fields::{self, Found},
        forwarded::{self, OwnCertificate, PeerTrust},
        pace::Demands,
        received::Incoming,
        switch,
        target::{self, Target},
        upload::Upload,
    },
    middleware::{self, Chain, Next, Turn},
    route::{self, RouteId, Table},
    snapshot::{Entry, Route, Side},
    telemetry::Count,
    tls::{self, ClientChain},
    upstream::UpstreamBody,
};
use bytes::Bytes;
use http::request::Parts;
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use rustls::pki_types::UnixTime;
use sallyport_config::model::UnderscoreHeaders;
use std::{cell::OnceCell, convert::Infallible, future::Future, net::IpAddr, rc::Rc};

/// What a request came to.
pub(super) enum Outcome {
    /// A server's answer.
    Upstream(Response<UpstreamBody>),
    /// One that came through middlewares.
    Through(Response<AnswerBody>),
    /// An answer of ours.
    Own(StatusCode, HeaderMap, Bytes),
}

impl Outcome {
    fn status(&self) -> StatusCode {
        match self {
            Self::Upstream(answer) => answer.status(),
            Self::Through(answer) => answer.status(),
            Self::Own(status, ..) => *status,
        }
    }

    /// The header section of an answer that leaves HTTP.
    fn switched(&self) -> Option<&HeaderMap> {
        let (status, headers) = match self {
            Self::Upstream(answer) => (answer.status(), answer.headers()),
            Self::Through(answer) => (answer.status(), answer.headers()),
            Self::Own(..) => return None,
        };
        (status == StatusCode::SWITCHING_PROTOCOLS).then_some(headers)
    }
}

/// Answers a request of HTTP/1.1.
pub(super) fn answer(
    connection: Rc<Connection>,
    request: Request<hyper::body::Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    connection.solo.begin(&request);
    answered(connection, request.map(Incoming::Http1), By::Connection)
}

/// Answers one request.
pub(super) async fn answered(
    connection: Rc<Connection>,
    request: Request<Incoming>,
    by: By<'_>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (under_way, began) = UnderWay::new(&connection, &request);
    connection.context.counters.add(Count::Requests);
    let opening = Opening::default();
    let outcome = walk(&connection, request, by, began, under_way.notes(), &opening).await;
    connection.solo.answering();
    let switched = outcome.as_ref().ok().and_then(Outcome::switched).cloned();
    if let (Some(headers), Some(joined)) = (switched, opening.take()) {
        let answer = (outcome, headers);
        return Ok(switching::answer(&connection, joined, answer, by, under_way));
    }
    let outcome = unless_taken_for_joined(outcome, by);
    let fault = match &outcome {
        Err(fault) => Some(*fault),
        Ok(Outcome::Through(response)) => fault::of(response),
        Ok(Outcome::Upstream(_) | Outcome::Own(..)) => None,
    };
    let count = fault.map(|fault| fault.answer().2);
    if let Some(count) = count {
        connection.context.counters.add(count);
    }
    let response = match outcome {
        Ok(Outcome::Upstream(response)) => response.map(|body| ResponseBody::upstream(body, under_way)),
        Ok(Outcome::Through(response)) => response.map(|body| ResponseBody::through(body, under_way)),
        Ok(Outcome::Own(status, headers, body)) => answer::own(status, headers, body, under_way),
        Err(fault) => answer::fault(fault, under_way),
    };
    connection.context.counters.add(answer::count(response.status()));
    let (mut head, mut body) = response.into_parts();
    connection.say_last(&mut head);
    body.answered(head.status, &head.headers, count.map(Count::code));
    Ok(Response::from_parts(head, body))
}

/// Any success would tell a client of extended CONNECT that it is joined to something (RFC 8441 section 5).
fn unless_taken_for_joined(outcome: Result<Outcome, Fault>, by: By<'_>) -> Result<Outcome, Fault> {
    match outcome {
        Ok(answer) if by.connects() && answer.status().is_success() => Err(Fault::UpstreamFailed),
        outcome => outcome,
    }
}

/// The stages of a request, top to bottom.
async fn walk(
    connection: &Rc<Connection>,
    request: Request<Incoming>,
    by: By<'_>,
    began: Began,
    notes: Notes<'_>,
    opening: &Opening,
) -> Result<Outcome, Fault> {
    let view = connection.context.view();
    let entry = view.entry(&connection.entry).ok_or(Fault::NotFound)?;
    let (mut parts, incoming) = request.into_parts();
    let mut body = body_of(by.upload(connection), entry, incoming, began, notes);
    body.counts_as(|| connection.requests_flow().clone());
    let found = examine(entry, connection, &mut parts)?;
    let reached = match &*entry.side {
        Side::Clients(table) => of_client(table, entry, connection, &mut parts, found),
        Side::Parents(parents) => hop::reach(parents, view.snapshot.gateway, connection, &mut parts)?,
    };
    let (table, trust) = match reached {
        Reached::Route(table, trust) => (table, trust),
        Reached::Discovery => return advertising::discover(connection, parts, (body, view)).await,
    };
    // Before rules look at the fields: a stranger's must not choose a route.
    forwarded::strip(&mut parts.headers, found, trust, own_certificate(connection));
    let (authority, target) = canonical(&parts, connection)?;
    check_policy(entry, connection, Some(&authority))?;
    let told = hop::kept(&parts.extensions);
    let client = told.as_ref().map_or(connection.client.0.ip(), |told| told.client);
    notes.client(client, told.as_ref());
    let leads = match lead(entry, table, &parts, &authority, &target, client)? {
        Ok(id) => {
            let route = route_of(&view, id)?;
            notes.router(&route.router);
            check_route(entry, connection, (id, route), &target)?;
            Ok(route)
        }
        Err(unrouted) => Err(unrouted),
    };
    let outgoing = forward::Outgoing {
        authority: authority.into(),
        target: target.into(),
        found,
        trust,
    };
    forward::clean(connection, &mut parts, outgoing);
    let certificate = told.as_deref().and_then(hop::chain);
    let facts = facts(connection, client, certificate.as_ref());
    let route = match leads {
        Ok(route) => route,
        // In a box, so that requests with a route do not carry its room around.
        Err(unrouted) => return Box::pin(unrouted.answer(entry, facts, notes, (parts, body))).await,
    };
    let way = Way {
        connection,
        by,
        view: &view,
        route,
        notes,
        opening,
        client,
        user: OnceCell::new(),
    };
    let chain = Chain::new(&entry.middlewares, &route.middlewares);
    if chain.is_empty() {
        let sent = way.send(&route.service, Request::from_parts(parts, body)).await;
        return sent.map(Outcome::Upstream);
    }
    through(chain, facts, &way, parts, body).await
}

/// What comes with a request, held to what the entry point demands of it.
fn body_of(
    upload: Option<Rc<Upload>>,
    entry: &Entry,
    incoming: Incoming,
    began: Began,
    notes: Notes<'_>,
) -> RequestBody {
    let demands = Demands::new(&entry.timeouts, &entry.limits, began.moved);
    let mut body = RequestBody::new(incoming, began.at, demands, notes.tally());
    if let Some(upload) = upload {
        body.watch(upload);
    }
    body
}

/// middleware: what the entry point and the route named, then the service.
async fn through(
    mut chain: Chain<'_>,
    facts: middleware::Facts<'_>,
    way: &Way<'_>,
    mut parts: Parts,
    body: RequestBody,
) -> Result<Outcome, Fault> {
    let service = &way.route.service;
    match chain.heads(&mut parts, &facts)? {
        Turn::End => {
            let sent = way.send(service, Request::from_parts(parts, body)).await;
            sent.map(Outcome::Upstream)
        }
        Turn::Answer(answer) => Ok(Outcome::Through(answer.map(|body| AnswerBody::Own(Some(body))))),
        Turn::Around(around) => {
            let next = Next {
                chain,
                facts,
                service,
                call: way,
            };
            let answer = around.call(Request::from_parts(parts, body), next).await;
            answer.map(Outcome::Through)
        }
    }
}

/// What middlewares may know.
fn facts<'a>(
    connection: &'a Connection,
    client: IpAddr,
    told: Option<&'a ClientChain>,
) -> middleware::Facts<'a> {
    middleware::Facts {
        client,
        certificates: told.or(clients_certificates(connection)),
    }
}

/// What the client showed; on the way of parents the certificate is a parent's, who speaks for its
/// clients by contexts.
fn clients_certificates(connection: &Connection) -> Option<&ClientChain> {
    match &*connection.entry.side {
        Side::Parents(_) => None,
        Side::Clients(_) => connection.tls.as_ref()?.shown.as_deref(),
    }
}

fn own_certificate(connection: &Connection) -> OwnCertificate {
    match clients_certificates(connection) {
        Some(_) => OwnCertificate::Shown,
        None => OwnCertificate::None,
    }
}

/// What HTTP/1.1's own parser does not see to, or HTTP/2's: a request is the same by either.
fn check_limits(parts: &Parts, found: Found, connection: &Connection) -> Result<(), Fault> {
    let limits = &connection.entry.limits;
    let too_large = parts.version == Version::HTTP_2 && section_bytes(parts) > limits.header_bytes_max;
    if too_large || parts.headers.len() > limits.headers_max {
        return Err(Fault::HeadersTooMany);
    }
    fields::check_length(&parts.headers, found).map_err(|error| malformed(connection, &error))?;
    if parts.version == Version::HTTP_2 && fields::has_padded_value(&parts.headers) {
        return Err(malformed(connection, &PaddedValue));
    }
    fields::check_coding(&parts.headers, found).map_err(|error| malformed(connection, &error))
}

/// A value that HTTP/2 does not allow.
#[derive(Debug, thiserror::Error)]
#[error("a field's value begins or ends with a space")]
struct PaddedValue;

/// As HTTP/2 counts a header section (RFC 9113 section 6.5.2), without the pseudo-fields but the target.
fn section_bytes(parts: &Parts) -> usize {
    const EACH: usize = 32;
    let fields = parts.headers.iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + EACH);
    let target = parts.uri.path().len() + parts.uri.query().map_or(0, str::len);
    fields.sum::<usize>() + target
}

/// What a request is, and whether it is one at all; it has the form between the edges then.
fn examine(entry: &Entry, connection: &Connection, parts: &mut Parts) -> Result<Found, Fault> {
    switch::take(parts).map_err(|_| Fault::NotImplemented)?;
    judge_names(entry, parts, connection)?;
    let found = fields::scan(&parts.headers);
    check_limits(parts, found, connection)?;
    check_loop(parts, found)?;
    Ok(found)
}

/// Names that some server takes for others.
fn judge_names(entry: &Entry, parts: &mut Parts, connection: &Connection) -> Result<(), Fault> {
    match entry.underscore_headers {
        UnderscoreHeaders::Keep => Ok(()),
        UnderscoreHeaders::Delete => {
            fields::strip_underscored(&mut parts.headers);
            Ok(())
        }
        UnderscoreHeaders::Reject if fields::has_underscore(&parts.headers) => {
            Err(malformed(connection, &UnderscoreFound))
        }
        UnderscoreHeaders::Reject => Ok(()),
    }
}

/// A field that the entry point does not want.
#[derive(Debug, thiserror::Error)]
#[error("a field has `_` in its name, and `underscore_headers_strategy` is `reject`")]
struct UnderscoreFound;

/// A request that has passed here again and again would go on for ever.
fn check_loop(parts: &Parts, found: Found) -> Result<(), Fault> {
    if found.via() && forward::via().is_loop(&parts.headers) {
        return Err(Fault::Loop);
    }
    Ok(())
}

fn malformed(connection: &Connection, error: &dyn std::error::Error) -> Fault {
    tracing::debug!(client = %connection.client.0, entry = connection.entry.name, %error, "malformed request");
    Fault::BadRequest
}

/// Where a request may be routed, or that it is answered here.
pub(super) enum Reached<'a> {
    /// By these routers; whether the peer's forwarding fields are believed.
    Route(&'a Table, PeerTrust),
    /// A parent asks what there is.
    Discovery,
}

/// A client's request: what gateways say to each other never passes an ordinary entry point.
fn of_client<'a>(
    table: &'a Table,
    entry: &Entry,
    connection: &Connection,
    parts: &mut Parts,
    found: Found,
) -> Reached<'a> {
    if found.uplink() {
        fields::strip_uplink(&mut parts.headers);
        connection.context.counters.add(Count::UplinkStripped);
    }
    let trusted = entry.forwarded_trusted.contains(connection.client.0.ip());
    let trust = if trusted {
        PeerTrust::Trusted
    } else {
        PeerTrust::Untrusted
    };
    Reached::Route(table, trust)
}

/// The one host and the one path of a request.
pub(super) fn canonical<'a>(
    parts: &'a Parts,
    connection: &Connection,
) -> Result<(Authority<'a>, Target<'a>), Fault> {
    let authority = authority::of(parts).map_err(|error| malformed(connection, &error))?;
    let target = target::of(parts).map_err(|error| malformed(connection, &error))?;
    Ok((authority, target))
}

/// The host's TLS policy must be the handshake's. On an uplink entry point there is one policy whatever the
/// host, because the parent passes the client's.
pub(super) fn check_policy(
    entry: &Entry,
    connection: &Connection,
    authority: Option<&Authority<'_>>,
) -> Result<(), Fault> {
    let (Some(policies), Some(facts)) = (&entry.tls, &connection.tls) else {
        return match (&entry.tls, &connection.tls) {
            (Some(_), None) => Err(Fault::Misdirected),
            _ => Ok(()),
        };
    };
    let demanded = match (&*entry.side, authority) {
        (Side::Clients(_), Some(authority)) => policies.of(Some(&authority.host)),
        (Side::Clients(_), None) | (Side::Parents(_), _) => &policies.default,
    };
    // A reload may have replaced the policy under a live connection.
    if tls::stands_for(policies, facts, demanded, UnixTime::now()) {
        Ok(())
    } else {
        Err(Fault::Misdirected)
    }
}

/// route: which one takes a request; where none does, what it comes to instead.
fn lead(
    entry: &Entry,
    table: &Table,
    parts: &Parts,
    authority: &Authority<'_>,
    target: &Target<'_>,
    client: IpAddr,
) -> Result<Result<RouteId, Unrouted>, Fault> {
    if let Some(redirect) = &entry.redirect {
        return Unrouted::elsewhere(redirect, &parts.method, authority, target).map(Err);
    }
    match find(table, parts, authority, target, client) {
        Some(id) => Ok(Ok(id)),
        None if entry.middlewares.is_empty() => Err(Fault::NotFound),
        None => Ok(Err(Unrouted::Nowhere)),
    }
}

fn find(
    table: &Table,
    parts: &Parts,
    authority: &Authority<'_>,
    target: &Target<'_>,
    client: IpAddr,
) -> Option<RouteId> {
    table.find(&route::Facts {
        host: &authority.host,
        path: &target.path,
        query: target.query,
        method: &parts.method,
        headers: &parts.headers,
        client,
    })
}

/// What a route demands of the path, and of what the connection has proven.
fn check_route(
    entry: &Entry,
    connection: &Connection,
    (id, route): (RouteId, &Route),
    target: &Target<'_>,
) -> Result<(), Fault> {
    if target.encoded.meets(route.refused_encoded) {
        return Err(Fault::EncodedCharacter);
    }
    if entry.proofs.hold(id, connection.tls.as_deref()) {
        Ok(())
    } else {
        Err(Fault::NotProven)
    }
}

fn route_of(view: &View, id: RouteId) -> Result<&Route, Fault> {
    usize::try_from(id.0)
        .ok()
        .and_then(|index| view.snapshot.routes.get(index))
        .ok_or(Fault::NotFound)
}
