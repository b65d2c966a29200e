//! What the access log is told: of a request when it has ended, of a connection that came to none.
//!
//! Where the log is off nothing is gathered.

use super::{connection::Connection, context::Context, handshakes, hop, tcp};
pub(super) use crate::access_log::Bytes as Carried;
use crate::{
    access_log::{AccessLog, Asked, Came, Chosen, Ended, Line, Shown},
    io::Instant,
    preamble::Preamble,
    telemetry::Count,
    tls::{Attempt, ClientChain, TlsReason},
    uplink::context::{ClientTls, Told},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header::HOST};
use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What is told where the client was gone before an answer was ready; nginx's number.
const CLIENT_GONE: u16 = 499;

/// A request whose line is not written yet.
pub(super) struct Pending {
    log: Arc<AccessLog>,
    time: SystemTime,
    started: Instant,
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    version: Version,
    headers: Vec<Chosen>,
    bytes_in: Rc<Cell<u64>>,
    bytes_out: u64,
    found: RefCell<Found>,
    answer: Option<Answer>,
    /// Why the body ended early.
    broken: Option<&'static str>,
}

/// What the stages found out.
#[derive(Default)]
struct Found {
    client: Option<IpAddr>,
    /// What a parent told of the client.
    told: Option<Arc<Told>>,
    user: Option<String>,
    router: Option<String>,
    service: Option<String>,
    server: Option<String>,
    upstream: Option<Duration>,
}

struct Answer {
    status: StatusCode,
    reason: Option<&'static str>,
    headers: Vec<Chosen>,
}

/// Takes notes of a request on its way, where the log is on.
#[derive(Clone, Copy)]
pub(super) struct Notes<'a>(Option<&'a Pending>);

impl Pending {
    /// A request that came at `started`; `None` where the log is off.
    pub(super) fn begin<B>(context: &Context, request: &Request<B>, started: Instant) -> Option<Box<Self>> {
        let log = context.view().snapshot.access_log.clone()?;
        let headers = log.choose(request.headers());
        Some(Box::new(Self {
            headers,
            log,
            // The header's first byte came a moment ago.
            time: SystemTime::now().checked_sub(started.elapsed())?,
            started,
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: host_of(request),
            version: request.version(),
            bytes_in: Rc::default(),
            bytes_out: 0,
            found: RefCell::default(),
            answer: None,
            broken: None,
        }))
    }

    /// The answer as it goes out; `reason` is the code of a fault.
    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap, reason: Option<&'static str>) {
        let headers = self.log.choose(headers);
        self.answer = Some(Answer {
            status,
            reason,
            headers,
        });
    }

    /// A piece of the answer's body goes out.
    pub(super) fn sent(&mut self, bytes: &Bytes) {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes_out = self.bytes_out.saturating_add(count);
    }

    /// What went both ways after HTTP was left.
    pub(super) fn carried(&mut self, carried: Carried) {
        let came = self.bytes_in.get().saturating_add(carried.came);
        self.bytes_in.set(came);
        self.bytes_out = self.bytes_out.saturating_add(carried.went);
    }

    /// The answer's body ends early.
    pub(super) fn broke(&mut self, reason: &'static str) {
        self.broken.get_or_insert(reason);
    }

    /// Nobody asks for the rest of the answer's body. It has none where none is sent.
    pub(super) fn broke_off(&mut self) {
        let bodiless = |answer: &Answer| {
            matches!(answer.status.as_u16(), 100..200 | 204 | 304) || self.method == Method::HEAD
        };
        if !self.answer.as_ref().is_some_and(bodiless) {
            self.broke("client_gone");
        }
    }

    /// Writes the line.
    pub(super) fn end(&self, connection: &Connection) {
        let found = self.found.borrow();
        let answer = self.answer.as_ref();
        let failed = answer.and_then(|answer| answer.reason).or(self.broken);
        let gone = answer.is_none().then_some("client_gone");
        let told = found.told.as_deref();
        let certificate = told.and_then(hop::chain);
        let shown = match told {
            Some(told) => told.tls.as_ref().map(|tls| told_of(tls, certificate.as_ref())),
            None => connection.tls.as_deref().map(Shown::from),
        };
        let line = Line {
            time: self.time,
            came: Came {
                client: found.client.unwrap_or(connection.client.0.ip()),
                ..came(connection)
            },
            shown,
            asked: Some(Asked {
                method: &self.method,
                uri: &self.uri,
                host: self.host.as_ref().map(HeaderValue::as_bytes),
                version: self.version,
                user: found.user.as_deref(),
                headers: &self.headers,
            }),
            ended: Ended {
                status: Some(answer.map_or(CLIENT_GONE, |answer| answer.status.as_u16())),
                reason: failed.or(gone),
                router: found.router.as_deref(),
                service: found.service.as_deref(),
                server: found.server.as_deref(),
                headers: answer.map_or(&[][..], |answer| &answer.headers),
                bytes: Some(Carried {
                    came: self.bytes_in.get(),
                    went: self.bytes_out,
                }),
                duration: self.started.elapsed(),
                upstream: found.upstream,
            },
        };
        connection.context.access.push(&self.log, &line);
    }
}

/// The client's own handshake, as a parent tells of it.
fn told_of<'a>(tls: &'a ClientTls, certificate: Option<&'a ClientChain>) -> Shown<'a> {
    Shown {
        sni: tls.sni.as_deref(),
        version: Some(tls.version),
        suite: Some(&tls.suite),
        session: None,
        client: certificate,
    }
}

fn host_of<B>(request: &Request<B>) -> Option<HeaderValue> {
    let authority = request.uri().authority();
    authority
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
        .or_else(|| request.headers().get(HOST).cloned())
}

fn came(connection: &Connection) -> Came<'_> {
    Came {
        client: connection.client.0.ip(),
        peer: connection.peer.0,
        entry: &connection.entry.name,
        asserted: connection.preamble.asserted.as_deref(),
    }
}

impl<'a> Notes<'a> {
    /// Of this request.
    pub(super) fn of(pending: Option<&'a Pending>) -> Self {
        Self(pending)
    }

    /// Whom to tell how many bytes of the body have come.
    pub(super) fn tally(self) -> Option<Rc<Cell<u64>>> {
        self.0.map(|pending| Rc::clone(&pending.bytes_in))
    }

    /// The client, where another than who connected, and what a parent told of it.
    pub(super) fn client(self, client: IpAddr, told: Option<&Arc<Told>>) {
        self.note(|found| {
            (found.client, found.told) = (Some(client), told.cloned());
            found.user = told.and_then(|told| told.user.clone());
        });
    }

    /// The user that was verified.
    pub(super) fn user(self, name: &str) {
        self.note(|found| found.user = Some(name.to_owned()));
    }

    /// The router.
    pub(super) fn router(self, name: &str) {
        self.note(|found| found.router = Some(name.to_owned()));
    }

    /// The service and its server that are asked; the last ones count.
    pub(super) fn asks(self, service: &str, server: &dyn ToString) {
        self.note(|found| {
            (found.service, found.server) = (Some(service.to_owned()), Some(server.to_string()));
        });
    }

    /// A watch for the server's answer.
    pub(super) fn clock(self) -> Option<Instant> {
        self.0.map(|_| Instant::now())
    }

    /// The header of the server's answer is there, or will not come.
    pub(super) fn answered(self, clock: Option<Instant>) {
        self.note(|found| found.upstream = clock.map(|clock| clock.elapsed()));
    }

    fn note(self, write: impl FnOnce(&mut Found)) {
        if let Some(pending) = self.0 {
            write(&mut pending.found.borrow_mut());
        }
    }
}

/// Tells of something that came to no request that could be read.
fn tell(context: &Context, came: Came<'_>, shown: Option<Shown<'_>>, status: Option<u16>, reason: &str) {
    let Some(log) = context.view().snapshot.access_log.clone() else {
        return;
    };
    let line = Line {
        time: SystemTime::now(),
        came,
        shown,
        asked: None,
        ended: Ended {
            status,
            reason: Some(reason),
            ..Ended::default()
        },
    };
    context.access.push(&log, &line);
}

/// A connection that was closed for its PROXY header.
pub(super) fn refused_preamble(context: &Context, entry: &str, peer: SocketAddr, reason: &str) {
    let came = Came {
        client: peer.ip(),
        peer,
        entry,
        asserted: None,
    };
    tell(context, came, None, None, reason);
}

/// A handshake that failed.
pub(super) fn refused_handshake(
    context: &Context,
    from: &handshakes::From<'_>,
    preamble: &Preamble,
    attempt: &Attempt,
    reason: TlsReason,
) {
    // Whoever connects and goes away, as probes of load balancers do, has begun no handshake.
    let begun = reason != TlsReason::ClientGone || attempt.version().is_some();
    if !begun || context.view().snapshot.access_log.is_none() {
        return;
    }
    let (sni, chain) = (attempt.sni(), attempt.shown());
    let shown = Shown {
        sni: sni.as_deref(),
        version: attempt.version(),
        suite: None,
        session: None,
        client: chain.as_ref(),
    };
    let came = Came {
        client: from.client.0.ip(),
        peer: from.peer.0,
        entry: from.entry,
        asserted: preamble.asserted.as_deref(),
    };
    tell(context, came, Some(shown), None, reason.code());
}

/// Bytes that are no request; `status` is what the client was answered, where it was.
pub(super) fn refused_request(connection: &Connection, status: Option<StatusCode>, reason: &str) {
    let shown = connection.tls.as_deref().map(Shown::from);
    let status = status.map(|status| status.as_u16());
    tell(&connection.context, came(connection), shown, status, reason);
}

/// A connection of a TCP router that was closed before a server had it, for this reason.
pub(super) fn refused_tcp(tcp: &tcp::Came<'_>, sni: Option<&str>, reason: Count) {
    tell(tcp.context, came_by(tcp), shown_by(tcp, sni), None, reason.code());
}

/// A tunnel that has ended, begun at `began`.
pub(super) fn tunnelled(
    tcp: &tcp::Came<'_>,
    began: Instant,
    server: &dyn ToString,
    carried: Carried,
    reason: Option<Count>,
) {
    let Some(log) = tcp.context.view().snapshot.access_log.clone() else {
        return;
    };
    let (duration, server) = (began.elapsed(), server.to_string());
    let taken = tcp.handle.tcp.get();
    let line = Line {
        time: SystemTime::now()
            .checked_sub(duration)
            .unwrap_or(SystemTime::UNIX_EPOCH),
        came: came_by(tcp),
        shown: shown_by(tcp, None),
        asked: None,
        ended: Ended {
            reason: reason.map(Count::code),
            router: taken.map(|taken| taken.router.as_str()),
            server: Some(&server),
            bytes: Some(carried),
            duration,
            ..Ended::default()
        },
    };
    tcp.context.access.push(&log, &line);
}

fn came_by<'a>(tcp: &tcp::Came<'a>) -> Came<'a> {
    Came {
        client: tcp.preamble.client.0.ip(),
        peer: tcp.handle.peer.0,
        entry: &tcp.entry.name,
        asserted: tcp.preamble.asserted.as_deref(),
    }
}

/// What our own handshake showed, else the name of a hello that was only looked at.
fn shown_by<'a>(tcp: &tcp::Came<'a>, sni: Option<&'a str>) -> Option<Shown<'a>> {
    tcp.handle.facts().map(Shown::from).or_else(|| {
        sni.map(|sni| Shown {
            sni: Some(sni),
            version: None,
            suite: None,
            session: None,
            client: None,
        })
    })
}
