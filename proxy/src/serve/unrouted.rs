//! What is answered without a route: a redirect of the whole entry point, or that there is nothing.
//!
//! The entry point's middlewares stand before it as they stand before every route, so that what they forbid is not told
//! by a redirect or by a 404.

use super::{access::Notes, request::Outcome};
use crate::{
    fault::Fault,
    http::{
        authority::Authority,
        body::RequestBody,
        call::{AnswerBody, Answering, Call},
        target::Target,
    },
    middleware::{Chain, Facts, Next},
    snapshot::Entry,
};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, LOCATION},
    request::Parts,
};
use sallyport_config::model::{
    ServiceRef,
    limits::{Redirect, RedirectScheme},
};
use std::future;

/// The end of the way of a request that has no route.
#[derive(Debug)]
pub(super) enum Unrouted {
    /// It is sent elsewhere.
    Elsewhere(StatusCode, HeaderValue),
    /// There is nothing.
    Nowhere,
}

impl Unrouted {
    /// Where `redirect` sends a request.
    ///
    /// # Errors
    /// Where it names no host.
    pub(super) fn elsewhere(
        redirect: &Redirect,
        method: &Method,
        authority: &Authority<'_>,
        target: &Target<'_>,
    ) -> Result<Self, Fault> {
        let location = location(redirect, authority, target).ok_or(Fault::BadRequest)?;
        // Whatever is no GET must be asked again as it was asked (RFC 9110 section 15.4.9).
        let status = match (*method == Method::GET, redirect.permanent) {
            (true, true) => StatusCode::MOVED_PERMANENTLY,
            (true, false) => StatusCode::FOUND,
            (false, true) => StatusCode::PERMANENT_REDIRECT,
            (false, false) => StatusCode::TEMPORARY_REDIRECT,
        };
        Ok(Self::Elsewhere(status, location))
    }

    /// Takes the request through the middlewares of `entry`. Cancelling gives it up.
    ///
    /// # Errors
    /// What the client is told instead.
    pub(super) async fn answer(
        self,
        entry: &Entry,
        facts: Facts<'_>,
        notes: Notes<'_>,
        (parts, body): (Parts, RequestBody),
    ) -> Result<Outcome, Fault> {
        // Nobody is asked.
        let service = ServiceRef::Local(String::new());
        let next = Next {
            chain: Chain::new(&entry.middlewares, &[]),
            facts,
            service: &service,
            call: &End {
                unrouted: &self,
                notes,
            },
        };
        let answer = next.run(Request::from_parts(parts, body)).await;
        answer.map(Outcome::Through)
    }
}

/// What the middlewares find at the end of their chain.
struct End<'a> {
    unrouted: &'a Unrouted,
    notes: Notes<'a>,
}

impl Call for End<'_> {
    fn call<'a>(&'a self, _service: &'a ServiceRef, _request: Request<RequestBody>) -> Answering<'a> {
        Box::pin(future::ready(match self.unrouted {
            Unrouted::Nowhere => Err(Fault::NotFound),
            Unrouted::Elsewhere(status, location) => {
                let mut response = Response::new(AnswerBody::Own(Some(Bytes::new())));
                *response.status_mut() = *status;
                let headers = response.headers_mut();
                headers.insert(LOCATION, location.clone());
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                Ok(response)
            }
        }))
    }

    fn user(&self, name: &str) {
        self.notes.user(name);
    }
}

/// The URL of the same target there; the host is the client's word, and nothing of it but a host's characters got here.
fn location(redirect: &Redirect, authority: &Authority<'_>, target: &Target<'_>) -> Option<HeaderValue> {
    let (scheme, usual) = match redirect.scheme {
        RedirectScheme::Http => ("http", 80),
        RedirectScheme::Https => ("https", 443),
    };
    if authority.host.is_empty() {
        return None;
    }
    let mut location = format!("{scheme}://{}", authority.host);
    if redirect.port != usual {
        location = format!("{location}:{}", redirect.port);
    }
    // `*` is no path of a URL.
    location.push_str(if target.path == "*" { "/" } else { &target.path });
    if let Some(query) = target.query {
        location = format!("{location}?{query}");
    }
    HeaderValue::try_from(location).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sallyport_config::model::encoded::EncodedCharacters;

    fn check(scheme: RedirectScheme, port: u16, host: &str, path: &str, query: Option<&str>, expected: &str) {
        let redirect = Redirect {
            scheme,
            port,
            permanent: true,
        };
        let authority = Authority {
            host: host.into(),
            port: Some(8080),
            text: host,
        };
        let target = Target {
            path: path.into(),
            encoded: EncodedCharacters::default(),
            query,
        };
        let found = location(&redirect, &authority, &target);
        assert_eq!(
            found.as_ref().and_then(|value| value.to_str().ok()),
            Some(expected)
        );
    }

    #[test]
    fn the_location_has_the_port_only_where_the_scheme_does_not_say_it() {
        use RedirectScheme::{Http, Https};
        check(Https, 443, "a.example", "/", None, "https://a.example/");
        check(
            Https,
            8443,
            "a.example",
            "/x/y",
            Some("q=1&r"),
            "https://a.example:8443/x/y?q=1&r",
        );
        check(Http, 80, "[2001:db8::1]", "/", Some(""), "http://[2001:db8::1]/?");
        check(Http, 443, "a.example", "*", None, "http://a.example:443/");
        check(
            Https,
            443,
            "a.example",
            "//evil.example",
            None,
            "https://a.example//evil.example",
        );
    }
}
