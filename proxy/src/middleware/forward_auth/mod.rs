//! `forward_auth`: another server says who may pass.
//!
//! Closed where in doubt: a server that does not answer, answers too much or too late lets nobody in. What it may set on the
//! request nobody else can: those fields are taken off what the client sent, in every spelling, before its word is written.

mod ask;
mod gather;

use super::{Around, Making, Next};
use crate::{
    fault::Fault,
    http::{
        body::RequestBody,
        call::{AnswerBody, Answering},
    },
    io,
};
use ask::Fields;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, HOST, LOCATION, SET_COOKIE},
    request::Parts,
};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{
        ServiceRef,
        middleware::forward_auth::{self, SERVICE_SUFFIX},
    },
};

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct ForwardAuth {
    settings: forward_auth::ForwardAuth,
    service: ServiceRef,
    target: http::Uri,
    /// Which fields of the request go to the server.
    asked: Fields,
    /// Which fields of its answer go on.
    granted: Fields,
}

/// What the server says.
struct Word {
    answer: Response<Bytes>,
    /// The request's body, where the server got it too.
    body: RequestBody,
}

impl ForwardAuth {
    /// Compiles it.
    ///
    /// # Errors
    /// Where its target or its pattern is none, which reading the configuration should have said.
    pub(super) fn new(
        name: &str,
        settings: &forward_auth::ForwardAuth,
        making: Making<'_>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let broken = |what: &str| {
            let at = making
                .config
                .entry_points
                .values()
                .next()
                .map(|point| point.address_at.clone());
            let at = at.unwrap_or_else(|| sallyport_config::diagnostic::Location::start_of(""));
            let message = format!(
                "`middlewares.{name}.forward_auth`: its {what} cannot be used; the configuration is refused; write it anew"
            );
            vec![Diagnostic { at, message }]
        };
        Ok(Self {
            service: ServiceRef::Local(format!("{name}{SERVICE_SUFFIX}")),
            target: settings.target.parse().map_err(|_| broken("address"))?,
            asked: Fields::of_request(&settings.request_headers),
            granted: Fields::of_answer(
                &settings.response_headers,
                settings.response_headers_regex.as_deref(),
            )
            .map_err(|_| broken("regular expression"))?,
            settings: settings.clone(),
        })
    }

    async fn run(
        &self,
        request: Request<RequestBody>,
        next: Next<'_>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let (mut head, body) = request.into_parts();
        let asking = Box::pin(self.ask(&head, body, next));
        let word = io::timeout(Some(self.settings.timeout), asking).await;
        let Word { mut answer, body } = word.map_err(|_| Fault::UpstreamSilent)??;
        if !answer.status().is_success() {
            return Ok(self.refusal(answer));
        }
        self.granted.grant(answer.headers(), &mut head.headers);
        let cookies = self.cookies(answer.headers_mut());
        let mut answer = next.run(Request::from_parts(head, body)).await?;
        for cookie in cookies {
            answer.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(answer)
    }

    /// Asks the server and reads its whole answer.
    async fn ask(&self, head: &Parts, body: RequestBody, next: Next<'_>) -> Result<Word, Fault> {
        let (sent, kept) = match self.settings.body_bytes_max {
            None => (RequestBody::Empty, body),
            Some(most) => {
                let whole = gather::request(body, most).await?;
                let again = || match whole.is_empty() {
                    true => RequestBody::Empty,
                    false => RequestBody::Whole(Some(whole.clone())),
                };
                (again(), again())
            }
        };
        let length = http_body::Body::size_hint(&sent)
            .exact()
            .filter(|length| *length > 0);
        let asking = self.asking(head, length).map(|()| sent);
        let answer = next.call.aside(&self.service, asking).await?;
        let (head, body) = answer.into_parts();
        let body = gather::answer(body, self.settings.answer_bytes_max).await?;
        Ok(Word {
            answer: Response::from_parts(head, body),
            body: kept,
        })
    }

    /// The header section that the server gets.
    fn asking(&self, head: &Parts, length: Option<u64>) -> Request<()> {
        let mut asking = Request::new(());
        *asking.uri_mut() = self.target.clone();
        if self.settings.preserve_request_method {
            asking.method_mut().clone_from(&head.method);
        }
        let headers = asking.headers_mut();
        *headers = self.asked.copy(&head.headers);
        for name in [HOST, CONTENT_LENGTH] {
            headers.remove(name);
        }
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        ask::tell(headers, head, self.settings.trust_forward_header);
        asking
    }

    /// The server's word goes to the client.
    fn refusal(&self, answer: Response<Bytes>) -> Response<AnswerBody> {
        let (mut head, body) = answer.into_parts();
        head.headers.remove(CONTENT_LENGTH);
        if !self.settings.preserve_location_header {
            self.resolve_location(&mut head.headers);
        }
        let signin = self.settings.signin_url.as_deref();
        let signin = signin.and_then(|url| HeaderValue::from_str(url).ok());
        let mut answer = match signin.filter(|_| head.status == StatusCode::UNAUTHORIZED) {
            None => Response::from_parts(head, AnswerBody::Own(Some(body))),
            Some(url) => {
                let mut answer = Response::new(AnswerBody::Own(Some(Bytes::new())));
                *answer.status_mut() = StatusCode::FOUND;
                answer.headers_mut().insert(LOCATION, url);
                answer
            }
        };
        let fault = Fault::AuthRefused(answer.status());
        answer.extensions_mut().insert(fault);
        answer
    }

    /// A path of the server is one of its own address, not of the host that the client asked for.
    fn resolve_location(&self, headers: &mut HeaderMap) {
        let Some(path) = headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
            return;
        };
        if path.starts_with('/') && !path.starts_with("//") {
            let whole = HeaderValue::from_str(&format!("{}{path}", self.settings.server));
            if let Ok(whole) = whole {
                headers.insert(LOCATION, whole);
            }
        }
    }

    /// The cookies that the client gets.
    fn cookies(&self, headers: &mut HeaderMap) -> Vec<HeaderValue> {
        let wanted = |value: &&HeaderValue| {
            let text = value.to_str().unwrap_or_default();
            let name = text.split('=').next().unwrap_or_default().trim();
            self.settings.cookies.iter().any(|cookie| cookie == name)
        };
        headers
            .get_all(SET_COOKIE)
            .iter()
            .filter(wanted)
            .cloned()
            .collect()
    }
}

impl Around for ForwardAuth {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(self.run(request, next))
    }
}

/// Every spelling of a field that some server takes for the same.
fn folded(name: &HeaderName) -> String {
    name.as_str()
        .chars()
        .map(|sign| if matches!(sign, '_' | '.') { '-' } else { sign })
        .collect()
}

#[cfg(test)]
mod tests;
