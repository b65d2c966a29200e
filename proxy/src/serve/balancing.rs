//! A clean request on its way to a service: through services that lead to others to one with servers, to one of them,
//! and to another where the first did not take it and that is safe.

use super::{
    connection::Connection,
    context::View,
    forward::{self, Way},
    hop::Asker,
    mirroring::Copying,
};
use crate::{
    balance::{Asked, Moment, NoSeat, Pick, Seat, Tried},
    fault::Fault,
    http::{
        again::{once_more, same_head, take},
        body::RequestBody,
        switch::Switch,
    },
    io::Instant,
    snapshot::{Leading, Service},
    telemetry::Count,
    upstream::{Behalf, Server, Unanswered, UpstreamBody, UpstreamFault},
};
use http::{HeaderMap, HeaderValue, Request, Response, header::SET_COOKIE};
use sallyport_config::model::{
    ServiceRef,
    service::{FailoverErrors, Mirror, MirrorBody},
};
use std::{net::IpAddr, sync::Arc};

/// Services that a request is led through at most; the configuration refuses longer ways.
const STEPS_MAX: usize = 16;

/// Where a request is led.
pub(super) struct Led<'v> {
    /// The service that is asked.
    pub service: &'v Service,
    along: Along<'v>,
}

/// What is gathered on the way.
#[derive(Default)]
struct Along<'v> {
    /// The service that is asked where the first does not take the request.
    fallback: Option<&'v ServiceRef>,
    /// The service that is asked where the answer of the first is one of these.
    instead: Option<(&'v FailoverErrors, &'v ServiceRef)>,
    /// A cookie led the client here.
    kept: bool,
    /// For the client, so that it is led the same way again.
    cookies: Vec<HeaderValue>,
    mirrors: Vec<(&'v Mirror, MirrorBody)>,
}

/// Leads a request from `named` to a service with servers; `None` where there is none.
pub(super) fn lead<'v>(view: &'v View, named: &'v ServiceRef, headers: &HeaderMap) -> Option<Led<'v>> {
    let snapshot = &view.snapshot;
    let (mut at, mut along) = (named, Along::default());
    for _ in 0..STEPS_MAX {
        if let Some(service) = snapshot.service(at) {
            return Some(Led { service, along });
        }
        let composite = snapshot.composite(at)?;
        let (steering, now) = (view.steering(composite)?, Moment::now());
        at = match &composite.way {
            Leading::Weighted(weighted) => {
                let up = |place: usize| {
                    let service = weighted.services.get(place);
                    service.is_some_and(|service| snapshot.is_up(service, now))
                };
                // Who is here already stays where no new clients are taken.
                let keeps = |place: &usize| {
                    let service = weighted.services.get(*place);
                    service.is_some_and(|service| snapshot.keeps(service, now))
                };
                let kept = weighted.sticky.as_ref().and_then(|sticky| sticky.find(headers));
                let place = match kept.filter(keeps) {
                    Some(place) => {
                        along.kept = true;
                        place
                    }
                    None => {
                        let place = steering.turn(up)?;
                        let sticky = weighted.sticky.as_ref();
                        along
                            .cookies
                            .extend(sticky.and_then(|sticky| sticky.field(place)));
                        place
                    }
                };
                weighted.services.get(place)?
            }
            Leading::Failover(failover) => {
                let chosen = snapshot.chosen(failover, now);
                let first = std::ptr::eq(chosen, &raw const failover.service);
                if first {
                    along.fallback = Some(&failover.fallback);
                    let errors = failover
                        .errors
                        .as_ref()
                        .map(|errors| (errors, &failover.fallback));
                    along.instead = errors.or(along.instead);
                }
                chosen
            }
            Leading::Mirroring(mirroring) => {
                let due = steering.due(&mirroring.mirrors);
                along.mirrors.extend(due.map(|mirror| (mirror, mirroring.body)));
                &mirroring.service
            }
        };
    }
    None
}

/// Sends a clean request to a service.
///
/// # Errors
/// What the client is told instead of an answer.
pub(super) async fn ask(
    way: &Way<'_>,
    named: &ServiceRef,
    mut request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Fault> {
    let mut led = lead(way.view, named, request.headers()).ok_or(Fault::NoServer)?;
    let copying = Copying::begin(way.connection, &led.along.mirrors, &mut request);
    let mut spare = led.along.instead.map(|(errors, _)| spare(&mut request, errors));
    let mut tried = Tried::default();
    let mut failed = None;
    loop {
        let stays = led
            .service
            .sticky
            .as_ref()
            .and_then(|sticky| sticky.find(request.headers()));
        let asked = Asked {
            client: way.client,
            tried: &tried,
            stays,
            kept: led.along.kept,
        };
        let seat = match seat(way, led.service, &asked).await {
            Ok(seat) => seat,
            Err(fault) => return Err(failed.unwrap_or(fault)),
        };
        let place = seat.place;
        let (unanswered, fault) = match attempt(way, led.service, seat, &mut request).await {
            Ok(mut response) => {
                if let Some((other, again)) = instead(way.view, &mut led.along, &mut spare, &response)
                    && let Some(next) = turn_to(way.view, other, again.headers(), &mut led)
                {
                    way.connection.context.counters.add(Count::UpstreamRetried);
                    (led, request, tried, failed) = (next, again, Tried::default(), None);
                    continue;
                }
                stick(&led, stays, place, response.headers_mut());
                if let Some(copying) = copying {
                    copying.go();
                }
                return Ok(response);
            }
            Err(Unserved { request, fault }) => (request, fault),
        };
        let Some(again) = unanswered else {
            return Err(fault);
        };
        failed = Some(fault);
        if !tried.note(place) || !led.service.group.has_untried(&tried, Moment::now()) {
            // Who is not to be asked twice may still have a stand-in.
            let fallback = led.along.fallback.take().ok_or(fault)?;
            led = turn_to(way.view, fallback, again.headers(), &mut led).ok_or(fault)?;
            tried = Tried::default();
        }
        way.connection.context.counters.add(Count::UpstreamRetried);
        request = again;
    }
}

/// The way that begins at the stand-in, with what was gathered before.
fn turn_to<'v>(
    view: &'v View,
    fallback: &'v ServiceRef,
    headers: &HeaderMap,
    before: &mut Led<'v>,
) -> Option<Led<'v>> {
    let mut led = lead(view, fallback, headers)?;
    led.along.cookies.splice(0..0, before.along.cookies.drain(..));
    // One stand-in a request: who stands in for whom could go round for long.
    (led.along.fallback, led.along.instead) = (None, None);
    Some(led)
}

/// A request once more, for the service that may be asked in place of the first answer.
fn spare(request: &mut Request<RequestBody>, errors: &FailoverErrors) -> Request<RequestBody> {
    let bytes_max = usize::try_from(errors.body_bytes_max).unwrap_or(usize::MAX);
    let mut spare = once_more(request, bytes_max);
    if let Some(switch) = request.extensions().get::<Switch>() {
        spare.extensions_mut().insert(switch.clone());
    }
    spare
}

/// The service that is asked in place of an answer, and the request for it: where the operator wants that of this
/// status, the service is there, and all of the request still is.
fn instead<'v, B>(
    view: &View,
    along: &mut Along<'v>,
    spare: &mut Option<Request<RequestBody>>,
    response: &Response<B>,
) -> Option<(&'v ServiceRef, Request<RequestBody>)> {
    let (errors, other) = along.instead?;
    let wanted = errors.holds(response.status().as_u16()) && view.snapshot.is_up(other, Moment::now());
    let again = spare.take().filter(|spare| wanted && spare.body().is_whole())?;
    along.instead = None;
    Some((other, again))
}

/// A server with room, after a wait where that is configured.
async fn seat(way: &Way<'_>, service: &Service, asked: &Asked<'_>) -> Result<Seat, Fault> {
    let picker = way.view.picker(service).ok_or(Fault::NoServer)?;
    match service.group.pick_now(picker, asked) {
        Pick::Seat(seat) => Ok(seat),
        Pick::Nobody => Err(Fault::NoServer),
        Pick::Full => {
            way.connection.context.counters.add(Count::Queued);
            // Boxed: every request would carry the room for it.
            let waited = Box::pin(service.group.wait(picker, asked)).await;
            waited.map_err(|no| match no {
                NoSeat::Nobody => Fault::NoServer,
                NoSeat::QueueFull => Fault::QueueFull,
                NoSeat::QueueTimeout => Fault::QueueTimeout,
            })
        }
    }
}

/// A request that a server did not serve, and the request again where another may.
struct Unserved {
    request: Option<Request<RequestBody>>,
    fault: Fault,
}

/// Sends a request to one server.
async fn attempt(
    way: &Way<'_>,
    service: &Service,
    seat: Seat,
    request: &mut Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Unserved> {
    let nobody = || Unserved {
        request: None,
        fault: Fault::NoServer,
    };
    let server = service.servers.get(seat.place).ok_or_else(nobody)?;
    way.notes.asks(&service.name, &server.url);
    forward::address(request, service, server, &way.asker());
    let (context, clock) = (&way.connection.context, way.notes.clock());
    let began = service.group.is_timed().then(Instant::now);
    let behalf = Behalf::Client(way);
    let sent = match request.extensions_mut().remove::<Switch>() {
        Some(switch) => Box::pin(join(way, server, request, switch)).await,
        None => {
            let (pool, counters) = (&context.pool, &context.counters);
            pool.send(server, take(request), counters, behalf).await
        }
    };
    way.notes.answered(clock);
    let (error, request) = match sent {
        Ok(response) => {
            judge(way.connection, service, seat.place, &response, began);
            match forward::accept(response) {
                Ok(response) => return Ok(held(response, seat)),
                Err(error) => (error, None),
            }
        }
        Err(unanswered) => {
            if speaks_against(service, seat.place, &unanswered.fault) {
                blame(way.connection, service, seat.place);
            }
            (unanswered.fault, unanswered.request)
        }
    };
    let fault = forward::explain(way.connection, way.route, service, server, &error);
    Err(Unserved {
        // Who waited for a server that says nothing has waited for long enough.
        request: request.filter(|_| matches!(fault, Fault::UpstreamFailed | Fault::Unreached)),
        fault,
    })
}

/// Sends a request that asks to leave HTTP. A server that was never reached has not seen it.
async fn join(
    way: &Way<'_>,
    server: &Arc<Server>,
    request: &mut Request<RequestBody>,
    switch: Switch,
) -> Result<Response<UpstreamBody>, Unanswered> {
    let spare = matches!(request.body(), RequestBody::Empty).then(|| {
        let mut spare = same_head(request, RequestBody::Empty);
        spare.extensions_mut().insert(switch.clone());
        spare
    });
    let unreached = |fault: &UpstreamFault| {
        matches!(
            fault,
            UpstreamFault::Refused(_) | UpstreamFault::Unresolved { .. } | UpstreamFault::Tls(_)
        )
    };
    let sent = way.switch(server, take(request), switch).await;
    sent.map_err(|fault| Unanswered {
        request: spare.filter(|_| unreached(&fault)),
        fault,
    })
}

fn held(response: Response<UpstreamBody>, seat: Seat) -> Response<UpstreamBody> {
    match seat.lease {
        Some(lease) => response.map(|body| body.holding(lease)),
        None => response,
    }
}

/// Whether a fault speaks against the server at `place`. What a client may bring about takes the last server away from
/// nobody.
fn speaks_against(service: &Service, place: usize, fault: &UpstreamFault) -> bool {
    match fault {
        UpstreamFault::Unresolved { .. }
        | UpstreamFault::Refused(_)
        | UpstreamFault::DialTimeout
        | UpstreamFault::Tls(_)
        | UpstreamFault::Name(_)
        | UpstreamFault::TlsTimeout
        | UpstreamFault::Silent => true,
        UpstreamFault::Exchange(_)
        | UpstreamFault::Switched
        | UpstreamFault::NotJoined(_)
        | UpstreamFault::NoExtendedConnect
        | UpstreamFault::Coding(_) => service.group.has_another(place, Moment::now()),
        UpstreamFault::OurCertificate(_)
        | UpstreamFault::NoRandom
        | UpstreamFault::Unsealable(_)
        | UpstreamFault::Body(_)
        | UpstreamFault::BodyTooLarge
        | UpstreamFault::BodyTimeout => false,
    }
}

/// What an answer says of its server.
fn judge(
    connection: &Connection,
    service: &Service,
    place: usize,
    response: &Response<UpstreamBody>,
    began: Option<Instant>,
) {
    if response.status().is_server_error() {
        // Whom a client can make answer so must not take the last server away from everybody.
        let passive = service.group.passive(place).is_some();
        if passive && service.group.has_another(place, Moment::now()) {
            blame(connection, service, place);
        }
        return;
    }
    if let (Some(began), Some(member)) = (began, service.group.members().get(place)) {
        member.standing.answered(began.elapsed(), Moment::now());
    }
}

/// Counts a failure of a server, where failures eject.
fn blame(connection: &Connection, service: &Service, place: usize) {
    let (Some(passive), Some(member)) = (service.group.passive(place), service.group.members().get(place))
    else {
        return;
    };
    if member.standing.failed(passive, Moment::now()) {
        connection.context.counters.add(Count::ServerEjected);
        let server = service.servers.get(place).map(|server| server.url.to_string());
        tracing::warn!(
            service = service.name,
            server = server.unwrap_or_default(),
            left_out = ?passive.failure_window,
            "server ejected: too many requests to it failed"
        );
    }
}

/// Has the client come back to where it was, unless it does so already.
fn stick(led: &Led<'_>, stays: Option<usize>, place: usize, headers: &mut HeaderMap) {
    for cookie in &led.along.cookies {
        headers.append(SET_COOKIE, cookie.clone());
    }
    let Some(sticky) = &led.service.sticky else { return };
    // A server that was only full keeps its clients.
    let keeps = |stays: usize| {
        let member = led.service.group.members().get(stays);
        stays == place || member.is_some_and(|member| member.standing.is_available(Moment::now()))
    };
    if !stays.is_some_and(keeps)
        && let Some(field) = sticky.field(place)
    {
        headers.append(SET_COOKIE, field);
    }
}

/// Sends a copy of a request to a service, once; returns its answer where there is one. Nobody waits for it, so it waits
/// for nobody either.
pub(super) async fn ask_aside(
    connection: &Connection,
    view: &View,
    named: &ServiceRef,
    client: IpAddr,
    mut request: Request<RequestBody>,
) -> Option<Response<UpstreamBody>> {
    let led = lead(view, named, request.headers())?;
    let asked = Asked {
        client,
        tried: &Tried::default(),
        stays: None,
        kept: led.along.kept,
    };
    let Pick::Seat(seat) = led
        .service
        .group
        .pick(view.picker(led.service)?, &asked, Moment::now())
    else {
        return None;
    };
    let server = Arc::clone(led.service.servers.get(seat.place)?);
    let asker = Asker {
        connection,
        view,
        client,
        user: None,
    };
    forward::address(&mut request, led.service, &server, &asker);
    let context = &connection.context;
    let sent = context
        .pool
        .send(&server, request, &context.counters, Behalf::Gateway)
        .await;
    sent.ok().map(|response| held(response, seat))
}
