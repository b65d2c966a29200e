//! Polling the children: who advertises what, published to the workers when it changes.

use super::state::State;
use crate::{
    fault::with_causes,
    http::{body::RequestBody, received::Broken},
    telemetry::Counters,
    uplink::{
        directory::DiscoveredService,
        wire::{self, ADVERTISEMENT_BYTES_MAX},
    },
    upstream::{Behalf, Pool, Server, UpstreamBody},
};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use hyper::{
    Request, Response, StatusCode,
    header::{ACCEPT, ETAG, HOST, HeaderValue, IF_NONE_MATCH},
};
use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Stops the polls of the old configuration and starts those of the current one.
pub(super) fn restart(state: &Rc<State>) {
    for task in state.tasks.take() {
        task.abort();
    }
    let (_, snapshot) = state.published().read();
    let pool = Rc::new(Pool::default());
    let cluster = state.config().multicluster;
    for (child, server) in &snapshot.children {
        let poll = Poll {
            child: child.clone(),
            server: Arc::clone(server),
            pool: Rc::clone(&pool),
            interval: cluster.poll_interval,
            limit: cluster.poll_timeout,
        };
        let task = tokio::task::spawn_local(poll.run(Rc::clone(state)));
        state.tasks.borrow_mut().push(task.abort_handle());
    }
}

/// Refused uplinks of one answer that are named in the log: a child may offer thousands, each poll anew.
const REFUSALS_LOGGED: usize = 8;

/// The polls of one child.
struct Poll {
    child: String,
    server: Arc<Server>,
    pool: Rc<Pool>,
    interval: Duration,
    limit: Duration,
}

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error("no answer within `multicluster.poll_timeout`")]
    Timeout,
    #[error("{0}")]
    Upstream(String),
    #[error(
        "status {0}, expected 200; the child knows no proof of this parent, or the port is no uplink entry point"
    )]
    Status(StatusCode),
    #[error("the answer is larger than {ADVERTISEMENT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the answer broke off")]
    BrokenOff(#[source] Broken),
    #[error("the answer is no advertisement: {0}")]
    Wire(#[from] wire::WireError),
}

/// What a child answered.
enum Answer {
    Unchanged,
    Changed(wire::Advertisement, Option<HeaderValue>),
}

impl Poll {
    async fn run(self, state: Rc<State>) {
        let mut etag = None;
        let mut last_failure = String::new();
        loop {
            let outcome = tokio::time::timeout(self.limit, self.ask(etag.as_ref()))
                .await
                .unwrap_or(Err(PollError::Timeout));
            let now = Instant::now();
            match outcome {
                Ok(Answer::Unchanged) => state.directory.borrow_mut().unchanged(&self.child, now),
                Ok(Answer::Changed(advertisement, fresh)) => {
                    etag = fresh;
                    let refused = state
                        .directory
                        .borrow_mut()
                        .record(&self.child, advertisement, now);
                    for refusal in refused.iter().take(REFUSALS_LOGGED) {
                        tracing::warn!(child = self.child, %refusal, "an advertised uplink is refused");
                    }
                    if let Some(more @ 1..) = refused.len().checked_sub(REFUSALS_LOGGED) {
                        tracing::warn!(child = self.child, more, "more advertised uplinks are refused");
                    }
                }
                Err(error) => {
                    let text = with_causes(&error);
                    if text != last_failure {
                        tracing::warn!(child = self.child, error = text, "child cannot be polled");
                    }
                    last_failure.clone_from(&text);
                    state.directory.borrow_mut().failed(&self.child, text);
                }
            }
            publish(&state, now);
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn ask(&self, etag: Option<&HeaderValue>) -> Result<Answer, PollError> {
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = hyper::Uri::from_static("/uplinks");
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(self.server.authority.as_str()) {
            headers.insert(HOST, host);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(etag) = etag {
            headers.insert(IF_NONE_MATCH, etag.clone());
        }
        let counters = Counters::default();
        let response = self
            .pool
            .send(&self.server, request, &counters, Behalf::Gateway)
            .await;
        let response = response.map_err(|error| PollError::Upstream(with_causes(&error.fault)))?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(Answer::Unchanged),
            StatusCode::OK => {
                let etag = response.headers().get(ETAG).cloned();
                Ok(Answer::Changed(wire::decode(&whole(response).await?)?, etag))
            }
            other => Err(PollError::Status(other)),
        }
    }
}

/// The whole body, up to its limit.
async fn whole(response: Response<UpstreamBody>) -> Result<Bytes, PollError> {
    let mut body = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.map_err(PollError::BrokenOff)?.into_data() {
            if bytes.len() + data.len() > ADVERTISEMENT_BYTES_MAX {
                return Err(PollError::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// Publishes what the children offer, where it changed.
fn publish(state: &State, now: Instant) {
    let services = state.directory.borrow().services(now);
    let (_, snapshot) = state.published().read();
    if !same(&services, &snapshot.discovered) {
        tracing::info!(services = services.len(), "services of the children changed");
        state.published().publish(snapshot.with_discovered(&services));
    }
}

fn same(
    found: &[DiscoveredService],
    known: &std::collections::HashMap<String, Arc<crate::snapshot::Service>>,
) -> bool {
    found.len() == known.len()
        && found.iter().all(|service| {
            known
                .get(&service.name)
                .is_some_and(|known| known.advertised.as_ref() == Some(service))
        })
}
