//! `GET /metrics`: what is counted, for Prometheus, from the control thread.
//!
//! What there is stands in [`families`]; how it is written in [`exposition`]. No request of a client passes here, and
//! nothing here can be changed from outside.

mod exposition;
mod families;
mod gather;
mod hierarchy;
mod secured;
mod services;

use super::{
    admin::Text,
    listening::{BindError, bind_all},
    state::State,
};
use crate::io::Sharing;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sallyport_config::model::{Config, ListenAddress};
use std::{convert::Infallible, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::AbortHandle,
};

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 16;
/// How long one connection may take altogether.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// How long accepting rests where it failed.
const PAUSE: Duration = Duration::from_millis(100);
/// The text format, version 0.0.4.
const CONTENT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The listener; dropping it closes it.
#[derive(Default)]
pub(super) struct Metrics {
    address: Option<ListenAddress>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Sockets that are bound and not used yet; `None` where what is open goes on.
pub(super) type Prepared = Option<(Option<ListenAddress>, Vec<std::net::TcpListener>)>;

/// Binds what `config` wants and is not open yet. Dropping the result undoes it.
///
/// # Errors
/// Where the address cannot be had.
pub(super) fn prepare(state: &State, config: &Config) -> Result<Prepared, BindError> {
    let wanted = config.metrics.address.as_ref().map(|address| address.value);
    if state.metrics.borrow().address == wanted {
        return Ok(None);
    }
    let sockets = match wanted {
        None => Vec::new(),
        Some(address) => bind_all("`metrics.address`", address, Sharing::Nobody)?,
    };
    Ok(Some((wanted, sockets)))
}

/// Serves on prepared sockets, in place of what was open.
pub(super) fn commit(state: &Rc<State>, prepared: Prepared) {
    let Some((address, sockets)) = prepared else {
        return;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let serving = sockets
        .into_iter()
        .filter_map(|socket| match TcpListener::from_std(socket) {
            Ok(listener) => {
                let serving = serve(Rc::clone(state), listener, Arc::clone(&places));
                Some(tokio::task::spawn_local(serving).abort_handle())
            }
            Err(error) => {
                tracing::error!(%error, "metrics: a listening socket cannot be used");
                None
            }
        });
    let metrics = Metrics {
        address,
        tasks: serving.collect(),
    };
    if let Some(address) = address {
        tracing::info!(%address, "metrics are served");
    }
    *state.metrics.borrow_mut() = metrics;
}

async fn serve(state: Rc<State>, listener: TcpListener, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = Rc::clone(&state);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // Whoever asked may have gone, or may never ask.
                    let _ = tokio::time::timeout(CONNECTION_LIMIT, converse(state, stream)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "metrics: accept failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(state: Rc<State>, stream: TcpStream) -> hyper::Result<()> {
    let service = service_fn(move |request| answer(Rc::clone(&state), request));
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(state: Rc<State>, request: Request<Incoming>) -> Result<Response<Text>, Infallible> {
    let found = request.uri().path() == "/metrics";
    let mut response = match (found, request.method()) {
        (true, &Method::GET | &Method::HEAD) => {
            let mut response = Response::new(Text::new(gather::text(&state).await));
            response.headers_mut().insert(CONTENT_TYPE, CONTENT);
            response
        }
        (true, _) => {
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED);
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        (false, _) => refused(StatusCode::NOT_FOUND),
    };
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn refused(status: StatusCode) -> Response<Text> {
    let mut response = Response::new(Text::new("only `GET /metrics` is answered here\n".to_owned()));
    *response.status_mut() = status;
    response
}
