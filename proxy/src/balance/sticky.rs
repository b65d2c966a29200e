//! Cookies that keep a client where it is: opaque and signed.
//!
//! A value is the HMAC of what it stands for under a key of this gateway. It tells nothing, and nobody can make the one
//! of another server; there is nothing to read in it, so whatever a client sends is compared and never parsed.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use http::{HeaderMap, HeaderValue, header::COOKIE};
use sallyport_config::model::service::{SameSite, StickyCookie};
use std::fmt::{self, Write};

/// Bytes of a value; guessing one of 128 bits is hopeless.
const TAG_BYTES: usize = 16;
/// Bytes of the key.
pub const KEY_BYTES: usize = 32;

/// The key that cookies are signed with.
#[derive(Clone)]
pub struct StickyKey(hmac::Key);

impl StickyKey {
    /// Of these bytes.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn tag(&self, service: &str, member: &str) -> String {
        let mut signing = hmac::Context::with_key(&self.0);
        // Lengths keep one pair of names from being another.
        for part in ["sallyport sticky", service, member] {
            signing.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            signing.update(part.as_bytes());
        }
        hex(signing.sign().as_ref().get(..TAG_BYTES).unwrap_or_default())
    }
}

impl fmt::Debug for StickyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StickyKey")
    }
}

/// The cookie of one service.
#[derive(Debug)]
pub struct Sticky {
    name: String,
    /// By place.
    tags: Vec<String>,
    /// By place; `None` only for attributes that the configuration would have refused.
    fields: Vec<Option<HeaderValue>>,
}

impl Sticky {
    /// The cookie of `service`, whose members have these names.
    pub fn new(cookie: &StickyCookie, key: &StickyKey, service: &str, members: &[String]) -> Self {
        let name = cookie.name.clone().unwrap_or_else(|| {
            let digest = digest::digest(&digest::SHA256, service.as_bytes());
            format!("_{}", hex(digest.as_ref().get(..4).unwrap_or_default()))
        });
        let attributes = attributes(cookie);
        let tags: Vec<String> = members.iter().map(|member| key.tag(service, member)).collect();
        let field = |tag: &String| HeaderValue::try_from(format!("{name}={tag}{attributes}")).ok();
        let fields = tags.iter().map(field).collect();
        Self { name, tags, fields }
    }

    /// The member that a request's cookie stands for.
    pub fn find(&self, headers: &HeaderMap) -> Option<usize> {
        let pairs = headers
            .get_all(COOKIE)
            .into_iter()
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
        let values = pairs.filter_map(|pair| {
            let rest = pair.trim_ascii().strip_prefix(self.name.as_bytes())?;
            rest.strip_prefix(b"=")
        });
        // A client that sends the name often is not to make this expensive.
        values.take(VALUES_MAX).find_map(|value| {
            let mut tags = self.tags.iter();
            tags.position(|tag| verify_slices_are_equal(tag.as_bytes(), value).is_ok())
        })
    }

    /// `Set-Cookie` for a member.
    pub fn field(&self, place: usize) -> Option<HeaderValue> {
        self.fields.get(place)?.clone()
    }
}

/// Values under the cookie's name that are looked at.
const VALUES_MAX: usize = 4;

fn attributes(cookie: &StickyCookie) -> String {
    let mut text = format!("; Path={}", cookie.path);
    // Writing to a string cannot fail.
    if let Some(domain) = &cookie.domain {
        let _ = write!(text, "; Domain={domain}");
    }
    if let Some(age) = cookie.max_age {
        let _ = write!(text, "; Max-Age={}", age.as_secs().max(1));
    }
    if cookie.http_only {
        text.push_str("; HttpOnly");
    }
    if cookie.secure {
        text.push_str("; Secure");
    }
    match cookie.same_site {
        None => {}
        Some(SameSite::None) => text.push_str("; SameSite=None"),
        Some(SameSite::Lax) => text.push_str("; SameSite=Lax"),
        Some(SameSite::Strict) => text.push_str("; SameSite=Strict"),
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie() -> StickyCookie {
        StickyCookie {
            name: Some("lb".to_owned()),
            secure: false,
            http_only: false,
            same_site: None,
            max_age: None,
            path: "/".to_owned(),
            domain: None,
        }
    }

    fn of(service: &str, key: u8) -> Sticky {
        let members = ["http://a:80".to_owned(), "http://b:80".to_owned()];
        Sticky::new(&cookie(), &StickyKey::new(&[key; KEY_BYTES]), service, &members)
    }

    fn sent(sticky: &Sticky, place: usize) -> String {
        let field = sticky.field(place).expect("a field");
        let text = field.to_str().expect("ASCII");
        text.split(';').next().expect("a pair").to_owned()
    }

    fn found(sticky: &Sticky, fields: &[&str]) -> Option<usize> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_str(field).expect("a value"));
        }
        sticky.find(&headers)
    }

    #[test]
    fn a_client_is_found_where_it_was_sent() {
        let sticky = of("s", 1);
        for place in [0, 1] {
            let pair = sent(&sticky, place);
            assert_eq!(found(&sticky, &[&pair]), Some(place));
            assert_eq!(found(&sticky, &["x=1", &format!("a=b; {pair} ;c")]), Some(place));
            assert_eq!(found(&sticky, &[&format!("lb=old; {pair}")]), Some(place));
        }
        assert_ne!(sent(&sticky, 0), sent(&sticky, 1));
    }

    #[test]
    fn what_was_not_signed_here_for_this_service_stands_for_nothing() {
        let sticky = of("s", 1);
        let pair = sent(&sticky, 0);
        for forged in [
            sent(&of("t", 1), 0),
            sent(&of("s", 2), 0),
            pair.replacen("lb=", "LB=", 1),
            pair.replacen("lb=", "xlb=", 1),
            format!("{pair}0"),
            pair.chars().take(pair.len() - 1).collect(),
            pair.to_ascii_uppercase(),
            "lb=".to_owned(),
            "lb".to_owned(),
            "lb=http://a:80".to_owned(),
            format!("lb=1; lb=2; lb=3; lb=4; {pair}"),
        ] {
            assert_eq!(found(&sticky, &[&forged]), None, "{forged}");
        }
        assert!(
            !pair.contains("http") && pair.len() == 3 + 2 * TAG_BYTES,
            "{pair}"
        );
    }

    #[test]
    fn attributes_are_as_configured() {
        let mut cookie = cookie();
        let field = |cookie: &StickyCookie| {
            let sticky = Sticky::new(cookie, &StickyKey::new(&[1; KEY_BYTES]), "s", &["a".to_owned()]);
            let field = sticky.field(0).expect("a field");
            let text = field.to_str().expect("ASCII").to_owned();
            let (name, rest) = text.split_once('=').expect("a pair");
            (
                name.to_owned(),
                rest.split_once(';').expect("attributes").1.to_owned(),
            )
        };
        assert_eq!(field(&cookie), ("lb".to_owned(), " Path=/".to_owned()));
        cookie.name = None;
        cookie.secure = true;
        cookie.http_only = true;
        cookie.same_site = Some(SameSite::Strict);
        cookie.max_age = Some(std::time::Duration::from_secs(60));
        cookie.domain = Some("example.com".to_owned());
        let (name, rest) = field(&cookie);
        assert!(name.starts_with('_') && name.len() == 9, "{name}");
        assert_eq!(
            rest,
            " Path=/; Domain=example.com; Max-Age=60; HttpOnly; Secure; SameSite=Strict"
        );
    }
}
