//! A routed request on its way to a server, and the answer on its way back.

use super::{
    access::Notes,
    balancing,
    connection::Connection,
    context::View,
    hop::{self, Asker},
    lane::By,
    switching::Opening,
};
use crate::{
    fault::{Fault, with_causes},
    http::{
        authority::Authority,
        body::RequestBody,
        call::{AnswerBody, Answering, BodyError, Call},
        fields::{self, Found, HUB_UPLINK},
        forwarded::{self, PeerTrust},
        switch::Switch,
        target::Target,
        via::{self, Via},
    },
    snapshot::{Route, Service},
    telemetry::Count,
    tls,
    upstream::{Behalf, Notice, Server, Switched, UpstreamBody, UpstreamFault},
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING},
    request::Parts,
    uri::PathAndQuery,
};
use http_body::{Body, Frame, SizeHint};
use sallyport_config::model::ServiceRef;
use std::{
    borrow::Cow,
    cell::OnceCell,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

/// What the earlier stages found out, owned.
pub(super) struct Outgoing {
    /// The host as the client wrote it.
    pub authority: HostField,
    /// The canonical target, where it differs from what the client sent.
    pub target: Rewritten,
    /// Which kinds of field the request has.
    pub found: Found,
    /// Whether the peer's forwarding fields are believed.
    pub trust: PeerTrust,
}

/// A `Host` field.
pub(super) struct HostField(Option<HeaderValue>);

impl From<Authority<'_>> for HostField {
    fn from(authority: Authority<'_>) -> Self {
        Self(HeaderValue::from_str(authority.text).ok())
    }
}

/// A target that is not sent on as it came.
pub(super) struct Rewritten(Option<PathAndQuery>);

impl From<Target<'_>> for Rewritten {
    fn from(target: Target<'_>) -> Self {
        let Cow::Owned(path) = target.path else {
            return Self(None);
        };
        let whole = match target.query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        Self(PathAndQuery::try_from(whole).ok())
    }
}

/// Makes a request what it is to everything behind routing: hop-by-hop fields are gone, forwarding fields tell the
/// truth, the target is canonical, and `Host` is what the client asked for.
pub(super) fn clean(connection: &Connection, parts: &mut Parts, outgoing: Outgoing) {
    let headers = &mut parts.headers;
    // RFC 9112 section 6.3: with both, the transfer coding decides, and the length must not go on.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    fields::strip_request(headers, outgoing.found);
    if parts.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    let asked = outgoing
        .authority
        .0
        .unwrap_or_else(|| HeaderValue::from_static(""));
    forwarded::write(
        headers,
        outgoing.found,
        outgoing.trust,
        &connection.forwarded,
        &asked,
    );
    if let Some(told) = hop::told(&parts.extensions) {
        hop::write(headers, told, &connection.forwarded, &asked);
    }
    headers.insert(HOST, asked);
    via().write(headers, parts.version);
    let came = || parts.uri.path_and_query().cloned();
    if let Some(target) = outgoing.target.0.or_else(came) {
        parts.uri = Uri::from(target);
    }
    parts.version = Version::HTTP_11;
}

/// This gateway's name in `Via`.
pub(super) fn via() -> &'static Via {
    // Without working random numbers the name is shared, and a loop is seen all the same.
    via::own(|| tls::random_name().unwrap_or_default())
}

/// How a request of one route reaches services.
pub(super) struct Way<'a> {
    /// The connection that it came by.
    pub connection: &'a Rc<Connection>,
    /// What it came by there.
    pub by: By<'a>,
    /// The configuration that it goes by.
    pub view: &'a View,
    /// Its route.
    pub route: &'a Route,
    /// Who wants to know how it goes.
    pub notes: Notes<'a>,
    /// Where a way stands that leaves HTTP.
    pub opening: &'a Opening,
    /// The client, for services that go by it.
    pub client: IpAddr,
    /// The user that a middleware has verified.
    pub user: OnceCell<String>,
}

impl Way<'_> {
    /// Who asks, as children are told.
    pub(super) fn asker(&self) -> Asker<'_> {
        Asker {
            connection: self.connection,
            view: self.view,
            client: self.client,
            user: self.user.get().map(String::as_str),
        }
    }

    /// Sends a clean request to a service.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    pub(super) async fn send(
        &self,
        service: &ServiceRef,
        request: Request<RequestBody>,
    ) -> Result<Response<UpstreamBody>, Fault> {
        balancing::ask(self, service, request).await
    }

    /// Sends a request that asks to leave HTTP to a server; the way that a 101 opens is kept.
    ///
    /// # Errors
    /// What stood in the way.
    pub(super) async fn switch(
        &self,
        server: &Arc<Server>,
        request: Request<RequestBody>,
        switch: Switch,
    ) -> Result<Response<UpstreamBody>, UpstreamFault> {
        let (context, behalf) = (&self.connection.context, Behalf::Client(self));
        // Boxed: it is rare, and every request would carry the room for it.
        let sent = Box::pin(
            context
                .pool
                .switch(server, request, &switch, &context.counters, behalf),
        );
        match sent.await? {
            Switched::Answer(response) => Ok(response),
            Switched::Joined(response, opened) => {
                self.opening.keep(switch, opened);
                Ok(response)
            }
        }
    }
}

impl Call for Way<'_> {
    fn call<'a>(&'a self, service: &'a ServiceRef, request: Request<RequestBody>) -> Answering<'a> {
        Box::pin(async move {
            let response = self.send(service, request).await?;
            Ok(response.map(|body| AnswerBody::Streamed(Box::pin(Erased(body)))))
        })
    }

    fn aside<'a>(&'a self, service: &'a ServiceRef, request: Request<RequestBody>) -> Answering<'a> {
        Box::pin(async move {
            let way = Way {
                by: By::Nobody,
                user: self.user.clone(),
                ..*self
            };
            let response = way.send(service, request).await?;
            Ok(response.map(|body| AnswerBody::Streamed(Box::pin(Erased(body)))))
        })
    }

    fn router(&self) -> &str {
        &self.route.router
    }

    fn user(&self, name: &str) {
        // The one nearest the client counts, should there be two.
        let _ = self.user.set(name.to_owned());
        self.notes.user(name);
    }

    fn count(&self, count: Count) {
        self.connection.context.counters.add(count);
    }
}

/// A server's body as middlewares see it.
struct Erased(UpstreamBody);

impl Body for Erased {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0)
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Makes a server's answer the gateway's own.
pub(super) fn accept(mut response: Response<UpstreamBody>) -> Result<Response<UpstreamBody>, UpstreamFault> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // One that was asked for has been judged, and has no body.
        return match response.body() {
            UpstreamBody::Empty => Ok(response),
            _ => Err(UpstreamFault::Switched),
        };
    }
    fields::strip_response(response.headers_mut()).map_err(UpstreamFault::Coding)?;
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

/// Writes what depends on the server; a request may have been on its way to another one before.
pub(super) fn address(
    request: &mut Request<RequestBody>,
    service: &Service,
    server: &Server,
    asker: &Asker<'_>,
) {
    let headers = request.headers_mut();
    let asked = headers.get(HOST).is_some_and(|host| !host.is_empty());
    if !(service.pass_host_header && asked)
        && let Ok(own) = HeaderValue::from_str(server.authority.as_str())
    {
        headers.insert(HOST, own);
    }
    match &service.uplink {
        Some(uplink) => {
            headers.insert(HUB_UPLINK, uplink.clone());
            hop::tell(asker, request);
        }
        None => {
            headers.remove(HUB_UPLINK);
            hop::tell_nothing(request);
        }
    }
}

/// HTTP/2 may split the cookie field; HTTP/1.1 and the applications behind it expect one (RFC 9113 section
/// 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Logs why there is no answer, for the operator, and says what the client is told.
pub(super) fn explain(
    connection: &Connection,
    route: &Route,
    service: &Service,
    server: &Arc<Server>,
    error: &UpstreamFault,
) -> Fault {
    let fault = match error {
        UpstreamFault::Silent => Fault::UpstreamSilent,
        UpstreamFault::DialTimeout | UpstreamFault::TlsTimeout => Fault::UnreachedSilent,
        UpstreamFault::BodyTimeout => Fault::RequestTimeout,
        UpstreamFault::BodyTooLarge => Fault::BodyTooLarge,
        UpstreamFault::Body(_) => Fault::BadRequest,
        UpstreamFault::Unresolved { .. }
        | UpstreamFault::Refused(_)
        | UpstreamFault::Tls(_)
        | UpstreamFault::Name(_) => Fault::Unreached,
        UpstreamFault::OurCertificate(_)
        | UpstreamFault::Switched
        | UpstreamFault::NotJoined(_)
        | UpstreamFault::NoExtendedConnect
        | UpstreamFault::NoRandom
        | UpstreamFault::Unsealable(_)
        | UpstreamFault::Coding(_)
        | UpstreamFault::Exchange(_) => Fault::UpstreamFailed,
    };
    let (router, entry, cause) = (
        route.router.as_str(),
        connection.entry.name.as_str(),
        with_causes(error),
    );
    let (service, transport) = (service.name.as_str(), server.transport.name.as_str());
    let client = connection.client.0;
    let url = server.url.to_string();
    match (fault, connection.context.pool.notice(server, error)) {
        (Fault::BadRequest | Fault::RequestTimeout | Fault::BodyTooLarge, _) => {
            tracing::debug!(%client, entry, router, service, server = url, cause, "request given up");
        }
        (_, Notice::Tell { withheld }) => tracing::warn!(
            %client, entry, router, service, transport, server = url, withheld, cause, "no answer from the server"
        ),
        (_, Notice::Withhold) => {
            tracing::debug!(%client, entry, router, service, transport, server = url, cause, "no answer from the server");
        }
    }
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookie_crumbs_become_one_field_in_order() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2", "c=3"] {
            headers.append(COOKIE, HeaderValue::from_static(crumb));
        }
        join_cookies(&mut headers);
        assert_eq!(headers[COOKIE], "a=1; b=2; c=3");
        assert_eq!(headers.get_all(COOKIE).iter().count(), 1);
    }
}
