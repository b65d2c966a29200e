//! `headers`: fields that are set or taken away, CORS, and what tells browsers to be careful.
//!
//! Answers that the gateway makes itself are changed too. It must not know what a page is for: an origin is let in by its name
//! alone.

use super::{Around, Facts, Head, Middleware, Next, Pass};
use crate::{
    fault::Fault,
    http::{
        body::RequestBody,
        call::{AnswerBody, Answering},
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN, STRICT_TRANSPORT_SECURITY, VARY,
    },
    request::Parts,
};
use sallyport_config::model::middleware::headers;

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A change of one field; `None` takes it away.
type Change = (HeaderName, Option<HeaderValue>);

/// What happens to requests alone.
#[derive(Debug)]
struct ToRequests {
    name: String,
    changes: Vec<Change>,
    hosts: Option<headers::Hosts>,
}

/// What happens to requests and their answers.
#[derive(Debug)]
struct ToBoth {
    requests: ToRequests,
    changes: Vec<Change>,
    strict_transport: Option<StrictTransport>,
    cors: Option<Cors>,
}

#[derive(Debug)]
struct StrictTransport {
    value: HeaderValue,
    force: bool,
    secure_by: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug)]
struct Cors {
    origins: Vec<headers::Origin>,
    credentials: bool,
    headers: Option<HeaderValue>,
    methods: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    vary: bool,
}

/// Compiles it: what leaves answers alone costs them nothing.
pub(super) fn compile(name: &str, settings: &headers::Headers) -> Middleware {
    let requests = ToRequests {
        name: name.to_owned(),
        changes: changes(&settings.request),
        hosts: settings.hosts.clone(),
    };
    let both = ToBoth {
        requests,
        changes: [changes(&settings.security), changes(&settings.response)].concat(),
        strict_transport: settings.strict_transport.as_ref().and_then(StrictTransport::new),
        cors: settings.cors.as_ref().map(Cors::new),
    };
    if both.changes.is_empty() && both.strict_transport.is_none() && both.cors.is_none() {
        Middleware::Head(Box::new(both.requests))
    } else {
        Middleware::Around(Box::new(both))
    }
}

/// Names and values were read as such.
fn changes(configured: &[headers::Change]) -> Vec<Change> {
    let change = |change: &headers::Change| {
        let value = change.value.as_ref().map(|value| HeaderValue::from_str(value));
        Some((HeaderName::try_from(&*change.name).ok()?, value.transpose().ok()?))
    };
    configured.iter().filter_map(change).collect()
}

fn apply(changes: &[Change], headers: &mut HeaderMap) {
    for (name, value) in changes {
        match value {
            Some(value) => headers.insert(name, value.clone()),
            None => headers.remove(name),
        };
    }
}

impl ToRequests {
    fn judge_host(&self, headers: &HeaderMap, facts: &Facts<'_>) -> Result<(), Fault> {
        let Some(hosts) = &self.hosts else {
            return Ok(());
        };
        let forwarded = headers.get(FORWARDED_HOST).filter(|_| hosts.forwarded);
        let asked = forwarded
            .or_else(|| headers.get(HOST))
            .and_then(|host| host.to_str().ok());
        let asked = asked.unwrap_or_default().to_ascii_lowercase();
        let name = asked.rsplit_once(':').map_or(&*asked, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name);
        if hosts.allowed.iter().any(|allowed| allowed == name) {
            return Ok(());
        }
        let (client, middleware) = (facts.client, self.name.as_str());
        tracing::debug!(%client, middleware, "host refused");
        Err(Fault::HostForbidden)
    }
}

impl Head for ToRequests {
    fn pass(&self, head: &mut Parts, facts: &Facts<'_>) -> Result<Pass, Fault> {
        self.judge_host(&head.headers, facts)?;
        apply(&self.changes, &mut head.headers);
        Ok(Pass::On)
    }
}

impl Around for ToBoth {
    fn call<'a>(&'a self, mut request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(async move {
            self.requests.judge_host(request.headers(), &next.facts)?;
            if let Some(answer) = self.cors.as_ref().and_then(|cors| cors.preflight(&request)) {
                return Ok(answer);
            }
            let secure = self
                .strict_transport
                .as_ref()
                .filter(|strict| strict.applies(request.headers()));
            let origin = request
                .headers()
                .get(ORIGIN)
                .filter(|_| self.cors.is_some())
                .cloned();
            apply(&self.requests.changes, request.headers_mut());
            let answer = next.run(request).await;
            let mut answer =
                answer.unwrap_or_else(|fault| fault.into_answer().map(|body| AnswerBody::Own(Some(body))));
            let headers = answer.headers_mut();
            if let Some(strict) = secure {
                headers.insert(STRICT_TRANSPORT_SECURITY, strict.value.clone());
            }
            apply(&self.changes, headers);
            if let Some(cors) = &self.cors {
                cors.mark(headers, origin.as_ref());
            }
            Ok(answer)
        })
    }
}

impl StrictTransport {
    fn new(settings: &headers::StrictTransport) -> Option<Self> {
        let by = settings.secure_by.iter();
        let by = by.filter_map(|(name, value)| {
            Some((
                HeaderName::try_from(&**name).ok()?,
                HeaderValue::from_str(value).ok()?,
            ))
        });
        Some(Self {
            value: HeaderValue::from_str(&settings.value).ok()?,
            force: settings.force,
            secure_by: by.collect(),
        })
    }

    /// Whether the client asked by TLS; RFC 6797 section 7.2 forbids the field elsewhere.
    fn applies(&self, headers: &HeaderMap) -> bool {
        let tells = |(name, value): &(HeaderName, HeaderValue)| headers.get(name) == Some(value);
        self.force
            || headers
                .get(PROTO)
                .is_some_and(|proto| proto == "https" || proto == "wss")
            || self.secure_by.iter().any(tells)
    }
}

impl Cors {
    fn new(settings: &headers::Cors) -> Self {
        let list = |words: &[String]| {
            let joined = (!words.is_empty()).then(|| words.join(", "))?;
            HeaderValue::from_str(&joined).ok()
        };
        Self {
            origins: settings.origins.clone(),
            credentials: settings.credentials,
            headers: list(&settings.headers),
            methods: list(&settings.methods),
            exposed: list(&settings.exposed),
            max_age: settings.max_age.map(HeaderValue::from),
            vary: settings.vary,
        }
    }

    /// What an origin is told, where it is let in.
    fn allows(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?;
        let mut origins = self.origins.iter();
        origins.find_map(|allowed| match allowed {
            headers::Origin::Any => Some(HeaderValue::from_static("*")),
            headers::Origin::Exact(exact) => exact.eq_ignore_ascii_case(text).then(|| origin.clone()),
            headers::Origin::Matching(pattern) => pattern.is_in(text).then(|| origin.clone()),
        })
    }

    /// The answer to a browser that asks before it asks.
    fn preflight(&self, request: &Request<RequestBody>) -> Option<Response<AnswerBody>> {
        let headers = request.headers();
        let origin = headers.get(ORIGIN)?;
        if request.method() != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut answer = Response::new(AnswerBody::Own(Some(Bytes::new())));
        self.mark_origin(answer.headers_mut(), Some(origin));
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (ACCESS_CONTROL_MAX_AGE, &self.max_age),
        ] {
            if let Some(value) = value {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        Some(answer)
    }

    /// Says in an answer who may read it. What the server said of it goes: this is the one place where that is decided.
    fn mark(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        self.mark_origin(headers, origin);
        if let Some(exposed) = &self.exposed {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
    }

    fn mark_origin(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        if let Some(allowed) = origin.and_then(|origin| self.allows(origin)) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            if self.credentials {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
        if self.vary && !varies_with_origin(headers) {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
    }
}

fn varies_with_origin(headers: &HeaderMap) -> bool {
    let lists = headers
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut words = lists.flat_map(|list| list.split(',')).map(str::trim);
    words.any(|word| word == "*" || word.eq_ignore_ascii_case("origin"))
}
