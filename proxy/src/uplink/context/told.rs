//! What a parent tells of a client, and its bytes.

use super::{
    GatewayId,
    codec::{Malformed, Reader, Writer},
};
use crate::tls::Standing;
use std::{borrow::Cow, net::IpAddr};

/// Bytes of the `X-Forwarded-For` that goes along; of a longer one the last hops.
const PAST_BYTES_MAX: usize = 1024;
/// Bytes of a host, a server name, a suite or a user.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a client's certificate.
const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Gateways that can be told of. One more than a request may pass, so that the child can say why it refuses.
const HOPS_TOLD_MAX: usize = super::HOPS_MAX + 1;

const CLIENT: u8 = 1;
const HOPS: u8 = 2;
const SCHEME: u8 = 3;
const PORT: u8 = 4;
const PAST: u8 = 5;
const HOST: u8 = 6;
const REAL_IP: u8 = 7;
const TLS: u8 = 8;
const SNI: u8 = 9;
const CERTIFICATE: u8 = 10;
const USER: u8 = 11;

/// What a parent tells of the client of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client.
    pub client: IpAddr,
    /// The gateways that it has passed, the parent last.
    pub hops: Vec<GatewayId>,
    /// What the forwarding fields said behind the parent.
    pub past: Past,
    /// How the client came; `None` in the clear.
    pub tls: Option<ClientTls>,
    /// What the client showed.
    pub certificate: Option<Certificate>,
    /// The user that a middleware of a parent verified.
    pub user: Option<String>,
}

/// What the parent's forwarding fields said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// How the client asked.
    pub scheme: Scheme,
    /// The port that it connected to.
    pub port: u16,
    /// The addresses of `X-Forwarded-For`; `None` where that is the client alone.
    pub hops: Option<String>,
    /// The host that it asked for; `None` where that is the request's.
    pub host: Option<String>,
    /// The address of `X-Real-Ip`; `None` where that is the client.
    pub real_ip: Option<IpAddr>,
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

/// What a handshake of the client's showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The suite, as IANA names it.
    pub suite: Cow<'static, str>,
    /// The server name.
    pub sni: Option<String>,
}

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What the parent found of it.
    pub standing: Standing,
    /// The leaf, DER.
    pub leaf: Vec<u8>,
}

impl Told {
    /// Its bytes. What is longer than it may be, or is no text, is left out: the child is told less, never wrongly.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(128);
        address(&mut out, CLIENT, self.client);
        let hops: Vec<u8> = self
            .hops
            .iter()
            .take(HOPS_TOLD_MAX)
            .flat_map(|hop| hop.0)
            .collect();
        out.field(HOPS, &hops);
        out.field(SCHEME, &[matches!(self.past.scheme, Scheme::Https).into()]);
        out.field(PORT, &self.past.port.to_be_bytes());
        if let Some(hops) = self.past.hops.as_deref().map(newest) {
            written(&mut out, PAST, hops, PAST_BYTES_MAX);
        }
        if let Some(host) = &self.past.host {
            written(&mut out, HOST, host, NAME_BYTES_MAX);
        }
        if let Some(real_ip) = self.past.real_ip {
            address(&mut out, REAL_IP, real_ip);
        }
        if let Some(tls) = self
            .tls
            .as_ref()
            .filter(|tls| is_plain(tls.suite.as_bytes(), NAME_BYTES_MAX))
        {
            let version = if tls.version == "TLSv1.3" { 4 } else { 3 };
            out.field(TLS, &[&[3, version], tls.suite.as_bytes()].concat());
            if let Some(sni) = &tls.sni {
                written(&mut out, SNI, sni, NAME_BYTES_MAX);
            }
        }
        if let Some(shown) = self
            .certificate
            .as_ref()
            .filter(|shown| is_certificate(&shown.leaf))
        {
            let standing = matches!(shown.standing, Standing::Verified).into();
            out.field(CERTIFICATE, &[&[standing], shown.leaf.as_slice()].concat());
        }
        if let Some(user) = self.user.as_ref().filter(|user| is_user(user)) {
            out.field(USER, user.as_bytes());
        }
        out.finish()
    }

    /// Reads what [`Told::encode`] writes, and nothing else.
    ///
    /// # Errors
    /// Where it is not that.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Reader::new(bytes);
        let (mut client, mut hops, mut scheme, mut port) = (None, None, None, None);
        let (mut past, mut host, mut real_ip) = (None, None, None);
        let (mut tls, mut certificate, mut user) = (None, None, None);
        while let Some((tag, value)) = fields.next()? {
            match tag {
                CLIENT => client = Some(read_address(value)?),
                HOPS => hops = Some(read_hops(value)?),
                SCHEME => scheme = Some(read_scheme(value)?),
                PORT => port = Some(read_port(value)?),
                PAST => past = Some(text(value, PAST_BYTES_MAX)?),
                HOST => host = Some(text(value, NAME_BYTES_MAX)?),
                REAL_IP => real_ip = Some(read_address(value)?),
                TLS => tls = Some(read_tls(value)?),
                SNI => read_sni(value, tls.as_mut())?,
                CERTIFICATE => certificate = Some(read_certificate(value)?),
                USER => user = Some(read_user(value)?),
                _ => return Err(Malformed("a field is not known")),
            }
        }
        let missing = Malformed("a field is missing");
        Ok(Self {
            client: client.ok_or(missing)?,
            hops: hops.ok_or(missing)?,
            past: Past {
                scheme: scheme.ok_or(missing)?,
                port: port.ok_or(missing)?,
                hops: past,
                host,
                real_ip,
            },
            tls,
            certificate,
            user,
        })
    }
}

fn address(out: &mut Writer, tag: u8, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => out.field(tag, &address.octets()),
        IpAddr::V6(address) => out.field(tag, &address.octets()),
    }
}

fn read_address(value: &[u8]) -> Result<IpAddr, Malformed> {
    let wrong = Malformed("an address is none");
    let read = <[u8; 4]>::try_from(value)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
        .map_err(|_| wrong)?;
    // One address, one encoding.
    if read == read.to_canonical() {
        Ok(read)
    } else {
        Err(wrong)
    }
}

fn read_hops(value: &[u8]) -> Result<Vec<GatewayId>, Malformed> {
    let wrong = Malformed("the gateways are none");
    let (ids, rest) = value.as_chunks::<{ GatewayId::BYTES }>();
    if ids.is_empty() || ids.len() > HOPS_TOLD_MAX || !rest.is_empty() {
        return Err(wrong);
    }
    Ok(ids.iter().copied().map(GatewayId).collect())
}

fn read_scheme(value: &[u8]) -> Result<Scheme, Malformed> {
    match value {
        [0] => Ok(Scheme::Http),
        [1] => Ok(Scheme::Https),
        _ => Err(Malformed("the scheme is none")),
    }
}

fn read_port(value: &[u8]) -> Result<u16, Malformed> {
    value
        .try_into()
        .map(u16::from_be_bytes)
        .map_err(|_| Malformed("the port is none"))
}

fn read_tls(value: &[u8]) -> Result<ClientTls, Malformed> {
    let wrong = Malformed("the TLS version is none");
    let (version, suite) = value.split_first_chunk::<2>().ok_or(wrong)?;
    Ok(ClientTls {
        version: match version {
            [3, 3] => "TLSv1.2",
            [3, 4] => "TLSv1.3",
            _ => return Err(wrong),
        },
        suite: text(suite, NAME_BYTES_MAX)?.into(),
        sni: None,
    })
}

fn read_sni(value: &[u8], tls: Option<&mut ClientTls>) -> Result<(), Malformed> {
    let tls = tls.ok_or(Malformed("a server name without TLS"))?;
    tls.sni = Some(text(value, NAME_BYTES_MAX)?);
    Ok(())
}

fn read_certificate(value: &[u8]) -> Result<Certificate, Malformed> {
    let wrong = Malformed("the certificate is none");
    let (standing, leaf) = value.split_first().ok_or(wrong)?;
    let standing = match standing {
        0 => Standing::Unverified,
        1 => Standing::Verified,
        _ => return Err(wrong),
    };
    if is_certificate(leaf) {
        Ok(Certificate {
            standing,
            leaf: leaf.to_vec(),
        })
    } else {
        Err(wrong)
    }
}

fn read_user(value: &[u8]) -> Result<String, Malformed> {
    let user = std::str::from_utf8(value).ok().filter(|user| is_user(user));
    user.map(str::to_owned).ok_or(Malformed("the user is none"))
}

fn text(value: &[u8], bytes_max: usize) -> Result<String, Malformed> {
    let wrong = Malformed("a text is none");
    if !is_plain(value, bytes_max) {
        return Err(wrong);
    }
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| wrong)
}

/// Writes a text that [`text`] reads, and no other.
fn written(out: &mut Writer, tag: u8, text: &str, bytes_max: usize) {
    if is_plain(text.as_bytes(), bytes_max) {
        out.field(tag, text.as_bytes());
    }
}

fn is_plain(value: &[u8], bytes_max: usize) -> bool {
    !value.is_empty() && value.len() <= bytes_max && value.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

fn is_user(user: &str) -> bool {
    !user.is_empty() && user.len() <= NAME_BYTES_MAX && !user.chars().any(char::is_control)
}

fn is_certificate(leaf: &[u8]) -> bool {
    !leaf.is_empty() && leaf.len() <= CERTIFICATE_BYTES_MAX
}

/// The last whole hops of a list that have room.
fn newest(hops: &str) -> &str {
    let Some(over) = hops.len().checked_sub(PAST_BYTES_MAX).filter(|over| *over > 0) else {
        return hops;
    };
    let kept = hops.get(over..).unwrap_or_default();
    kept.split_once(',').map_or("", |(_, whole)| whole.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{
        collection::vec,
        option,
        prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
    };

    fn an_address() -> impl Strategy<Value = IpAddr> {
        any::<IpAddr>().prop_map(|address| address.to_canonical())
    }

    fn a_past() -> impl Strategy<Value = Past> {
        (
            prop_oneof![Just(Scheme::Http), Just(Scheme::Https)],
            any::<u16>(),
            option::of("[!-~]([ -~]{0,200})"),
            option::of("[!-~]{1,255}"),
            option::of(an_address()),
        )
            .prop_map(|(scheme, port, hops, host, real_ip)| Past {
                scheme,
                port,
                hops,
                host,
                real_ip,
            })
    }

    fn a_handshake() -> impl Strategy<Value = ClientTls> {
        let version = prop_oneof![Just("TLSv1.2"), Just("TLSv1.3")];
        (version, "[A-Z0-9_]{1,60}", option::of("[a-z0-9.-]{1,255}")).prop_map(|(version, suite, sni)| {
            ClientTls {
                version,
                suite: suite.into(),
                sni,
            }
        })
    }

    fn a_certificate() -> impl Strategy<Value = Certificate> {
        let standing = prop_oneof![Just(Standing::Verified), Just(Standing::Unverified)];
        (standing, vec(any::<u8>(), 1..300)).prop_map(|(standing, leaf)| Certificate { standing, leaf })
    }

    fn a_context() -> impl Strategy<Value = Told> {
        let hops = vec(any::<[u8; 16]>().prop_map(GatewayId), 1..=HOPS_TOLD_MAX);
        (
            an_address(),
            hops,
            a_past(),
            option::of(a_handshake()),
            option::of(a_certificate()),
            option::of("[^\\p{Cc}]{1,40}"),
        )
            .prop_map(|(client, hops, past, tls, certificate, user)| Told {
                client,
                hops,
                past,
                tls,
                certificate,
                user,
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(told in a_context()) {
            prop_assert_eq!(Told::decode(&told.encode()), Ok(told));
        }

        #[test]
        fn whatever_is_read_has_that_one_encoding(bytes in vec(any::<u8>(), 0..200)) {
            if let Ok(told) = Told::decode(&bytes) {
                prop_assert_eq!(told.encode(), bytes);
            }
        }

        #[test]
        fn a_changed_byte_is_refused_or_says_something_else(told in a_context(), at in any::<usize>(), by in 1u8..) {
            let mut bytes = told.encode();
            let at = at % bytes.len();
            bytes[at] ^= by;
            if let Ok(read) = Told::decode(&bytes) {
                prop_assert!(read != told);
                prop_assert_eq!(read.encode(), bytes);
            }
        }

        #[test]
        fn what_is_cut_off_is_never_the_whole(told in a_context()) {
            let bytes = told.encode();
            for end in 0..bytes.len() {
                prop_assert!(Told::decode(&bytes[..end]) != Ok(told.clone()), "{}", end);
            }
        }
    }

    fn plain() -> Told {
        Told {
            client: IpAddr::from([192, 0, 2, 1]),
            hops: vec![GatewayId([7; 16])],
            past: Past {
                scheme: Scheme::Https,
                port: 443,
                hops: None,
                host: None,
                real_ip: None,
            },
            tls: None,
            certificate: None,
            user: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_of_hops_the_last_stay() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let told = Told {
            past: Past {
                hops: Some(["198.51.100.77"; 100].join(", ") + ", 203.0.113.1"),
                host: Some(long.clone()),
                ..plain().past
            },
            certificate: Some(Certificate {
                standing: Standing::Verified,
                leaf: vec![1; CERTIFICATE_BYTES_MAX + 1],
            }),
            user: Some(long),
            ..plain()
        };
        let read = Told::decode(&told.encode()).expect("it is read");
        let hops = read.past.hops.expect("some");
        assert!(
            hops.len() <= PAST_BYTES_MAX && hops.starts_with("198.51.100.77, "),
            "{hops}"
        );
        assert!(hops.ends_with(", 203.0.113.1"));
        assert_eq!((read.past.host, read.certificate, read.user), (None, None, None));
    }

    #[test]
    fn fields_twice_mapped_addresses_and_gateways_without_number_are_refused() {
        let whole = plain().encode();
        let field = |tag: u8, value: &[u8]| {
            let length = u16::try_from(value.len()).expect("short");
            [&[tag][..], &length.to_be_bytes(), value].concat()
        };
        let twice = [whole.clone(), field(PORT, &[1, 187])].concat();
        let late = [whole.clone(), field(SCHEME, &[1])].concat();
        for wrong in [twice, late, [whole.clone(), field(99, &[])].concat()] {
            assert!(Told::decode(&wrong).is_err(), "{wrong:?}");
        }
        let behind = whole.get(7..).expect("the client is first");
        let mapped = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets();
        for (client, expected) in [(&[192, 0, 2, 1][..], true), (&mapped, false), (&[1, 2, 3], false)] {
            let told = [field(CLIENT, client), behind.to_vec()].concat();
            assert_eq!(Told::decode(&told).is_ok(), expected, "{client:?}");
        }
        let rest = whole.get(7 + 19..).expect("one gateway is second");
        for (count, expected) in [
            (0, false),
            (1, true),
            (HOPS_TOLD_MAX, true),
            (HOPS_TOLD_MAX + 1, false),
        ] {
            let hops = vec![3; count * GatewayId::BYTES];
            let told = [whole.get(..7).expect("the client"), &field(HOPS, &hops), rest].concat();
            assert_eq!(Told::decode(&told).is_ok(), expected, "{count}");
        }
        let cut = [whole.get(..7).expect("the client"), &field(HOPS, &[3; 17]), rest].concat();
        assert!(Told::decode(&cut).is_err());
    }

    #[test]
    fn users_are_text_without_control_characters() {
        for (user, expected) in [
            ("joe", true),
            ("jörg müller", true),
            ("", false),
            ("a\nb", false),
            ("a\u{85}", false),
        ] {
            let told = Told {
                user: Some(user.to_owned()),
                ..plain()
            };
            let read = Told::decode(&told.encode()).expect("it is read");
            assert_eq!(read.user.is_some(), expected, "{user:?}");
        }
    }
}
