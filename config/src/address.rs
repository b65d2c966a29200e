//! Addresses, prefixes, names and URLs as the file writes them: pure text to value.
//!
//! It resolves nothing: host names stay names.

use crate::{
    model::{ListenAddress, Scheme, ServerPlace, ServerUrl, tcp::ServerAddress},
    report::Fault,
};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// `:PORT`, `ADDRESS:PORT`, `[ADDRESS]:PORT`, each with `/tcp` behind it or not.
pub(crate) fn listen(text: &str) -> Result<ListenAddress, Fault> {
    let found = || Fault::found(format!("found `{text}`"));
    let bare = match text.split_once('/') {
        None | Some((_, "tcp")) => text.strip_suffix("/tcp").unwrap_or(text),
        Some((_, "udp")) => {
            return Err(found()
                .expected("a TCP address")
                .so("UDP is not served, and HTTP over it is not supported yet")
                .fix("remove `/udp`"));
        }
        Some((_, other)) => {
            return Err(found()
                .expected("no protocol or `/tcp`")
                .so(format!("`/{other}` is not a protocol that can be listened on"))
                .fix("remove what follows the port"));
        }
    };
    let wrong = || {
        found()
            .expected("`:PORT`, `IPV4:PORT` or `[IPV6]:PORT` with an address in digits")
            .fix("write `:80` for all addresses of both families, `[::]:80` for IPv6 only")
    };
    if let Some(port) = bare.strip_prefix(':') {
        return port_number(port).map(ListenAddress::AnyAddress).ok_or_else(wrong);
    }
    let exact: SocketAddr = bare.parse().map_err(|_| wrong())?;
    if exact.port() == 0 {
        return Err(found()
            .expected("a port from 1 to 65535")
            .fix("name the port; none is chosen for you"));
    }
    if let (IpAddr::V6(six), IpAddr::V4(four)) = (exact.ip(), exact.ip().to_canonical()) {
        return Err(found()
            .expected(format!("an IPv4 address in place of the mapped `{six}`"))
            .fix(format!("write `{four}:{}`", exact.port())));
    }
    Ok(ListenAddress::Exact(exact))
}

/// A port in plain digits, 1 to 65535.
fn port_number(text: &str) -> Option<u16> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port != 0)
}

/// Whether two addresses cannot both be listened on.
pub(crate) fn overlaps(one: ListenAddress, other: ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::AnyAddress(a), ListenAddress::AnyAddress(b)) => a == b,
        (ListenAddress::AnyAddress(port), ListenAddress::Exact(exact))
        | (ListenAddress::Exact(exact), ListenAddress::AnyAddress(port)) => exact.port() == port,
        (ListenAddress::Exact(a), ListenAddress::Exact(b)) => {
            // `[::]:80` is IPv6 only, so it leaves the IPv4 port free.
            let same_family = a.is_ipv4() == b.is_ipv4();
            let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
            a.port() == b.port() && same_family && same_address
        }
    }
}

/// `ADDRESS/LENGTH`, or a bare address, which is itself alone.
pub(crate) fn prefix(text: &str) -> Result<IpNet, Fault> {
    let wrong = || {
        Fault::found(format!("found `{text}`"))
            .expected("an IPv4 or IPv6 address or prefix")
            .fix("write it like `10.0.0.0/8`, `192.0.2.10` or `2001:db8::/32`")
    };
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| wrong())?,
    };
    if net.addr() != net.network() {
        let (masked, alone) = (net.trunc(), net.addr());
        return Err(Fault::found(format!(
            "found `{text}`, whose bits past /{} are not zero",
            net.prefix_len()
        ))
        .expected(format!("the prefix `{masked}` or the address `{alone}`"))
        .so("it is not clear which of the two was meant")
        .fix(format!("write `{masked}` or `{alone}`")));
    }
    if let (IpAddr::V6(_), IpAddr::V4(four)) = (net.addr(), net.addr().to_canonical()) {
        let length = net.prefix_len().saturating_sub(96);
        return Err(
            Fault::found(format!("found `{text}`, an IPv4 prefix in IPv6 clothes"))
                .so("it would never match, because mapped addresses are judged as IPv4")
                .fix(format!("write `{four}/{length}`")),
        );
    }
    Ok(net)
}

/// Whether `text` can only have been meant as an address or prefix, not as a name.
pub(crate) fn looks_like_prefix(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.contains(['/', ':']) || (digits && !text.is_empty())
}

/// `http://HOST[:PORT]`, `https://…` or `h2c://…`, whose host comes out in lower case; `unix://PATH` or `h2c+unix://PATH`.
pub(crate) fn server_url(text: &str) -> Result<ServerUrl, Fault> {
    let form = "`http://HOST[:PORT]`, `https://HOST[:PORT]`, `h2c://HOST[:PORT]`, `unix:///PATH` or `h2c+unix:///PATH`";
    let Some((scheme_text, rest)) = text.split_once("://") else {
        return Err(Fault::found("found no scheme")
            .expected(form)
            .fix("write it like `http://10.0.0.2:8080`"));
    };
    let (scheme, default_port) = match scheme_text.to_ascii_lowercase().as_str() {
        "unix" => return socket(Scheme::Http, rest),
        "h2c+unix" => return socket(Scheme::H2c, rest),
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        "h2c" => (Scheme::H2c, 80),
        _ => {
            return Err(Fault::found("found another scheme")
                .expected(form)
                .fix("use one of these schemes"));
        }
    };
    let (authority, tail) = rest
        .split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
        .unwrap_or((rest, ""));
    if authority.contains('@') {
        // Not quoted: what stands there is a password.
        return Err(Fault::found("found user information before the host")
            .expected(form)
            .so("credentials are never sent from a URL")
            .fix("remove everything up to the `@`"));
    }
    if !matches!(tail, "" | "/") {
        return Err(Fault::found("found something behind the host and port")
            .expected(form)
            .so("the path of a server url is not supported yet")
            .fix("remove it; the path of the request is passed on as it came"));
    }
    let (host, port) = split_port(authority).ok_or_else(|| {
        Fault::found(format!("found `{authority}` as host and port"))
            .expected(form)
            .fix("give a port from 1 to 65535 or none, and IPv6 addresses in brackets")
    })?;
    let at = ServerPlace::Host {
        host: url_host(host)?,
        port: port.unwrap_or(default_port),
    };
    Ok(ServerUrl { scheme, at })
}

/// Longest path of a Unix socket: `sun_path` of `unix(7)` without its final zero.
const SOCKET_BYTES_MAX: usize = 107;

fn socket(scheme: Scheme, path: &str) -> Result<ServerUrl, Fault> {
    let plain = !path.contains(['\0', '?', '#']);
    if path.starts_with('/') && path.len() > 1 && plain && path.len() <= SOCKET_BYTES_MAX {
        let at = ServerPlace::Socket(PathBuf::from(path));
        return Ok(ServerUrl { scheme, at });
    }
    let fault = Fault::found(format!("found `{path}` as the path of a socket"));
    let fault = fault.expected(format!("an absolute path of at most {SOCKET_BYTES_MAX} bytes"));
    Err(fault.fix("write it with three slashes, like `unix:///run/app.sock`"))
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let port_from = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')? + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at_checked(port_from)?;
    match port.strip_prefix(':') {
        Some(digits) => Some((host, Some(port_number(digits)?))),
        None => port.is_empty().then_some((host, None)),
    }
}

fn url_host(text: &str) -> Result<String, Fault> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inner) => {
            match inner.parse() {
                Ok(IpAddr::V6(address)) => Ok(address.to_string()),
                _ => Err(Fault::found(format!("found `{text}` as host"))
                    .expected("an IPv6 address in the brackets")),
            }
        }
        None => host_name(text),
    }
}

/// `HOST:PORT` or `[IPV6]:PORT`, of a server that speaks anything.
pub(crate) fn server_address(text: &str) -> Result<ServerAddress, Fault> {
    let form = "`HOST:PORT` or `[IPV6]:PORT`";
    if text.contains("://") {
        return Err(Fault::found(format!("found `{text}`, a URL"))
            .expected(form)
            .fix("remove the scheme; bytes are relayed as they are"));
    }
    let wrong = |found: String| {
        Fault::found(found)
            .expected(form)
            .fix("give a port from 1 to 65535, and IPv6 addresses in brackets")
    };
    let (host, port) = split_port(text).ok_or_else(|| wrong(format!("found `{text}`")))?;
    let port = port.ok_or_else(|| wrong(format!("found `{text}` without a port")))?;
    let host = url_host(host)?;
    Ok(ServerAddress { host, port })
}

/// A DNS name or IPv4 address, in lower case and without the trailing dot.
pub(crate) fn host_name(text: &str) -> Result<String, Fault> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_good = |label: &str| {
        let edges = !label.starts_with('-') && !label.ends_with('-');
        // The underscore is no host name's, but names of containers and services carry it.
        let letters = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        (1..=63).contains(&label.len()) && edges && letters
    };
    let numeric_end = name
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    let address_good = !numeric_end || name.parse::<std::net::Ipv4Addr>().is_ok();
    if name.len() <= 253 && name.split('.').all(label_good) && address_good {
        return Ok(name);
    }
    let hint = if text.is_ascii() {
        "use letters, digits, `-` and dots"
    } else {
        "write it in punycode (`xn--…`)"
    };
    Err(Fault::found(format!("found `{text}` as host"))
        .expected("a host name or an address")
        .fix(hint))
}

/// A lower-case RFC 1123 subdomain of at most 253 characters: the names of uplinks and children.
pub(crate) fn is_subdomain(text: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let label_good = |label: &str| {
        let letters = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        letters && edge(label.bytes().next()) && edge(label.bytes().last())
    };
    text.len() <= 253 && text.split('.').all(label_good)
}

/// What a wildcard in a certificate's name means where a subject is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wildcards {
    /// `*.example.com` is exactly one more label.
    OneLabel,
    /// Names are exact.
    Refused,
}

/// A name that a certificate must carry: DNS name, address or URI. DNS names come out in lower case.
pub(crate) fn subject_name(text: &str, wildcards: Wildcards) -> Result<String, Fault> {
    let wrong = |detail: &str| {
        Fault::found(format!("found `{text}`, {detail}"))
            .expected("a DNS name or a URI")
            .so("no certificate would match")
            .fix("write it like `api.example.com` or `spiffe://example.org/api`")
    };
    if let Some((scheme, rest)) = text.split_once("://") {
        let scheme_good = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let rest_good = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic());
        return if scheme_good && rest_good {
            Ok(text.to_owned())
        } else {
            Err(wrong("which is no URI"))
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    match (text.strip_prefix("*."), wildcards) {
        (Some(rest), Wildcards::OneLabel) => match host_name(rest) {
            Ok(rest) => Ok(format!("*.{rest}")),
            Err(_) => Err(wrong("whose part behind `*.` is no DNS name")),
        },
        (Some(_), Wildcards::Refused) => Err(wrong("but wildcards are not taken here")),
        (None, _) => host_name(text).map_err(|_| wrong("which is no DNS name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_need_digits_and_a_port() {
        let any = |port| Some(ListenAddress::AnyAddress(port));
        assert_eq!(listen(":80").ok(), any(80));
        assert_eq!(listen(":443/tcp").ok(), any(443));
        for exact in ["127.0.0.1:80", "[::]:80", "0.0.0.0:65535", "[2001:db8::1]:443"] {
            let address = exact.parse().expect("a socket address");
            assert_eq!(listen(exact).ok(), Some(ListenAddress::Exact(address)), "{exact}");
        }
        let bad = "|80|:0|:65536|:+80|:|localhost:80|127.0.0.1|127.0.0.1:0|:80/udp|:80/sctp|::1:80|[::ffff:1.2.3.4]:80";
        for text in bad.split('|') {
            assert!(listen(text).is_err(), "{text}");
        }
    }

    #[test]
    fn overlap_is_by_family_address_and_port() {
        let check = |a: &str, b: &str, expected: bool| {
            let (one, other) = (listen(a).expect(a), listen(b).expect(b));
            assert_eq!(overlaps(one, other), expected, "{a} {b}");
            assert_eq!(overlaps(other, one), expected, "{b} {a}");
        };
        check(":80", ":80", true);
        check(":80", ":81", false);
        check(":80", "127.0.0.1:80", true);
        check(":80", "[::1]:80", true);
        check("0.0.0.0:80", "127.0.0.1:80", true);
        check("0.0.0.0:80", "[::]:80", false);
        check("127.0.0.1:80", "127.0.0.2:80", false);
        check("[::]:80", "[::1]:80", true);
        check("[::1]:80", "[::1]:81", false);
    }

    #[test]
    fn prefixes_have_no_host_bits() {
        let show = |text: &str| prefix(text).map(|net| net.to_string()).ok();
        assert_eq!(show("10.0.0.0/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(show("192.0.2.10").as_deref(), Some("192.0.2.10/32"));
        assert_eq!(show("2001:db8::1").as_deref(), Some("2001:db8::1/128"));
        assert_eq!(show("::/0").as_deref(), Some("::/0"));
        for bad in [
            "",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "2001:db8::1/64",
            "eth0",
            "10.0.0",
            "::ffff:10.0.0.0/104",
        ] {
            assert_eq!(show(bad), None, "{bad}");
        }
        let message = prefix("10.20.3.4/16").expect_err("host bits").to_string();
        assert!(
            message.contains("`10.20.0.0/16`") && message.contains("`10.20.3.4`"),
            "{message}"
        );
    }

    #[test]
    fn server_urls_are_scheme_host_and_port() {
        let show = |text: &str| server_url(text).map(|url| url.to_string()).ok();
        assert_eq!(
            show("http://10.0.0.2:8080").as_deref(),
            Some("http://10.0.0.2:8080")
        );
        assert_eq!(
            show("HTTPS://Api.Example.com/").as_deref(),
            Some("https://api.example.com:443")
        );
        assert_eq!(show("h2c://[::1]").as_deref(), Some("h2c://[::1]:80"));
        assert_eq!(
            show("https://[2001:DB8::1]:8443").as_deref(),
            Some("https://[2001:db8::1]:8443")
        );
        let bad = "|10.0.0.2|ftp://a|http://|http://a:0|http://a:|http://a:99999|http://a/b|http://a?x|http://a#x\
                   |http://::1|http://[1.2.3.4]|http://a b|http://10.0.0.300|http://-a|http://a..b|http://é|http://[::1";
        for text in bad.split('|') {
            assert!(server_url(text).is_err(), "{text}");
        }
        let message = server_url("http://me:secret@host")
            .expect_err("user information")
            .to_string();
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn subdomains_are_lower_case_labels() {
        for good in ["a", "orders", "a-b.c0", "0"] {
            assert!(is_subdomain(good), "{good}");
        }
        let long = "a".repeat(254);
        for bad in ["", "A", "-a", "a-", "a..b", ".a", "a_b", "a b", long.as_str()] {
            assert!(!is_subdomain(bad), "{bad}");
        }
        assert!(is_subdomain(&"a".repeat(253)));
    }

    #[test]
    fn subject_names_are_dns_names_addresses_or_uris() {
        let one = |text: &str| subject_name(text, Wildcards::OneLabel).ok();
        assert_eq!(one("API.example.com").as_deref(), Some("api.example.com"));
        assert_eq!(one("*.Example.com").as_deref(), Some("*.example.com"));
        assert_eq!(
            one("spiffe://example.org/Parent").as_deref(),
            Some("spiffe://example.org/Parent")
        );
        assert_eq!(one("10.0.0.1").as_deref(), Some("10.0.0.1"));
        for bad in ["", "*", "*.", "a.*.b", "://x", "spiffe://", "spiffe://a b", "a b"] {
            assert_eq!(one(bad), None, "{bad}");
        }
        assert!(subject_name("*.example.com", Wildcards::Refused).is_err());
    }
}
