//! The JSON of `GET /uplinks`, version 1.
//!
//! A reader ignores fields that it does not know, and refuses a version, a name or a size that it does not
//! know what to do with.

mod object;
mod probe;

pub use probe::ProbeFault;

use bytes::Bytes;
use http::HeaderValue;
use object::Object;
use sallyport_config::model::service::{HealthCheck, PassiveHealthCheck};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The largest answer that a parent reads.
pub const ADVERTISEMENT_BYTES_MAX: usize = 1 << 20;
/// The most uplinks in one answer.
pub const UPLINKS_MAX: usize = 10_000;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 65_535;
/// The version that is spoken here.
const VERSION: u32 = 1;
/// RFC 1123 section 2.1: the longest name.
const NAME_LENGTH_MAX: usize = 253;
/// RFC 1123 section 2.1: the longest label.
const LABEL_LENGTH_MAX: usize = 63;

/// What a child offers a parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Sorted by name where this gateway made it.
    pub uplinks: Vec<Advertised>,
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Its name, a lower-case RFC 1123 subdomain.
    pub name: String,
    /// Its share among the children that offer it; 0 drains.
    pub weight: u32,
    /// How the parent shall probe it, over the uplink: scheme and port are `None`.
    pub health_check: Option<HealthCheck>,
    /// When the parent shall leave the child out.
    pub passive_health_check: Option<PassiveHealthCheck>,
}

/// The document as it is written.
#[derive(Serialize)]
struct Written {
    version: u32,
    uplinks: Vec<Object<Item>>,
}

/// The document as it is read.
#[derive(Deserialize)]
struct Read {
    uplinks: Vec<Object<Item>>,
}

#[derive(Serialize, Deserialize)]
struct Item {
    name: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health_check: Option<Object<probe::HealthCheck>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passive_health_check: Option<Object<probe::Passive>>,
}

fn one() -> u32 {
    1
}

/// Why an answer is refused.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Too large.
    #[error("it has {0} bytes, more than {ADVERTISEMENT_BYTES_MAX}")]
    TooLarge(usize),
    /// No JSON of this shape.
    #[error("it is not understood: {0}")]
    Shape(#[from] serde_json::Error),
    /// From a later or earlier gateway.
    #[error("its version is {0}, this gateway knows version {VERSION}")]
    Version(u32),
    /// Too many.
    #[error("it offers {0} uplinks, more than {UPLINKS_MAX}")]
    TooMany(usize),
    /// A name outside the grammar.
    #[error("uplink {0:?} is no lower-case RFC 1123 subdomain")]
    Name(String),
    /// A name twice.
    #[error("it offers uplink `{0}` twice")]
    Twice(String),
    /// A weight out of range.
    #[error("uplink `{name}` has the weight {weight}, more than {WEIGHT_MAX}")]
    Weight {
        /// Which.
        name: String,
        /// Its weight.
        weight: u32,
    },
    /// A probe, or what ejects, that a configuration could not ask for.
    #[error("the probes of uplink `{name}` are refused: {fault}")]
    Probe {
        /// Which.
        name: String,
        /// What is wrong.
        fault: ProbeFault,
    },
}

impl Advertisement {
    /// What these uplinks are on the wire, sorted by name.
    pub fn new(mut uplinks: Vec<Advertised>) -> Self {
        uplinks.sort_by(|a, b| a.name.cmp(&b.name));
        Self { uplinks }
    }

    /// The body and its strong entity tag: the same bytes give the same tag on every gateway.
    ///
    /// # Errors
    /// Never for names that the configuration accepts.
    pub fn encode(&self) -> Result<(Bytes, HeaderValue), serde_json::Error> {
        let item = |uplink: &Advertised| {
            let health_check = uplink.health_check.as_ref().map(|check| Object(check.into()));
            let passive = uplink.passive_health_check.as_ref();
            Object(Item {
                name: uplink.name.clone(),
                weight: uplink.weight,
                health_check,
                passive_health_check: passive.map(|passive| Object(passive.into())),
            })
        };
        let body = serde_json::to_vec(&Written {
            version: VERSION,
            uplinks: self.uplinks.iter().map(item).collect(),
        })?;
        let tag = format!("\"{:016x}-{:x}\"", fnv1a(&body), body.len());
        let tag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"0\""));
        Ok((body.into(), tag))
    }
}

/// FNV-1a, 64 bits: stable over processes and versions, and no secret depends on it.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Reads a child's answer.
///
/// # Errors
/// Where it is refused, whole: a child that lies in one entry is not believed in the others.
pub fn decode(bytes: &[u8]) -> Result<Advertisement, WireError> {
    if bytes.len() > ADVERTISEMENT_BYTES_MAX {
        return Err(WireError::TooLarge(bytes.len()));
    }
    let Object(Versioned { version }) = serde_json::from_slice(bytes)?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let Object::<Read>(read) = serde_json::from_slice(bytes)?;
    if read.uplinks.len() > UPLINKS_MAX {
        return Err(WireError::TooMany(read.uplinks.len()));
    }
    let mut seen = BTreeSet::new();
    let mut uplinks = Vec::with_capacity(read.uplinks.len());
    for Object(item) in read.uplinks {
        let uplink = advertised(item)?;
        if !seen.insert(uplink.name.clone()) {
            return Err(WireError::Twice(uplink.name));
        }
        uplinks.push(uplink);
    }
    Ok(Advertisement { uplinks })
}

/// One uplink of an answer, checked.
fn advertised(item: Item) -> Result<Advertised, WireError> {
    let Item { name, weight, .. } = item;
    if !is_subdomain(&name) {
        return Err(WireError::Name(name.chars().take(NAME_LENGTH_MAX).collect()));
    }
    if weight > WEIGHT_MAX {
        return Err(WireError::Weight { name, weight });
    }
    let health_check = item
        .health_check
        .map(|Object(check)| check.try_into())
        .transpose();
    let passive_health_check = item
        .passive_health_check
        .map(|Object(passive)| passive.try_into())
        .transpose();
    match (health_check, passive_health_check) {
        (Ok(health_check), Ok(passive_health_check)) => Ok(Advertised {
            name,
            weight,
            health_check,
            passive_health_check,
        }),
        (Err(fault), _) | (_, Err(fault)) => Err(WireError::Probe { name, fault }),
    }
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Whether `name` is a lower-case RFC 1123 subdomain.
pub fn is_subdomain(name: &str) -> bool {
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= LABEL_LENGTH_MAX
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    name.len() <= NAME_LENGTH_MAX && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    fn offered(name: &str, weight: u32) -> Advertised {
        Advertised {
            name: name.to_owned(),
            weight,
            health_check: None,
            passive_health_check: None,
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_the_order_given_does_not_matter() {
        let a = Advertisement::new(vec![offered("orders", 10), offered("billing", 1)]);
        let b = Advertisement::new(vec![offered("billing", 1), offered("orders", 10)]);
        let (body, tag) = a.encode().expect("encodes");
        assert_eq!((body.clone(), tag), b.encode().expect("encodes"));
        assert_eq!(decode(&body).expect("decodes"), a);
        let expected =
            r#"{"version":1,"uplinks":[{"name":"billing","weight":1},{"name":"orders","weight":10}]}"#;
        assert_eq!(&body[..], expected.as_bytes());
    }

    #[test]
    fn the_tag_changes_with_the_contents() {
        let tag = |weight| {
            Advertisement::new(vec![offered("a", weight)])
                .encode()
                .expect("encodes")
                .1
        };
        assert_ne!(tag(1), tag(2));
    }

    #[test]
    fn unknown_fields_are_ignored_and_everything_else_unknown_is_refused() {
        let check =
            |text: &str, accepted: bool| assert_eq!(decode(text.as_bytes()).is_ok(), accepted, "{text}");
        check(r#"{"version":1,"uplinks":[]}"#, true);
        check(
            r#"{"version":1,"more":{},"uplinks":[{"name":"a.b-c","more":1}]}"#,
            true,
        );
        check(
            r#"{"version":1,"uplinks":[{"name":"a","health_check":{"path":"/healthz","x":1}}]}"#,
            true,
        );
        check(
            r#"{"version":1,"uplinks":[{"name":"a","passive_health_check":{"x":1}}]}"#,
            true,
        );
        check(
            r#"{"version":1,"uplinks":[{"name":"a","health_check":{"path":"x"}}]}"#,
            false,
        );
        check(
            r#"{"version":1,"uplinks":[{"name":"a"},{"name":"b","health_check":{"path":"/","interval_ms":1}}]}"#,
            false,
        );
        check(
            r#"{"version":1,"uplinks":[{"name":"a","passive_health_check":{"max_failed_attempts":0}}]}"#,
            false,
        );
        check(r#"{"version":1,"uplinks":[{"name":"a","name":"b"}]}"#, false);
        check(r#"{"version":1,"uplinks":[]} {}"#, false);
        check(r#"{"version":1,"uplinks":[["a",1]]}"#, false);
        check(
            r#"{"version":1,"uplinks":[{"name":"a","health_check":[]}]}"#,
            false,
        );
        check(r#"[1,[]]"#, false);
        check(r#"{"version":2,"uplinks":[]}"#, false);
        check(r#"{"version":2,"other":[]}"#, false);
        check(r#"{"uplinks":[]}"#, false);
        check(r#"{"version":1,"uplinks":[{"name":"A"}]}"#, false);
        check(r#"{"version":1,"uplinks":[{"name":"a`) || Host(`b"}]}"#, false);
        check(r#"{"version":1,"uplinks":[{"name":""}]}"#, false);
        check(r#"{"version":1,"uplinks":[{"name":"a"},{"name":"a"}]}"#, false);
        check(r#"{"version":1,"uplinks":[{"name":"a","weight":65536}]}"#, false);
        check(r#"{"version":1,"uplinks":[{"name":"a","weight":-1}]}"#, false);
        check("", false);
    }

    #[test]
    fn an_answer_at_the_limits_is_read_and_one_past_them_is_not() {
        let many = |count: usize| {
            let uplinks = (0..count).map(|i| offered(&format!("u{i}"), 1)).collect();
            decode(&Advertisement::new(uplinks).encode().expect("encodes").0)
        };
        assert!(many(UPLINKS_MAX).is_ok());
        assert!(matches!(many(UPLINKS_MAX + 1), Err(WireError::TooMany(_))));
        let padded = |size: usize| {
            let mut text = br#"{"version":1,"uplinks":[]}"#.to_vec();
            text.resize(size, b' ');
            decode(&text)
        };
        assert!(padded(ADVERTISEMENT_BYTES_MAX).is_ok());
        assert!(matches!(
            padded(ADVERTISEMENT_BYTES_MAX + 1),
            Err(WireError::TooLarge(_))
        ));
        assert!(is_subdomain(&"a".repeat(63)) && !is_subdomain(&"a".repeat(64)));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn names_of_the_grammar_survive_the_wire(names in proptest::collection::btree_set("[a-z0-9]{1,9}(-[a-z0-9]{1,5})?(\\.[a-z0-9]{1,5})?", 0..20)) {
            let uplinks: Vec<Advertised> = names.iter().map(|name| offered(name, 1)).collect();
            let (body, _) = Advertisement::new(uplinks.clone()).encode().expect("encodes");
            let read = decode(&body);
            prop_assert!(read.is_ok());
            prop_assert_eq!(read.expect("checked").uplinks, uplinks);
        }
    }
}
