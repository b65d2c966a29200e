//! One probe: a request, and whether its answer is the wanted one.

use super::grpc;
use crate::{
    http::{body::RequestBody, received::Broken},
    telemetry::Counters,
    upstream::{Behalf, Pool, Server, UpstreamBody, UpstreamFault},
};
use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONTENT_TYPE, HOST, TE, USER_AGENT},
};
use http_body::Body;
use sallyport_config::model::service::{HealthCheck, Probe};
use std::{future::poll_fn, pin::Pin, sync::Arc};

/// Largest answer over gRPC: the message has a few bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

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
    /// The request cannot be written; the configuration would have refused it.
    #[error("the probe cannot be written")]
    Unwritable,
}

/// Probes `server`. Cancelling closes the connection.
pub(super) async fn ask(pool: &Pool, server: &Arc<Server>, check: &HealthCheck) -> Result<(), Complaint> {
    let request = request(server, check).ok_or(Complaint::Unwritable)?;
    let counters = Counters::default();
    let sent = pool.send(server, request, &counters, Behalf::Gateway).await;
    let response = sent.map_err(|unanswered| Complaint::Unanswered(unanswered.fault))?;
    match &check.probe {
        Probe::Http { status, .. } => judge(response.status(), *status),
        Probe::Grpc { .. } => judge_grpc(response).await,
    }
}

fn request(server: &Server, check: &HealthCheck) -> Option<Request<RequestBody>> {
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
    let host = check.hostname.as_deref().unwrap_or(server.authority.as_str());
    headers.insert(HOST, HeaderValue::from_str(host).ok()?);
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
