//! `errors`: pages of a service in place of answers with chosen statuses, the gateway's own included.
//!
//! What is replaced is never seen, not even where there is no page: it is what the operator wanted to hide.

use super::{Around, Next};
use crate::{
    fault::{self, Fault},
    http::{
        body::RequestBody,
        call::{AnswerBody, Answering},
    },
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        ACCEPT_RANGES, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, EXPECT,
        IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
        RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
    },
    response,
    uri::PathAndQuery,
};
use sallyport_config::model::middleware::errors;
use std::fmt::Write;

/// Fields of a request that speak of its own body, connection or cached copy, and not of the page.
const NOT_OF_THE_PAGE: [HeaderName; 15] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];
/// Fields of an answer that belong to its status: without them it would break RFC 9110 (section 15.5), or tell less.
const OF_THE_STATUS: [HeaderName; 4] = [ALLOW, CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE];
/// Fields that make of a page something to be asked for again.
const OF_A_PAGE_ALONE: [HeaderName; 3] = [ACCEPT_RANGES, ETAG, LAST_MODIFIED];

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct Errors {
    settings: errors::Errors,
}

/// What is kept of a request, for asking for its page.
struct Asked {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

/// What is kept of an answer that is replaced.
struct Replaced {
    status: StatusCode,
    headers: HeaderMap,
    fault: Option<Fault>,
}

impl Errors {
    /// Compiles it.
    pub(super) fn new(settings: errors::Errors) -> Self {
        Self { settings }
    }

    fn replaces(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.settings.status.iter().any(|range| range.contains(&status))
    }

    /// The status that the client sees.
    fn shown(&self, status: StatusCode) -> StatusCode {
        let mut rewrites = self.settings.rewrites.iter();
        let found = rewrites.find(|(from, _)| from.contains(&status.as_u16()));
        found
            .and_then(|(_, to)| StatusCode::from_u16(*to).ok())
            .unwrap_or(status)
    }

    /// The request for the page; `None` where its target would be none.
    fn request(&self, asked: Asked, status: StatusCode) -> Option<Request<RequestBody>> {
        let url = asked.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let target = self
            .settings
            .query
            .replace("{status}", self.shown(status).as_str());
        let target = target.replace("{original_status}", status.as_str());
        let target = target.replace("{url}", &escaped(url));
        let mut page = Request::new(RequestBody::Empty);
        *page.uri_mut() = Uri::from(PathAndQuery::try_from(target).ok()?);
        // A `HEAD` asks for what a `GET` would answer, without the body.
        if asked.method == Method::HEAD {
            *page.method_mut() = Method::HEAD;
        }
        *page.headers_mut() = asked.headers;
        for name in NOT_OF_THE_PAGE {
            page.headers_mut().remove(name);
        }
        Some(page)
    }

    async fn page(&self, asked: Asked, replaced: &Replaced, next: Next<'_>) -> Response<AnswerBody> {
        let request = self.request(asked, replaced.status);
        let answered = match request {
            Some(request) => next.call.aside(&self.settings.service, request).await.ok(),
            None => None,
        };
        let page = answered.filter(|page| page.status().is_success());
        let mut page = page.unwrap_or_else(|| plain(self.shown(replaced.status)));
        for name in OF_A_PAGE_ALONE {
            page.headers_mut().remove(name);
        }
        page
    }
}

impl Around for Errors {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(async move {
            let asked = Asked {
                method: request.method().clone(),
                uri: request.uri().clone(),
                headers: request.headers().clone(),
            };
            let outcome = next.run(request).await;
            let status = match &outcome {
                Ok(answer) => answer.status(),
                Err(fault) => fault.answer().0,
            };
            if !self.replaces(status) {
                return outcome;
            }
            let answer =
                outcome.unwrap_or_else(|fault| fault.into_answer().map(|body| AnswerBody::Own(Some(body))));
            // Its body ends here: the page may need the connection.
            let replaced = Replaced::of(&answer.into_parts().0);
            let mut page = self.page(asked, &replaced, next).await;
            *page.status_mut() = self.shown(status);
            replaced.mark(&mut page);
            Ok(page)
        })
    }
}

impl Replaced {
    fn of(answer: &response::Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in OF_THE_STATUS {
            for value in answer.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self {
            status: answer.status,
            headers,
            fault: fault::of_parts(answer),
        }
    }

    /// Puts on the page what belongs to what it replaces.
    fn mark(self, page: &mut Response<AnswerBody>) {
        for name in OF_THE_STATUS {
            page.headers_mut().remove(name);
        }
        page.headers_mut().extend(self.headers);
        if let Some(fault) = self.fault {
            page.extensions_mut().insert(fault);
        }
    }
}

/// An answer of ours where there is no page.
fn plain(status: StatusCode) -> Response<AnswerBody> {
    let text = status.canonical_reason().unwrap_or("error").to_lowercase() + "\n";
    let mut answer = Response::new(AnswerBody::Own(Some(Bytes::from(text))));
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

/// As a value of a query (RFC 3986 section 2.3).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _infallible = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
