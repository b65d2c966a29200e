//! The admin socket: HTTP over a Unix socket, for `sallyport status`, `sallyport reload` and curl.
//!
//! Whoever may open the socket may ask; its directory and mode decide who that is. Requests are bounded in
//! size, time and number.

use super::{RunError, reload, state::State, status};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HOST, HeaderValue},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sallyport_config::diagnostic::Diagnostic;
use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 16;
/// How long one connection may take altogether.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// The largest answer that the command line reads.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The listening admin socket; dropping it removes the file.
pub(super) struct Admin {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
        // It may be gone already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the admin socket.
///
/// # Errors
/// Where its path cannot be used.
pub(super) fn listen(state: &Rc<State>) -> Result<Admin, RunError> {
    let path = state.config().admin.socket;
    let failed = |source| RunError::Admin {
        path: path.clone(),
        source,
    };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    remove_stale(&path).map_err(failed)?;
    let listener = UnixListener::bind(&path).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
    let task = tokio::task::spawn_local(serve(Rc::clone(state), listener));
    Ok(Admin { path, task })
}

/// Removes a socket that nobody listens on; one that answers belongs to a running gateway, and what is no socket
/// to somebody else.
fn remove_stale(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is no socket is there",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another gateway answers there",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

async fn serve(state: Rc<State>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = Rc::clone(&state);
                tokio::task::spawn_local(async move {
                    let _place = place;
                    let service = service_fn(move |request| answer(Rc::clone(&state), request));
                    let http = hyper::server::conn::http1::Builder::new()
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), service);
                    // Whoever asked may have gone.
                    let _ = tokio::time::timeout(CONNECTION_LIMIT, http).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "admin socket: accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(state: Rc<State>, request: Request<Incoming>) -> Result<Response<Text>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/api/status") => json(StatusCode::OK, &status::status(&state).await),
        (&Method::POST, "/api/reload") => match reload::reload(&state).await {
            Ok(generation) => json(StatusCode::OK, &serde_json::json!({ "generation": generation })),
            Err(problems) => {
                let lines: Vec<String> = problems.iter().map(Diagnostic::to_string).collect();
                json(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    &serde_json::json!({ "diagnostics": lines }),
                )
            }
        },
        _ => json(
            StatusCode::NOT_FOUND,
            &serde_json::json!({ "error": "not found" }),
        ),
    };
    let mut response = Response::new(Text(Some(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn json(status: StatusCode, document: &impl serde::Serialize) -> (StatusCode, Bytes) {
    match serde_json::to_vec_pretty(document) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, body.into())
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Bytes::new()),
    }
}

/// A body in one piece.
pub(super) struct Text(Option<Bytes>);

impl Text {
    /// A body that is `text`.
    pub(super) fn new(text: String) -> Self {
        Self(Some(text.into()))
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

/// Why a running gateway cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or not for us.
    #[error("no gateway answers on `{}`; start `sallyport run`, or name its configuration with `--config`", path.display())]
    Connect {
        /// The admin socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("the gateway's answer broke off")]
    Http(#[from] hyper::Error),
    /// What came is not what this version expects.
    #[error("the gateway's answer is not understood: {0}")]
    Answer(String),
    /// The new configuration was refused.
    #[error("the configuration was refused; the old one goes on")]
    Refused(Vec<String>),
}

/// Asks a running gateway for its status, as JSON.
///
/// # Errors
/// Where none answers.
pub fn ask(socket: &Path) -> Result<serde_json::Value, AskError> {
    let (_, body) = call(socket, Method::GET, "/api/status")?;
    serde_json::from_slice(&body).map_err(|error| AskError::Answer(error.to_string()))
}

/// Tells a running gateway to reload.
///
/// # Errors
/// Where none answers, or the configuration is refused.
pub fn reload(socket: &Path) -> Result<serde_json::Value, AskError> {
    let (status, body) = call(socket, Method::POST, "/api/reload")?;
    let answer: serde_json::Value =
        serde_json::from_slice(&body).map_err(|error| AskError::Answer(error.to_string()))?;
    if status == StatusCode::OK {
        return Ok(answer);
    }
    let lines = answer
        .get("diagnostics")
        .and_then(serde_json::Value::as_array)
        .cloned()
        .unwrap_or_default();
    Err(AskError::Refused(
        lines
            .iter()
            .filter_map(|line| line.as_str().map(str::to_owned))
            .collect(),
    ))
}

fn call(socket: &Path, method: Method, path: &'static str) -> Result<(StatusCode, Bytes), AskError> {
    let failed = |source| AskError::Connect {
        path: socket.to_owned(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.map_err(failed)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::new(Text(None));
        *request.method_mut() = method;
        *request.uri_mut() = hyper::Uri::from_static(path);
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_static("localhost"));
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let mut body = response.into_body();
            let mut bytes = BytesMut::new();
            while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                bytes.extend_from_slice(&frame?.into_data().unwrap_or_default());
                if bytes.len() > ANSWER_BYTES_MAX {
                    return Err(AskError::Answer(format!(
                        "it is larger than {ANSWER_BYTES_MAX} bytes"
                    )));
                }
            }
            Ok((status, bytes.freeze()))
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    })
}
