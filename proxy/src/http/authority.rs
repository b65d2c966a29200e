//! The host that a request is for (RFC 9110 section 7.2, RFC 9112 section 3.2, RFC 9113 section 8.3.1).
//!
//! There is exactly one, or the request is refused: routing by one name what the server takes for another
//! is how policies are passed by.

use http::{HeaderValue, Version, header::HOST, request::Parts, uri};
use std::{borrow::Cow, net::Ipv6Addr};

/// Longest name that DNS carries (RFC 1035 section 2.3.4), without the dot at its end. What is longer is nobody's name,
/// and looking up its parts would cost more than a request is worth.
const NAME_MAX: usize = 253;

/// The host of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower case, without port and trailing dot; IPv6 in brackets and in its shortest form.
    pub host: Cow<'a, str>,
    /// The port, where it was written.
    pub port: Option<u16>,
    /// As the client wrote it.
    pub text: &'a str,
}

/// Why a request has no host to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// HTTP/1.1 without `Host`.
    #[error("no `Host` field")]
    Missing,
    /// More than one.
    #[error("more than one `Host` field")]
    Several,
    /// The target's authority is another.
    #[error("the target's authority and `Host` differ")]
    Differ,
    /// No host, or characters that no host has.
    #[error("`Host` is no host with an optional port")]
    Malformed,
}

/// The host of a request; empty where HTTP/1.0 names none.
///
/// # Errors
/// Where there is none, more than one, or none that is well-formed.
pub fn of(parts: &Parts) -> Result<Authority<'_>, AuthorityError> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(AuthorityError::Several);
    }
    let field = field
        .map(HeaderValue::to_str)
        .transpose()
        .map_err(|_| AuthorityError::Malformed)?;
    let target = parts.uri.authority().map(uri::Authority::as_str);
    let text = match (target, field) {
        (Some(target), Some(field)) if !target.eq_ignore_ascii_case(field) => {
            return Err(AuthorityError::Differ);
        }
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) if parts.version < Version::HTTP_11 => "",
        (None, None) => return Err(AuthorityError::Missing),
    };
    parse(text, parts.version)
}

fn parse(text: &str, version: Version) -> Result<Authority<'_>, AuthorityError> {
    let (host, port) = split(text).ok_or(AuthorityError::Malformed)?;
    let port = port
        .map(str::parse)
        .transpose()
        .map_err(|_| AuthorityError::Malformed)?;
    let named = !host.is_empty() || (text.is_empty() && version < Version::HTTP_11);
    if !named {
        return Err(AuthorityError::Malformed);
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > NAME_MAX {
        return Err(AuthorityError::Malformed);
    }
    let host = if host.starts_with('[') {
        // An address has many spellings, and rules know one.
        host.trim_matches(['[', ']'])
            .parse::<Ipv6Addr>()
            .map_or(Cow::Borrowed(host), |address| format!("[{address}]").into())
    } else if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Ok(Authority { host, port, text })
}

/// Host and port of `HOST[:PORT]`, `None` where a character stands that no host or port has.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let end = rest.find(']')? + 2;
        let (host, rest) = text.split_at_checked(end)?;
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'))?;
        address.parse::<Ipv6Addr>().ok()?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return None,
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if !host.bytes().all(of_name) || host.starts_with('.') || host.contains("..") {
            return None;
        }
        (host, port)
    };
    // RFC 3986 section 3.2.3 lets the port be empty.
    let port = port.filter(|port| !port.is_empty());
    port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
        .then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, proptest};

    fn host_of(
        version: Version,
        target: &str,
        hosts: &[&str],
    ) -> Result<(String, Option<u16>), AuthorityError> {
        let mut request = http::Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        of(&parts).map(|authority| (authority.host.into_owned(), authority.port))
    }

    #[test]
    fn a_host_is_as_long_as_dns_lets_it_be() {
        let longest = format!("{}.a", "b.".repeat(125) + "c");
        assert_eq!(longest.len(), NAME_MAX);
        assert!(host_of(Version::HTTP_11, "/", &[&longest]).is_ok());
        assert!(host_of(Version::HTTP_11, "/", &[&(longest.clone() + ".:80")]).is_ok());
        let longer = longest + "a";
        assert_eq!(
            host_of(Version::HTTP_11, "/", &[&longer]),
            Err(AuthorityError::Malformed)
        );
    }

    #[test]
    fn one_well_formed_host_is_taken_and_anything_else_refused() {
        use AuthorityError::{Differ, Malformed, Missing, Several};
        let ok = |host: &str, port| Ok((host.to_owned(), port));
        for (version, target, hosts, expected) in [
            (
                Version::HTTP_11,
                "/",
                &["Example.COM"][..],
                ok("example.com", None),
            ),
            (
                Version::HTTP_11,
                "/",
                &["example.com.:8443"],
                ok("example.com", Some(8443)),
            ),
            (Version::HTTP_11, "/", &["example.com:"], ok("example.com", None)),
            (Version::HTTP_11, "/", &["[::1]:80"], ok("[::1]", Some(80))),
            (Version::HTTP_11, "/", &["192.0.2.1"], ok("192.0.2.1", None)),
            (
                Version::HTTP_11,
                "http://a.example/",
                &["a.example"],
                ok("a.example", None),
            ),
            (Version::HTTP_11, "http://a.example/", &["b.example"], Err(Differ)),
            (Version::HTTP_2, "https://a.example/", &[], ok("a.example", None)),
            (Version::HTTP_2, "https://a.example/", &["b.example"], Err(Differ)),
            (Version::HTTP_2, "https://user@a.example/", &[], Err(Malformed)),
            (Version::HTTP_10, "/", &[], ok("", None)),
            (Version::HTTP_11, "/", &[], Err(Missing)),
            (Version::HTTP_11, "/", &["a", "a"], Err(Several)),
            (Version::HTTP_11, "/", &[""], Err(Malformed)),
            (Version::HTTP_11, "/", &[":80"], Err(Malformed)),
            (Version::HTTP_11, "/", &["a b"], Err(Malformed)),
            (Version::HTTP_11, "/", &["a/b"], Err(Malformed)),
            (Version::HTTP_11, "/", &["a,b"], Err(Malformed)),
            (Version::HTTP_11, "/", &["a@b"], Err(Malformed)),
            (Version::HTTP_11, "/", &["a:99999"], Err(Malformed)),
            (Version::HTTP_11, "/", &["a:+80"], Err(Malformed)),
            (Version::HTTP_11, "/", &["[::1"], Err(Malformed)),
            (Version::HTTP_11, "/", &["[::1]x"], Err(Malformed)),
            (Version::HTTP_11, "/", &["a..b"], Err(Malformed)),
            (
                Version::HTTP_11,
                "/",
                &["[2001:DB8:0:0::1]:8443"],
                ok("[2001:db8::1]", Some(8443)),
            ),
            (Version::HTTP_11, "/", &["[[::1]"], Err(Malformed)),
            (Version::HTTP_11, "/", &["[::1]]"], Err(Malformed)),
            (Version::HTTP_11, "/", &["[fe80::1%eth0]"], Err(Malformed)),
            (Version::HTTP_11, "/", &["[192.0.2.1]"], Err(Malformed)),
            (Version::HTTP_11, "/", &["::1"], Err(Malformed)),
            (Version::HTTP_11, "/", &["."], Err(Malformed)),
            (Version::HTTP_11, "/", &["a:80:90"], Err(Malformed)),
            (
                Version::HTTP_11,
                "http://a.example/",
                &["A.example"],
                ok("a.example", None),
            ),
            (Version::HTTP_11, "http://a.example/", &[], ok("a.example", None)),
        ] {
            let got = host_of(version, target, hosts);
            assert_eq!(got, expected, "{version:?} {target} {hosts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_host_that_is_taken_is_lower_case_and_has_no_separator(text in "[ -~]{0,40}") {
            if let Ok(authority) = parse(&text, Version::HTTP_11) {
                prop_assert!(!authority.host.is_empty());
                prop_assert!(!authority.host.contains(['/', '@', ' ', ',', '\\']));
                prop_assert!(authority.host.to_ascii_lowercase() == authority.host);
            }
        }
    }
}
