//! Which coding a client likes best of those that are offered (RFC 9110 section 12.5.3). Pure.

use http::{HeaderMap, header::ACCEPT_ENCODING};
use sallyport_config::model::middleware::compress::{Compress, Encoding};

/// What is offered.
#[derive(Debug)]
pub(super) struct Offer {
    encodings: Vec<Encoding>,
    default: Option<Encoding>,
}

/// Whether a client wants gzip rather than the plain answer.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let offer = Offer {
        encodings: vec![Encoding::Gzip],
        default: None,
    };
    offer.choose(headers).is_some()
}

/// How much a client likes a coding, in thousandths.
type Weight = u16;

/// What a client says.
#[derive(Default)]
struct Liked {
    gzip: Option<Weight>,
    brotli: Option<Weight>,
    zstd: Option<Weight>,
    identity: Option<Weight>,
    any: Option<Weight>,
}

impl Offer {
    /// That of a middleware.
    pub(super) fn new(settings: &Compress) -> Self {
        Self {
            encodings: settings.encodings.clone(),
            default: settings.default_encoding,
        }
    }

    /// The coding for a client; `None` is none.
    pub(super) fn choose(&self, headers: &HeaderMap) -> Option<Encoding> {
        let mut fields = headers.get_all(ACCEPT_ENCODING).iter().peekable();
        if fields.peek().is_none() {
            return self.default;
        }
        let mut liked = Liked::default();
        for field in fields {
            // What is no text says nothing.
            let items = field.to_str().unwrap_or_default().split(',');
            items.for_each(|item| liked.note(item));
        }
        self.best(&liked)
    }

    fn best(&self, liked: &Liked) -> Option<Encoding> {
        let weight = |encoding: Encoding| liked.named(encoding).or(liked.any).unwrap_or(0);
        let mut best: Option<(Weight, Encoding)> = None;
        // The default goes first among those that are liked for `*` alone.
        let default = self.default.filter(|encoding| liked.named(*encoding).is_none());
        let first = default.filter(|_| {
            self.encodings
                .iter()
                .all(|encoding| liked.named(*encoding).is_none())
        });
        for encoding in first.into_iter().chain(self.encodings.iter().copied()) {
            let weight = weight(encoding);
            if weight > best.map_or(0, |(known, _)| known) {
                best = Some((weight, encoding));
            }
        }
        let (weight, encoding) = best?;
        // One that likes its answers plain gets them so.
        (liked.identity.unwrap_or(0) <= weight).then_some(encoding)
    }
}

impl Liked {
    fn note(&mut self, item: &str) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = match parts.next() {
            None => 1000,
            Some(parameter) => weight(parameter).unwrap_or(0),
        };
        let place = match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => &mut self.gzip,
            "br" => &mut self.brotli,
            "zstd" => &mut self.zstd,
            "identity" => &mut self.identity,
            "*" => &mut self.any,
            _ => return,
        };
        *place = Some(weight);
    }

    fn named(&self, encoding: Encoding) -> Option<Weight> {
        match encoding {
            Encoding::Gzip => self.gzip,
            Encoding::Brotli => self.brotli,
            Encoding::Zstd => self.zstd,
        }
    }
}

/// `q=` and a number from 0 to 1 with at most three decimals, in thousandths.
fn weight(parameter: &str) -> Option<Weight> {
    let (key, value) = parameter.split_once('=')?;
    if !key.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, decimals) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: Weight = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    const ALL: [Encoding; 3] = [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd];

    fn chosen(encodings: &[Encoding], default: Option<Encoding>, fields: &[&str]) -> &'static str {
        let offer = Offer {
            encodings: encodings.to_vec(),
            default,
        };
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_str(field).expect("a value"));
        }
        offer.choose(&headers).map_or("", Encoding::word)
    }

    #[test]
    fn the_best_liked_is_taken_and_the_first_of_equals() {
        for (field, expected) in [
            ("gzip", "gzip"),
            ("GZIP", "gzip"),
            ("x-gzip", "gzip"),
            ("br, gzip", "gzip"),
            ("zstd, br", "br"),
            ("gzip;q=0.5, br", "br"),
            ("gzip;q=0.5, br;q=0.6, zstd;q=0.61", "zstd"),
            ("gzip ; q = 0.3 , br ; q=0.2", "gzip"),
            ("*", "gzip"),
            ("*;q=0.5, zstd", "zstd"),
            ("gzip;q=0, *", "br"),
            ("gzip;q=0, *;q=0", ""),
            ("identity", ""),
            ("gzip;q=0.5, identity", ""),
            ("gzip, identity;q=0.5", "gzip"),
            ("identity;q=0, gzip", "gzip"),
            ("deflate, compress", ""),
            ("", ""),
            ("gzip;q=1.5", ""),
            ("gzip;q=0.0001", ""),
            ("gzip;q=x", ""),
            ("gzip;level=3", ""),
            ("gzip;q=1.000", "gzip"),
            ("gzip;q=0.", ""),
        ] {
            assert_eq!(chosen(&ALL, None, &[field]), expected, "{field}");
        }
        assert_eq!(chosen(&ALL, None, &["gzip;q=0.1", "br;q=0.2"]), "br");
        let other = [Encoding::Zstd, Encoding::Gzip];
        assert_eq!(chosen(&other, None, &["gzip, zstd, br"]), "zstd");
        assert_eq!(chosen(&other, None, &["br"]), "");
    }

    #[test]
    fn the_default_is_for_those_who_say_nothing() {
        let default = Some(Encoding::Brotli);
        assert_eq!(chosen(&ALL, default, &[]), "br");
        assert_eq!(chosen(&ALL, None, &[]), "");
        assert_eq!(chosen(&ALL, default, &["*"]), "br");
        assert_eq!(chosen(&ALL, default, &["*, gzip;q=0.5"]), "br");
        assert_eq!(chosen(&ALL, default, &["gzip, *;q=0.5"]), "gzip");
        assert_eq!(chosen(&ALL, default, &[""]), "");
    }

    proptest! {
        #[test]
        fn no_field_panics(field in "[ -~]{0,60}") {
            let _ = chosen(&ALL, None, &[&field]);
        }
    }
}
