//! `Via` (RFC 9110 section 7.6.3): this gateway writes its name into every request that it passes on, and knows by it
//! a request that comes back.
//!
//! The name is made anew by every process, so that two gateways never share one. A request may pass here more than
//! once on purpose, by way of another proxy or another entry point; one that comes again and again is in a loop.

use http::{HeaderMap, HeaderValue, Version, header::VIA};
use std::sync::OnceLock;

/// How often a request may have passed here already.
const PASSES_MAX: usize = 4;

/// This process under its name.
#[derive(Debug)]
pub struct Via {
    name: String,
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

/// The name of this process; `random` is asked for once.
pub fn own(random: impl FnOnce() -> String) -> &'static Via {
    static OWN: OnceLock<Via> = OnceLock::new();
    OWN.get_or_init(|| Via::new(&random()))
}

impl Via {
    fn new(random: &str) -> Self {
        let name = format!("sallyport-{random}");
        let value = |version: &str| {
            HeaderValue::try_from(format!("{version} {name}"))
                .unwrap_or_else(|_| HeaderValue::from_static("1.1 sallyport"))
        };
        Self {
            http10: value("1.0"),
            http11: value("1.1"),
            http2: value("2.0"),
            name,
        }
    }

    /// Whether a request has passed here so often that it must be in a loop.
    pub fn is_loop(&self, headers: &HeaderMap) -> bool {
        let name = self.name.as_bytes();
        let passes = |value: &HeaderValue| {
            value
                .as_bytes()
                .windows(name.len())
                .filter(|seen| *seen == name)
                .count()
        };
        headers.get_all(VIA).iter().map(passes).sum::<usize>() >= PASSES_MAX
    }

    /// Writes this gateway behind those that a request has passed.
    pub fn write(&self, headers: &mut HeaderMap, received: Version) {
        let value = match received {
            Version::HTTP_2 => &self.http2,
            Version::HTTP_10 => &self.http10,
            _ => &self.http11,
        };
        // A line of its own is the same as an item of the list (RFC 9110 section 5.3).
        headers.append(VIA, value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_again_and_again_is_in_a_loop_and_others_names_do_not_count() {
        let (own, other) = (Via::new("a1"), Via::new("b2"));
        let mut headers = HeaderMap::new();
        for pass in 0..PASSES_MAX {
            assert!(!own.is_loop(&headers), "{pass}");
            own.write(&mut headers, Version::HTTP_11);
        }
        assert!(own.is_loop(&headers) && !other.is_loop(&headers));
        let joined = ["1.1 sallyport-a1"; PASSES_MAX].join(", ");
        let mut headers = HeaderMap::new();
        headers.insert(VIA, HeaderValue::try_from(joined).expect("a value"));
        assert!(own.is_loop(&headers));
    }

    #[test]
    fn the_version_is_the_one_that_the_request_came_by() {
        let own = Via::new("a1");
        for (version, expected) in [
            (Version::HTTP_10, "1.0 sallyport-a1"),
            (Version::HTTP_11, "1.1 sallyport-a1"),
            (Version::HTTP_2, "2.0 sallyport-a1"),
        ] {
            let mut headers = HeaderMap::new();
            own.write(&mut headers, version);
            assert_eq!(headers[VIA], expected);
        }
    }
}
