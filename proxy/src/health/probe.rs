//! One probe over HTTP: a request, and whether its answer is the wanted one.

use super::{
    grpc,
    redirect::{self, Leads},
};
use crate::{
    http::{body::RequestBody, fields::HUB_UPLINK, received::Broken},
    telemetry::Counters,
    upstream::{Behalf, Pool, Server, UpstreamBody, UpstreamFault},
};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, HOST, LOCATION, TE, USER_AGENT},
    uri::{PathAndQuery, Scheme},
};
use http_body::Body;
use sallyport_config::model::{
    Scheme as ServerScheme,
    service::{HealthCheck, Probe, Redirects},
};
use std::{future::poll_fn, pin::Pin, sync::Arc};

/// Largest answer over gRPC: the message has a few bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Redirections that one probe follows.
const REDIRECTS_MAX: usize = 10;

/// Why a probe failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Complaint {
    /// Not in time.
    #[error("no answer within `health_check.timeout`")]
    Late,
    /// No answer.
    #[error("no answer")]
    Unanswered(#[source] UpstreamFault),
    /// Another status.
    #[error("status {0}, expected {1}")]
    Status(StatusCode, String),
    /// No answer over gRPC.
    #[error("status {0} and gRPC status {1}, expected 200 and 0")]
    GrpcStatus(StatusCode, String),
    /// It serves, but not this.
    #[error("gRPC says {0}, expected SERVING")]
    NotServing(&'static str),
    /// The answer ended early.
    #[error("the answer broke off")]
    BrokenOff(#[source] Broken),
    /// The answer is no gRPC.
    #[error("the answer is no message of `grpc.health.v1`")]
    NoMessage,
    /// It leads to another server.
    #[error(
        "status {0} that leads to another server, which says nothing of this one; `follow_redirects = false` takes it as it is"
    )]
    Elsewhere(StatusCode),
    /// It leads on and on.
    #[error("more than {REDIRECTS_MAX} redirections")]
    Circle,
    /// The connection broke.
    #[error("the connection broke off")]
    Unsaid(#[source] std::io::Error),
    /// A TCP server said something else, or ended.
    #[error("what the server said is not `health_check.expect`; it differs or ends within {length} bytes")]
    Unexpected {
        /// Bytes until then.
        length: usize,
    },
    /// The request cannot be written; the configuration would have refused it.
    #[error("the probe cannot be written")]
    Unwritable,
}

/// Probes `server`, for `uplink` where it is a child. Cancelling closes the connection.
pub(super) async fn ask(
    pool: &Pool,
    server: &Arc<Server>,
    check: &HealthCheck,
    uplink: Option<&HeaderValue>,
) -> Result<(), Complaint> {
    let first = request(server, check, uplink).ok_or(Complaint::Unwritable)?;
    let (Probe::Http { status: wanted, .. }, Redirects::Follow) = (&check.probe, check.redirects) else {
        let response = send(pool, server, first).await?;
        return match &check.probe {
            Probe::Http { status, .. } => judge(response.status(), *status),
            Probe::Grpc { .. } => judge_grpc(response).await,
        };
    };
    let (mut method, mut target) = (first.method().clone(), first.uri().path_and_query().cloned());
    let mut next = Some(first);
    for _ in 0..=REDIRECTS_MAX {
        let request = next.take().ok_or(Complaint::Unwritable)?;
        let response = send(pool, server, request).await?;
        let status = response.status();
        let location = response
            .headers()
            .get(LOCATION)
            .filter(|_| redirect::is_one(status));
        let Some(location) = location.filter(|_| *wanted != Some(status.as_u16())) else {
            return judge(status, *wanted);
        };
        let at = target.ok_or(Complaint::Unwritable)?;
        let Leads::Here(led) = leads(location, &at, server, check) else {
            return Err(Complaint::Elsewhere(status));
        };
        method = redirect::method(status, &method);
        next = asked_there(server, check, uplink, &method, &led);
        target = Some(led);
    }
    Err(Complaint::Circle)
}

async fn send(
    pool: &Pool,
    server: &Arc<Server>,
    request: Request<RequestBody>,
) -> Result<Response<UpstreamBody>, Complaint> {
    let counters = Counters::default();
    let sent = pool.send(server, request, &counters, Behalf::Gateway).await;
    sent.map_err(|unanswered| Complaint::Unanswered(unanswered.fault))
}

fn leads(location: &HeaderValue, at: &PathAndQuery, server: &Server, check: &HealthCheck) -> Leads {
    let scheme = match server.url.scheme {
        ServerScheme::Https => Scheme::HTTPS,
        ServerScheme::Http | ServerScheme::H2c => Scheme::HTTP,
    };
    let host = host(server, check);
    location.to_str().map_or(Leads::Elsewhere, |text| {
        redirect::resolve(text, at, host, &scheme)
    })
}

/// The probe again, where an answer led.
fn asked_there(
    server: &Server,
    check: &HealthCheck,
    uplink: Option<&HeaderValue>,
    method: &Method,
    target: &PathAndQuery,
) -> Option<Request<RequestBody>> {
    let mut request = request(server, check, uplink)?;
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::from(target.clone());
    Some(request)
}

fn host<'a>(server: &'a Server, check: &'a HealthCheck) -> &'a str {
    check.hostname.as_deref().unwrap_or(server.authority.as_str())
}

fn request(
    server: &Server,
    check: &HealthCheck,
    uplink: Option<&HeaderValue>,
) -> Option<Request<RequestBody>> {
    let (method, path, body) = match &check.probe {
        Probe::Http { path, method, .. } => {
            (Method::from_bytes(method.as_bytes()).ok()?, path.as_str(), None)
        }
        Probe::Grpc { service } => (Method::POST, grpc::PATH, Some(grpc::question(service))),
    };
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("sallyport-probe"));
    for (name, value) in &check.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.insert(name, HeaderValue::from_str(value).ok()?);
    }
    headers.insert(HOST, HeaderValue::from_str(host(server, check)).ok()?);
    if let Some(uplink) = uplink {
        headers.insert(HUB_UPLINK, uplink.clone());
    }
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        let deadline = HeaderValue::from_str(&grpc::deadline(check.timeout)).ok()?;
        headers.insert(HeaderName::from_static("grpc-timeout"), deadline);
    }
    let body = body.map_or(RequestBody::Empty, |bytes| RequestBody::Whole(Some(bytes)));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = path.parse::<Uri>().ok()?;
    *request.headers_mut() = headers;
    Some(request)
}

fn judge(status: StatusCode, wanted: Option<u16>) -> Result<(), Complaint> {
    let (good, expected) = match wanted {
        Some(wanted) => (status.as_u16() == wanted, wanted.to_string()),
        None => ((200..400).contains(&status.as_u16()), "200 to 399".to_owned()),
    };
    if good {
        Ok(())
    } else {
        Err(Complaint::Status(status, expected))
    }
}

async fn judge_grpc(response: Response<UpstreamBody>) -> Result<(), Complaint> {
    let (head, body) = response.into_parts();
    let (bytes, trailers) = whole(body).await?;
    // Where there is no message the status may stand in the header section.
    let status = |headers: &HeaderMap| headers.get("grpc-status").cloned();
    let said = status(&trailers).or_else(|| status(&head.headers));
    if head.status != StatusCode::OK || said.as_ref().is_none_or(|said| said != "0") {
        let said = said
            .as_ref()
            .and_then(|said| said.to_str().ok())
            .unwrap_or("missing");
        return Err(Complaint::GrpcStatus(
            head.status,
            said.chars().take(16).collect(),
        ));
    }
    match grpc::answer(&bytes).ok_or(Complaint::NoMessage)? {
        grpc::Serving::Serving => Ok(()),
        grpc::Serving::Other(word) => Err(Complaint::NotServing(word)),
    }
}

async fn whole(mut body: UpstreamBody) -> Result<(Bytes, HeaderMap), Complaint> {
    let (mut bytes, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame.map_err(Complaint::BrokenOff)?.into_data() {
            Ok(data) if bytes.len() + data.len() > ANSWER_BYTES_MAX => return Err(Complaint::NoMessage),
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok((bytes.freeze(), trailers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_good_from_200_to_399_or_where_it_is_the_wanted_one() {
        let check = |status: u16, wanted, good| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(judge(status, wanted).is_ok(), good, "{status} {wanted:?}");
        };
        for (status, good) in [
            (200, true),
            (204, true),
            (302, true),
            (399, true),
            (400, false),
            (503, false),
        ] {
            check(status, None, good);
        }
        check(204, Some(204), true);
        check(200, Some(204), false);
        check(503, Some(503), true);
    }
}
