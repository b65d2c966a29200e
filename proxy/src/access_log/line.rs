//! A line and its two forms. Pure: facts in, text out.

use super::{
    Chosen,
    text::{Moment, Object, lossy, quoted, unquoted, word},
};
use crate::{
    preamble::Asserted,
    tls::{ClientChain, Facts, Session, Standing},
};
use http::{HeaderName, Method, Uri, Version, header::REFERER, header::USER_AGENT};
use sallyport_config::model::access_log::FieldRule;
use std::{
    borrow::Cow,
    fmt::Write,
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

/// What stands for a value that is not told.
const REDACTED: &str = "REDACTED";
/// Header fields that one line tells of, in bytes of names and values before escaping; the rest is left out.
const FIELDS_BYTES_MAX: usize = 16 * 1024;

/// All that a line tells.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// When it began.
    pub time: SystemTime,
    /// Where it came from.
    pub came: Came<'a>,
    /// What the handshake showed, also of one that failed.
    pub shown: Option<Shown<'a>>,
    /// The request; `None` where there was none.
    pub asked: Option<Asked<'a>>,
    /// How it ended.
    pub ended: Ended<'a>,
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug)]
pub struct Came<'a> {
    /// The client, as far as it is known.
    pub client: IpAddr,
    /// The socket's peer.
    pub peer: SocketAddr,
    /// The entry point.
    pub entry: &'a str,
    /// What a trusted PROXY header says beside the address.
    pub asserted: Option<&'a Asserted>,
}

/// What a TLS handshake showed.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The server name.
    pub sni: Option<&'a str>,
    /// The version.
    pub version: Option<&'a str>,
    /// The suite.
    pub suite: Option<&'a str>,
    /// Whether the session was resumed; `None` where the handshake failed.
    pub session: Option<Session>,
    /// The client's certificate.
    pub client: Option<&'a ClientChain>,
}

impl<'a> From<&'a Facts> for Shown<'a> {
    fn from(facts: &'a Facts) -> Self {
        Self {
            sni: facts.sni.as_deref(),
            version: Some(facts.version),
            suite: Some(facts.suite),
            session: Some(facts.session),
            client: facts.shown.as_deref(),
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target as it came.
    pub uri: &'a Uri,
    /// Its host as it came.
    pub host: Option<&'a [u8]>,
    /// Its protocol.
    pub version: Version,
    /// The user that a middleware verified; never what a client merely claims.
    pub user: Option<&'a str>,
    /// Fields that are told of.
    pub headers: &'a [Chosen],
}

/// How a request or connection ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended<'a> {
    /// The status; 499 where the client was gone before one was sent, `None` where nothing was asked.
    pub status: Option<u16>,
    /// The code of what went wrong.
    pub reason: Option<&'a str>,
    /// The router.
    pub router: Option<&'a str>,
    /// The service.
    pub service: Option<&'a str>,
    /// The server.
    pub server: Option<&'a str>,
    /// Fields of the answer that are told of.
    pub headers: &'a [Chosen],
    /// Bytes of the bodies, or of a tunnel; `None` where there were none of either.
    pub bytes: Option<Bytes>,
    /// From its first byte to the end of the answer.
    pub duration: Duration,
    /// From the request sent to the header of the server's answer.
    pub upstream: Option<Duration>,
}

/// Bytes that were carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the client.
    pub came: u64,
    /// To the client.
    pub went: u64,
}

impl Line<'_> {
    /// One JSON object and a line end.
    pub(super) fn json(&self, query: FieldRule) -> String {
        let mut text = String::with_capacity(512);
        let mut object = Object::open(&mut text);
        object.text("time", &Moment::of(self.time).rfc3339());
        let event = if self.asked.is_some() || self.ended.status.is_some() {
            "request"
        } else {
            "connection"
        };
        object.text("event", event);
        self.came.write(&mut object);
        if let Some(asked) = &self.asked {
            asked.write(&mut object, query);
        }
        self.ended.write(&mut object);
        if let Some(shown) = &self.shown {
            shown.write(&mut object);
        }
        if let Some(asserted) = self.came.asserted {
            object.object("proxy_asserted", |object| {
                for (name, value) in asserted.said() {
                    object.text(name, &value);
                }
            });
        }
        let asked = self.asked.map_or(&[][..], |asked| asked.headers);
        for (key, headers) in [
            ("request_headers", asked),
            ("response_headers", self.ended.headers),
        ] {
            if !headers.is_empty() {
                fields(&mut object, key, headers);
            }
        }
        if !object.whole {
            object.flag("truncated", true);
        }
        object.close();
        text.push('\n');
        text
    }

    /// The common log format, behind it what Traefik puts there: referrer, user agent, in place of a number the
    /// reason, router, server, milliseconds.
    pub(super) fn common(&self, query: FieldRule) -> String {
        let mut text = String::with_capacity(256);
        let _ = write!(text, "{} - ", self.came.client.to_canonical());
        word(&mut text, self.asked.and_then(|asked| asked.user));
        let _ = write!(text, " [{}] ", Moment::of(self.time).common());
        match &self.asked {
            Some(asked) => asked.request_line(&mut text, query),
            None => text.push_str("\"-\""),
        }
        let went = self.ended.bytes.map(|bytes| bytes.went);
        match (self.ended.status, went) {
            (Some(status), went) => {
                let _ = write!(text, " {status:03} {} ", went.unwrap_or(0));
            }
            (None, Some(went)) => {
                let _ = write!(text, " - {went} ");
            }
            (None, None) => text.push_str(" - - "),
        }
        let headers = self.asked.map_or(&[][..], |asked| asked.headers);
        for name in [&REFERER, &USER_AGENT] {
            quoted(&mut text, value_of(headers, name).as_deref());
            text.push(' ');
        }
        text.push_str(self.ended.reason.unwrap_or("-"));
        text.push(' ');
        quoted(&mut text, self.ended.router);
        text.push(' ');
        quoted(&mut text, self.ended.server);
        let _ = writeln!(text, " {}ms", self.ended.duration.as_millis());
        text
    }
}

impl Came<'_> {
    fn write(&self, object: &mut Object<'_>) {
        object.text("client", &self.client.to_canonical().to_string());
        object.text("peer", &self.peer.to_string());
        object.text("entry_point", self.entry);
    }
}

impl Asked<'_> {
    fn write(&self, object: &mut Object<'_>, query: FieldRule) {
        object.text("method", self.method.as_str());
        object.maybe("host", self.host.map(lossy).as_deref());
        object.text("path", self.path());
        object.maybe("query", self.query(query));
        object.text("protocol", protocol(self.version));
        object.maybe("user", self.user);
    }

    /// `CONNECT` has an authority in place of a path.
    fn path(&self) -> &str {
        match (self.uri.path(), self.uri.authority()) {
            ("", Some(authority)) => authority.as_str(),
            (path, _) => path,
        }
    }

    fn query(&self, rule: FieldRule) -> Option<&str> {
        let query = self.uri.query()?;
        match rule {
            FieldRule::Keep => Some(query),
            FieldRule::Redact => Some(REDACTED),
            FieldRule::Drop => None,
        }
    }

    fn request_line(&self, text: &mut String, query: FieldRule) {
        let cut = |value| super::text::cut(value).text;
        text.push('"');
        unquoted(text, cut(self.method.as_str()));
        text.push(' ');
        unquoted(text, cut(self.path()));
        if let Some(query) = self.query(query) {
            text.push('?');
            unquoted(text, cut(query));
        }
        text.push(' ');
        text.push_str(protocol(self.version));
        text.push('"');
    }
}

impl Ended<'_> {
    fn write(&self, object: &mut Object<'_>) {
        if let Some(status) = self.status {
            object.number("status", status.into());
        }
        if let Some(bytes) = self.bytes {
            object.number("bytes_in", bytes.came);
            object.number("bytes_out", bytes.went);
        }
        object.maybe("reason", self.reason);
        object.maybe("router", self.router);
        object.maybe("service", self.service);
        object.maybe("server", self.server);
        object.number("duration_us", microseconds(self.duration));
        if let Some(upstream) = self.upstream {
            object.number("upstream_duration_us", microseconds(upstream));
        }
    }
}

impl Shown<'_> {
    fn write(&self, object: &mut Object<'_>) {
        object.maybe("tls_version", self.version);
        object.maybe("tls_suite", self.suite);
        object.maybe("tls_sni", self.sni);
        if let Some(session) = self.session {
            object.flag("tls_resumed", session == Session::Resumed);
        }
        let Some(client) = self.client else { return };
        object.flag("tls_client_verified", client.standing == Standing::Verified);
        let Some(identity) = &client.identity else { return };
        object.text("tls_client_subject", &identity.subject);
        object.text("tls_client_issuer", &identity.issuer);
        object.text("tls_client_serial", &identity.serial);
        object.text("tls_client_fingerprint", &identity.fingerprint);
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn shown((_, value): &Chosen) -> Cow<'_, str> {
    value
        .as_ref()
        .map_or(Cow::Borrowed(REDACTED), |value| lossy(value.as_bytes()))
}

fn value_of<'h>(headers: &'h [Chosen], name: &HeaderName) -> Option<Cow<'h, str>> {
    headers.iter().find(|(given, _)| given == name).map(shown)
}

/// Fields by name, one object inside the other, so that none is taken for one of ours.
fn fields(object: &mut Object<'_>, key: &str, headers: &[Chosen]) {
    object.object(key, |inner| {
        let mut room = FIELDS_BYTES_MAX;
        let mut rest = headers;
        while let Some((name, _)) = rest.first() {
            let same = rest.iter().take_while(|(other, _)| other == name).count();
            let (group, behind) = rest.split_at(same);
            rest = behind;
            let values: Vec<Cow<'_, str>> = group.iter().map(shown).collect();
            let bytes = values
                .iter()
                .map(|value| value.len())
                .fold(name.as_str().len(), usize::saturating_add);
            let Some(left) = room.checked_sub(bytes) else {
                inner.whole = false;
                return;
            };
            room = left;
            inner.list(name.as_str(), &values);
        }
    });
}

#[cfg(test)]
mod tests;
