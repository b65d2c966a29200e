//! Requests that ask a server to leave HTTP: each has a connection of its own, which is the client's from then on.
//!
//! Over TLS the connection is one of HTTP/1.1, whatever the pool would have agreed on, because every server that joins
//! anything joins it there. A server that is known to speak HTTP/2 alone (`h2c`) is asked by extended CONNECT (RFC
//! 8441), where it says that it takes it.

use super::{
    Behalf, Pool, Server, UpstreamBody, UpstreamFault,
    body::Http1Body,
    connect::{HTTP1_BUFFER, Reached},
    exchange::{for_http1, our_certificate},
    http2::{self, Http2Body, for_http2},
    pool::{Connection1, Http1, Sender1},
    sealing::seal,
};
use crate::{
    http::{
        body::RequestBody,
        interim,
        stream::Http2Stream,
        switch::{self, Switch},
    },
    io::{self, Transport},
    telemetry::{Count, Counters},
    tls::{self, Wanted},
};
use bytes::Bytes;
use h2::{
    client::{Connection, SendRequest},
    ext::Protocol,
};
use hyper::{Method, Request, Response, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

/// How long a server's first frames may take, which say whether it takes extended CONNECT.
const SETTINGS_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at them; the library tells nobody when they come.
const SETTINGS_LOOK: Duration = Duration::from_millis(2);

/// What a server made of a request to switch.
pub enum Switched {
    /// It did not: this is its answer.
    Answer(Response<UpstreamBody>),
    /// It did. The answer has the form that it has between the edges, a 101.
    Joined(Response<UpstreamBody>, Opened),
}

/// The way to a server that has left HTTP.
pub enum Opened {
    /// A connection, and what came on it already.
    Connection(Box<Transport>, Bytes),
    /// A stream of an HTTP/2 connection.
    Stream(Http2Stream),
}

impl Pool {
    /// Asks `server` to switch.
    ///
    /// # Errors
    /// What stood in the way, a 101 that does not answer the request included.
    pub async fn switch(
        &self,
        server: &Arc<Server>,
        mut request: Request<RequestBody>,
        switch: &Switch,
        counters: &Counters,
        behalf: Behalf<'_>,
    ) -> Result<Switched, UpstreamFault> {
        let reached = self.connector.reach(server, behalf, Wanted::Http11).await?;
        counters.add(Count::UpstreamOpened);
        if let Some(upload) = request.body().upload() {
            upload.release();
        }
        let Reached {
            transport,
            protocol,
            asked,
            sealer,
        } = reached;
        seal(sealer.as_ref(), &mut request)?;
        let answered = async {
            match protocol {
                tls::Protocol::Http11 => {
                    for_http1(&mut request);
                    let answer = over_http1(transport, request, switch, behalf).await?;
                    Ok(match answer {
                        Http1Answer::Joined(response, opened) => Switched::Joined(response, opened),
                        // Where every request to switch has a connection of its own, none is kept.
                        Http1Answer::Other(response, connection) => Switched::Answer(response.map(|body| {
                            UpstreamBody::Http1(Http1Body::new(body, connection, None, Arc::clone(server)))
                        })),
                    })
                }
                tls::Protocol::H2 => {
                    for_http2(&mut request, server);
                    over_http2(transport, request).await
                }
            }
        };
        io::timeout(server.transport.response_header, answered)
            .await
            .map_err(|_| UpstreamFault::Silent)?
            .map_err(|fault| our_certificate(fault, asked.as_ref()))
    }
}

/// What an HTTP/1.1 server made of it.
enum Http1Answer {
    Joined(Response<UpstreamBody>, Opened),
    Other(Response<hyper::body::Incoming>, Http1),
}

async fn over_http1(
    transport: Transport,
    mut request: Request<RequestBody>,
    switch: &Switch,
    behalf: Behalf<'_>,
) -> Result<Http1Answer, UpstreamFault> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| UpstreamFault::NoRandom)?;
    let key = switch::ask_http1(request.headers_mut(), switch, || switch::key_of(random));
    if behalf.takes_interim() {
        interim::wanted(&mut request);
    }
    let (mut sender, mut connection): (Sender1, Connection1) = http1::Builder::new()
        .max_buf_size(HTTP1_BUFFER)
        .handshake(TokioIo::new(transport))
        .await?;
    let mut ended = false;
    let response = {
        let mut answer = pin!(sender.send_request(request));
        poll_fn(|cx| {
            ended = ended || connection.poll_without_shutdown(cx).is_ready();
            if let Some(came) = interim::take() {
                behalf.interim(came.others);
            }
            answer.as_mut().poll(cx)
        })
        .await?
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Http1Answer::Other(response, Http1::new(sender, connection, None)));
    }
    let (mut parts, _) = response.into_parts();
    switch::answered_http1(&mut parts.headers, switch, key.as_ref()).map_err(UpstreamFault::NotJoined)?;
    if !ended {
        poll_fn(|cx| connection.poll_without_shutdown(cx)).await?;
    }
    let left = connection.into_parts();
    let opened = Opened::Connection(Box::new(left.io.into_inner()), left.read_buf);
    Ok(Http1Answer::Joined(
        Response::from_parts(parts, UpstreamBody::Empty),
        opened,
    ))
}

async fn over_http2(
    transport: Transport,
    mut request: Request<RequestBody>,
) -> Result<Switched, UpstreamFault> {
    let (mut sender, connection) = http2::begin(transport).await?;
    let connection = until_settled(&sender, connection).await?;
    http2::run(connection);
    let key = switch::ask_http2(request.headers_mut());
    *request.method_mut() = Method::CONNECT;
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let (answer, send) = sender.send_request(request.map(|_| ()), false)?;
    let (mut head, receive) = answer.await?.into_parts();
    if head.status != StatusCode::OK {
        let body = Http2Body::of(receive, &head.headers);
        let response = Response::from_parts(head, UpstreamBody::Http2(body));
        return Ok(Switched::Answer(response));
    }
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    switch::answered_http2(&mut head.headers, key.as_ref());
    let opened = Opened::Stream(Http2Stream::new(send, receive));
    Ok(Switched::Joined(
        Response::from_parts(head, UpstreamBody::Empty),
        opened,
    ))
}

/// Drives a connection until its server has said that it takes extended CONNECT.
async fn until_settled(
    sender: &SendRequest<Bytes>,
    mut connection: Connection<Transport, Bytes>,
) -> Result<Connection<Transport, Bytes>, UpstreamFault> {
    let mut look = Box::pin(io::sleep(SETTINGS_LOOK));
    let settled = poll_fn(|cx| {
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(Err(UpstreamFault::NoExtendedConnect));
        }
        while !sender.is_extended_connect_protocol_enabled() {
            if look.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            look.as_mut().reset(io::Instant::now() + SETTINGS_LOOK);
        }
        Poll::Ready(Ok(()))
    });
    let settled = io::timeout(Some(SETTINGS_LIMIT), settled).await;
    settled.map_err(|_| UpstreamFault::NoExtendedConnect)??;
    Ok(connection)
}
