//! `redirect_scheme` and `redirect_regex`: the client is sent elsewhere.
//!
//! Scheme and host are what the client asked by: `X-Forwarded-Proto` is ours or a trusted peer's by now. A request that is right
//! already goes on, so that nobody runs in a circle.

use super::{Facts, Head, Pass};
use crate::fault::Fault;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CONTENT_TYPE, HOST, LOCATION},
    request::Parts,
};
use sallyport_config::model::middleware::redirect::{self, Web};

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Longest URL that a client is sent to.
const URL_BYTES_MAX: usize = 16 * 1024;

/// The compiled `redirect_scheme`.
#[derive(Debug)]
pub(super) struct RedirectScheme {
    settings: redirect::RedirectScheme,
}

/// The compiled `redirect_regex`.
#[derive(Debug)]
pub(super) struct RedirectRegex {
    settings: redirect::RedirectRegex,
}

impl RedirectScheme {
    /// Compiles it.
    pub(super) fn new(settings: redirect::RedirectScheme) -> Self {
        Self { settings }
    }
}

impl RedirectRegex {
    /// Compiles it.
    pub(super) fn new(settings: redirect::RedirectRegex) -> Self {
        Self { settings }
    }
}

impl Head for RedirectScheme {
    fn pass(&self, head: &mut Parts, _: &Facts<'_>) -> Result<Pass, Fault> {
        let (wanted, came) = (self.settings.scheme, scheme(&head.headers));
        let (host, port) = host(&head.headers)?;
        let here = port.unwrap_or(came.usual_port());
        let there = self.settings.port.map(u16::from);
        if came == wanted && there.is_none_or(|there| there == here) {
            return Ok(Pass::On);
        }
        let port = match there {
            Some(there) if there != wanted.usual_port() => format!(":{there}"),
            _ => String::new(),
        };
        let location = format!("{}://{host}{port}{}", wanted.as_str(), target(head));
        moved(&head.method, &location, self.settings.permanent).map(Pass::Answer)
    }
}

impl Head for RedirectRegex {
    fn pass(&self, head: &mut Parts, _: &Facts<'_>) -> Result<Pass, Fault> {
        let asked = head
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let url = format!("{}://{asked}{}", scheme(&head.headers).as_str(), target(head));
        let new = self
            .settings
            .pattern
            .replaced(&url, &self.settings.replacement, URL_BYTES_MAX);
        match new.map_err(|_| Fault::BadRequest)? {
            Some(new) if new != url => moved(&head.method, &new, self.settings.permanent).map(Pass::Answer),
            _ => Ok(Pass::On),
        }
    }
}

/// The scheme that the client asked by.
fn scheme(headers: &HeaderMap) -> Web {
    let named = headers.get(PROTO).and_then(|value| value.to_str().ok());
    let first = named
        .and_then(|list| list.split(',').next())
        .unwrap_or_default()
        .trim();
    if ["https", "wss"]
        .iter()
        .any(|secure| first.eq_ignore_ascii_case(secure))
    {
        Web::Https
    } else {
        Web::Http
    }
}

/// Host and port that the client asked for.
fn host(headers: &HeaderMap) -> Result<(&str, Option<u16>), Fault> {
    let asked = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    // The colons of an IPv6 address stand in brackets.
    let port = asked.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let (host, port) = port.map_or((asked, None), |(host, port)| (host, port.parse().ok()));
    // HTTP/1.0 without a host cannot be sent anywhere.
    if host.is_empty() {
        Err(Fault::BadRequest)
    } else {
        Ok((host, port))
    }
}

/// Path and query; none of `OPTIONS *`.
fn target(head: &Parts) -> &str {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    if target == "*" { "" } else { target }
}

/// The answer that sends a client to `location`. `GET` may become no other method by nature; any other stays what it is.
///
/// # Errors
/// Where `location` cannot stand in a header.
pub fn moved(method: &Method, location: &str, permanent: bool) -> Result<Response<Bytes>, Fault> {
    let (status, text) = match (method == Method::GET, permanent) {
        (true, false) => (StatusCode::FOUND, "found\n"),
        (true, true) => (StatusCode::MOVED_PERMANENTLY, "moved permanently\n"),
        (false, false) => (StatusCode::TEMPORARY_REDIRECT, "temporary redirect\n"),
        (false, true) => (StatusCode::PERMANENT_REDIRECT, "permanent redirect\n"),
    };
    let mut answer = Response::new(Bytes::from_static(text.as_bytes()));
    *answer.status_mut() = status;
    let location = HeaderValue::from_str(location).map_err(|_| Fault::BadRequest)?;
    answer.headers_mut().insert(LOCATION, location);
    answer.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use sallyport_config::model::middleware::pattern::Pattern;
    use std::num::NonZeroU16;

    fn request(method: &str, url: &str, proto: &'static str) -> Parts {
        let (host, target) = url.split_at(url.find('/').expect("a path"));
        let request = Request::builder().method(method).uri(target).header(HOST, host);
        request
            .header(PROTO, proto)
            .body(())
            .expect("a request")
            .into_parts()
            .0
    }

    /// Status and location, where it is sent elsewhere.
    fn sent(middleware: &dyn Head, mut head: Parts) -> Result<Option<(u16, String)>, Fault> {
        let facts = Facts {
            client: [192, 0, 2, 7].into(),
            certificates: None,
        };
        Ok(match middleware.pass(&mut head, &facts)? {
            Pass::On => None,
            Pass::Answer(answer) => {
                let location = answer.headers()[LOCATION].to_str().expect("text").to_owned();
                Some((answer.status().as_u16(), location))
            }
        })
    }

    fn scheme_to(scheme: Web, port: Option<u16>, permanent: bool) -> RedirectScheme {
        RedirectScheme::new(redirect::RedirectScheme {
            scheme,
            port: port.and_then(NonZeroU16::new),
            permanent,
        })
    }

    #[test]
    fn another_scheme_is_another_url_and_the_right_one_goes_on() {
        let plain = scheme_to(Web::Https, None, false);
        let check = |middleware: &RedirectScheme, url: &str, proto, expected: Option<&str>| {
            let found = sent(middleware, request("GET", url, proto)).expect("no fault");
            assert_eq!(
                found.map(|(_, location)| location).as_deref(),
                expected,
                "{proto} {url}"
            );
        };
        check(&plain, "a.example/x?y=1", "http", Some("https://a.example/x?y=1"));
        check(&plain, "a.example:8080/", "http", Some("https://a.example/"));
        check(&plain, "[::1]/", "http", Some("https://[::1]/"));
        check(&plain, "[::1]:80/", "ws", Some("https://[::1]/"));
        check(&plain, "a.example/", "https", None);
        check(&plain, "a.example:8443/", "WSS, http", None);
        let elsewhere = scheme_to(Web::Https, Some(8443), false);
        check(&elsewhere, "a.example/", "http", Some("https://a.example:8443/"));
        check(&elsewhere, "a.example/", "https", Some("https://a.example:8443/"));
        check(&elsewhere, "a.example:8443/", "https", None);
        check(
            &scheme_to(Web::Https, Some(443), false),
            "a.example:80/",
            "http",
            Some("https://a.example/"),
        );
        check(
            &scheme_to(Web::Http, None, false),
            "a.example/",
            "https",
            Some("http://a.example/"),
        );
    }

    #[test]
    fn only_get_may_become_another_method() {
        for (method, permanent, expected) in [
            ("GET", false, 302),
            ("GET", true, 301),
            ("HEAD", false, 307),
            ("POST", false, 307),
            ("POST", true, 308),
            ("DELETE", true, 308),
        ] {
            let found = sent(
                &scheme_to(Web::Https, None, permanent),
                request(method, "a/", "http"),
            );
            let found = found.expect("no fault").map(|(status, _)| status);
            assert_eq!(found, Some(expected), "{method} {permanent}");
        }
    }

    #[test]
    fn who_names_no_host_cannot_be_sent_anywhere() {
        let found = sent(&scheme_to(Web::Https, None, false), request("GET", "/", "http"));
        assert_eq!(found, Err(Fault::BadRequest));
    }

    fn regex_to(regex: &str, replacement: &str) -> RedirectRegex {
        let toml = format!("[middlewares.m.replace_path_regex]\nregex = '{regex}'\nreplacement = '/'\n");
        let source = sallyport_config::Source {
            name: "t.toml".to_owned(),
            text: toml,
        };
        let config = sallyport_config::parse(&[source]).expect("a configuration");
        let pattern: Pattern = match config.middlewares.into_values().next() {
            Some(sallyport_config::model::middleware::Middleware::ReplacePathRegex(settings)) => {
                settings.pattern
            }
            other => panic!("{other:?}"),
        };
        RedirectRegex::new(redirect::RedirectRegex {
            pattern,
            replacement: replacement.to_owned(),
            permanent: true,
        })
    }

    #[test]
    fn the_whole_url_is_matched_and_what_stays_the_same_goes_on() {
        let www = regex_to("^https?://www\\.(.+)$", "https://$1");
        let found = sent(&www, request("GET", "www.a.example:80/x?y", "http"));
        assert_eq!(found, Ok(Some((301, "https://a.example:80/x?y".to_owned()))));
        assert_eq!(sent(&www, request("GET", "a.example/x", "http")), Ok(None));
        let same = regex_to("^(.*)$", "$1");
        assert_eq!(sent(&same, request("GET", "a.example/x", "http")), Ok(None));
        let growing = regex_to("a", &"b".repeat(4096));
        assert_eq!(
            sent(&growing, request("GET", "aaaaaa/aaaa", "http")),
            Err(Fault::BadRequest)
        );
    }
}
