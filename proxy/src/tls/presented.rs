//! What a server's certificate says, for one line of the operator's log.
//!
//! It comes from a peer that is not trusted: everything is cut to a length and control characters are replaced. It
//! judges nothing.

use super::{
    names::{address_of, general_names, spki_digest},
    shown::pin,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use std::fmt::{self, Display, Formatter};
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate},
    time::ASN1Time,
};

/// Names of a certificate that are shown.
const NAMES_MAX: usize = 8;
/// Characters of one name that are shown.
const TEXT_MAX: usize = 200;

/// A certificate as a server presented it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// Distinguished name.
    pub subject: String,
    /// Distinguished name of the issuer.
    pub issuer: String,
    /// Subject alternative names, the first eight.
    pub names: Vec<String>,
    /// Names that are not shown.
    pub more_names: usize,
    /// Whether one of all names is an address.
    pub has_address: bool,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
    /// `sha256/` and base64, as `pinned_spki` takes it.
    pub pin: String,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Certificates that came with it.
    pub intermediates: usize,
}

impl Presented {
    /// Reads it; `None` where it cannot be parsed.
    pub(super) fn read(leaf: &CertificateDer<'_>, intermediates: usize) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let all: Vec<&GeneralName<'_>> = general_names(&parsed).collect();
        Some(Self {
            subject: plain(&parsed.subject().to_string()),
            issuer: plain(&parsed.issuer().to_string()),
            names: all.iter().take(NAMES_MAX).map(|name| shown(name)).collect(),
            more_names: all.len().saturating_sub(NAMES_MAX),
            has_address: all.iter().any(|name| matches!(name, GeneralName::IPAddress(_))),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            pin: pin(&spki_digest(leaf)?),
            is_ca: parsed.is_ca(),
            intermediates,
        })
    }

    /// Whether it names itself as its issuer.
    pub(super) fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether a server may use it at `now`: its dates, and its usage where it names one.
    pub(super) fn may_serve(leaf: &CertificateDer<'_>, now: UnixTime) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
            return false;
        };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let validity = parsed.validity();
        let current = validity.not_before.timestamp() <= now && now <= validity.not_after.timestamp();
        // More than one such extension is not a certificate that anybody should believe.
        let usage = parsed
            .extended_key_usage()
            .map(|usage| usage.is_none_or(|usage| usage.value.any || usage.value.server_auth));
        current && usage.unwrap_or(false)
    }
}

impl Display for Presented {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "subject `{}`, ", self.subject)?;
        if self.names.is_empty() {
            f.write_str("no names, ")?;
        } else {
            write!(f, "names {}", quoted(&self.names))?;
            match self.more_names {
                0 => f.write_str(", ")?,
                more => write!(f, " and {more} more, ")?,
            }
        }
        let (from, to) = (moment(self.not_before), moment(self.not_after));
        write!(
            f,
            "issuer `{}`, valid {from} to {to}, key `{}`",
            self.issuer, self.pin
        )
    }
}

/// `` `a`, `b` ``.
pub(super) fn quoted(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// Seconds since the epoch as RFC 3339 has it.
pub(super) fn moment(seconds: i64) -> String {
    let Ok(time) = ASN1Time::from_timestamp(seconds) else {
        return seconds.to_string();
    };
    let time = time.to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second) = time.to_hms();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Text of a peer, on one line and of bounded length.
pub(super) fn plain(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(TEXT_MAX)
        .map(|c| if c.is_control() || c == '`' { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        shown.push('…');
    }
    shown
}

fn shown(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) | GeneralName::RFC822Name(name) => plain(name),
        GeneralName::IPAddress(bytes) => {
            address_of(bytes).map_or_else(|| "malformed address".to_owned(), |address| address.to_string())
        }
        _ => "a name of another kind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates_that_people_read() {
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(1_609_459_199), "2020-12-31T23:59:59Z");
    }

    #[test]
    fn what_a_peer_wrote_stays_on_one_line_and_ends() {
        assert_eq!(plain("a\r\nb\u{1b}`c"), "a\u{fffd}\u{fffd}b\u{fffd}\u{fffd}c");
        assert_eq!(plain(&"x".repeat(TEXT_MAX)).chars().count(), TEXT_MAX);
        assert_eq!(plain(&"x".repeat(TEXT_MAX + 1)).chars().count(), TEXT_MAX + 1);
    }

    #[test]
    fn a_certificate_is_shown_with_its_names_dates_and_pin() {
        let names: Vec<String> = (0..10).map(|number| format!("n{number}.example")).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("names");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let read = Presented::read(made.der(), 0).expect("it parses");
        let text = read.to_string();
        assert!(text.contains("`n7.example` and 2 more"), "{text}");
        assert!(
            text.contains("valid 2020-01-01T00:00:00Z to 2021-01-01T00:00:00Z"),
            "{text}"
        );
        assert!(read.is_self_signed() && !read.has_address && !read.is_ca);
        let source = sallyport_config::Source {
            name: "t".to_owned(),
            text: format!("[servers_transports.t]\npinned_spki = [\"{}\"]\n", read.pin),
        };
        let config = sallyport_config::parse(&[source]).expect("the pin is taken");
        let pins = &config.servers_transports["t"].pinned_spki;
        assert_eq!(pins.first().copied(), spki_digest(made.der()));
        assert!(Presented::read(&CertificateDer::from(vec![1, 2]), 0).is_none());
    }
}
