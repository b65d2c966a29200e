//! Where the answer of a probe leads: to another path of the same server, or elsewhere.

use http::{
    Method, StatusCode, Uri,
    uri::{PathAndQuery, Scheme},
};

/// Where an answer leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Leads {
    /// To this target of the same server.
    Here(PathAndQuery),
    /// To another server, or by another protocol.
    Elsewhere,
}

/// Whether an answer of this status leads anywhere.
pub(super) fn is_one(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The method that is asked with at the next place (RFC 9110 section 15.4).
pub(super) fn method(status: StatusCode, method: &Method) -> Method {
    match status.as_u16() {
        307 | 308 => method.clone(),
        _ if *method == Method::HEAD => Method::HEAD,
        _ => Method::GET,
    }
}

/// Where `location` leads from `at`, a target of the server that is called `host` and spoken to by `scheme`.
pub(super) fn resolve(location: &str, at: &PathAndQuery, host: &str, scheme: &Scheme) -> Leads {
    let location = location.split('#').next().unwrap_or_default();
    if let Some(rest) = location.strip_prefix("//") {
        return absolute(&format!("{scheme}://{rest}"), host, scheme);
    }
    let named = location.split(['/', '?']).next().unwrap_or_default();
    if named.contains(':') {
        return absolute(location, host, scheme);
    }
    let target = match location.bytes().next() {
        None => at.to_string(),
        Some(b'/') => location.to_owned(),
        Some(b'?') => format!("{}{location}", at.path()),
        Some(_) => {
            let folder = at.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        }
    };
    target.parse().map_or(Leads::Elsewhere, Leads::Here)
}

fn absolute(location: &str, host: &str, scheme: &Scheme) -> Leads {
    let Ok(uri) = location.parse::<Uri>() else {
        return Leads::Elsewhere;
    };
    let usual = if *scheme == Scheme::HTTPS { ":443" } else { ":80" };
    let bare = |host: &str| host.strip_suffix(usual).unwrap_or(host).to_ascii_lowercase();
    let same = uri.scheme() == Some(scheme)
        && uri
            .authority()
            .is_some_and(|authority| bare(authority.as_str()) == bare(host));
    let target = uri
        .path_and_query()
        .and_then(|target| target.as_str().parse().ok());
    match target {
        Some(target) if same => Leads::Here(target),
        _ => Leads::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_at_the_server_is_followed_and_nothing_else_is() {
        let check = |location: &str, expected: Option<&str>| {
            let at = PathAndQuery::from_static("/a/b?x=1");
            let found = resolve(location, &at, "s.example:8080", &Scheme::HTTP);
            let expected = expected.map_or(Leads::Elsewhere, |target| {
                Leads::Here(target.parse().expect("a target"))
            });
            assert_eq!(found, expected, "{location}");
        };
        check("/c", Some("/c"));
        check("/c?y=2#z", Some("/c?y=2"));
        check("c/d:e", Some("/a/c/d:e"));
        check("?y=2", Some("/a/b?y=2"));
        check("", Some("/a/b?x=1"));
        check("http://s.example:8080/c", Some("/c"));
        check("http://S.Example:8080", Some("/"));
        check("//s.example:8080/c", Some("/c"));
        check("https://s.example:8080/c", None);
        check("http://s.example/c", None);
        check("http://169.254.169.254/latest", None);
        check("//other.example/c", None);
        check("http://s.example:8080@evil.example/", None);
        check("ftp://s.example:8080/c", None);
        check("javascript:alert(1)", None);
        check("/a b", None);
        check("http://", None);
    }

    #[test]
    fn the_usual_port_may_be_said_or_left_out() {
        let at = PathAndQuery::from_static("/");
        let here = |host: &str, location: &str, scheme: &Scheme| {
            resolve(location, &at, host, scheme) == Leads::Here(PathAndQuery::from_static("/c"))
        };
        assert!(here("s.example", "http://s.example:80/c", &Scheme::HTTP));
        assert!(here("s.example:443", "https://s.example/c", &Scheme::HTTPS));
        assert!(!here("s.example", "https://s.example:80/c", &Scheme::HTTPS));
    }

    #[test]
    fn what_is_not_to_be_done_again_is_asked_by_get() {
        let check = |status: u16, from: Method, to: Method| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(method(status, &from), to, "{status} {from}");
        };
        check(302, Method::POST, Method::GET);
        check(303, Method::HEAD, Method::HEAD);
        check(307, Method::POST, Method::POST);
    }
}
