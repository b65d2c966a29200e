//! Who calls: the good and the bad, what each does, how each must fare, and by which code each is counted.

use anyhow::{Context, Result, bail, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role, Validity, self_signed};
use sallyport_tests::fragments::{BACKEND, backend_url, certificate, local};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::openssl::{Version, alert};
use sallyport_tests::raw_client::{self, End};
use sallyport_tests::tls_client::{Offer, Session, TlsClient, alert_of, outgoing};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};
use std::time::Duration;

/// The host that all ask for.
pub(crate) const HOST: &str = "a.example";
/// Entry point for clients.
const DIRECT: u16 = 8000;
/// Entry point for the balancer 127.0.0.1.
const BALANCED: u16 = 8001;
/// Both again, with short deadlines, so that who says nothing does not make the test long.
const HASTY: u16 = 8002;
const HASTY_BALANCED: u16 = 8003;
/// The rest of the machine is the same two CPUs; nobody who behaves may be cut off for being slow.
const PATIENCE: Duration = Duration::from_secs(50);
/// A source that no `trusted_ips` holds.
const UNTRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 198.51.100.1 4000 8001\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc6\x33\x64\x01\x0f\xa0\x1f\x41";

/// A way to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A good certificate over TLS 1.3.
    Good13,
    /// A good certificate over TLS 1.2.
    Good12,
    /// A good one behind a header of version 1.
    GoodBehindV1,
    /// A good one behind a header of version 2.
    GoodBehindV2,
    /// No certificate over TLS 1.3.
    Bare13,
    /// No certificate over TLS 1.2.
    Bare12,
    /// A certificate of another authority over TLS 1.3.
    Stranger13,
    /// A certificate of another authority over TLS 1.2.
    Stranger12,
    /// A certificate that signed itself.
    SelfSigned,
    /// An expired one.
    Expired,
    /// A revoked one.
    Revoked,
    /// One whose name is not listed.
    NotNamed,
    /// A server's.
    WrongUse,
    /// A name that no certificate covers.
    UnknownName,
    /// A malformed header of version 1.
    BadV1,
    /// A malformed header of version 2.
    BadV2,
    /// A header from a source that is not trusted.
    UntrustedHeader,
    /// No header from a source that is.
    MissingHeader,
    /// HTTP on a TLS port.
    NotTls,
    /// Not a byte.
    Silent,
    /// Not a byte where a header must come.
    SilentBalancer,
    /// Half a hello, then nothing.
    HalfHello,
    /// Half a hello, then the end.
    HalfHelloAndGone,
    /// A reset after the server's part of the handshake.
    Reset,
}

const GOOD: [Caller; 4] = [
    Caller::Good13,
    Caller::Good12,
    Caller::GoodBehindV1,
    Caller::GoodBehindV2,
];

const BAD: [Caller; 20] = [
    Caller::Bare13,
    Caller::Bare12,
    Caller::Stranger13,
    Caller::Stranger12,
    Caller::SelfSigned,
    Caller::Expired,
    Caller::Revoked,
    Caller::NotNamed,
    Caller::WrongUse,
    Caller::UnknownName,
    Caller::BadV1,
    Caller::BadV2,
    Caller::UntrustedHeader,
    Caller::MissingHeader,
    Caller::NotTls,
    Caller::Silent,
    Caller::SilentBalancer,
    Caller::HalfHello,
    Caller::HalfHelloAndGone,
    Caller::Reset,
];

impl Caller {
    /// So many callers, good and bad in turn, every kind of each equally often.
    pub(crate) fn plan(count: usize) -> Vec<Caller> {
        let (good, bad) = (GOOD.iter().cycle(), BAD.iter().cycle());
        let pairs = good.zip(bad).flat_map(|(good, bad)| [*good, *bad]);
        pairs.take(count).collect()
    }

    /// The codes of the counters that such a call raises, each once.
    pub(crate) fn counted_as(self) -> &'static [&'static str] {
        match self {
            Caller::Good13 | Caller::Good12 | Caller::GoodBehindV1 | Caller::GoodBehindV2 => {
                &["accepted", "tls_accepted"]
            }
            Caller::Bare13 | Caller::Bare12 => &["accepted", "tls_failed", "tls_certificate_missing"],
            Caller::Stranger13 | Caller::Stranger12 | Caller::SelfSigned => {
                &["accepted", "tls_failed", "tls_certificate_unknown"]
            }
            Caller::Expired => &["accepted", "tls_failed", "tls_certificate_expired"],
            Caller::Revoked => &["accepted", "tls_failed", "tls_certificate_revoked"],
            Caller::NotNamed => &["accepted", "tls_failed", "tls_certificate_not_named"],
            Caller::WrongUse => &["accepted", "tls_failed", "tls_certificate_bad"],
            Caller::UnknownName => &["accepted", "tls_failed", "tls_unknown_name"],
            Caller::BadV1 => &["accepted", "preamble_v1_bad_address"],
            Caller::BadV2 => &["accepted", "preamble_v2_bad_version"],
            Caller::UntrustedHeader => &["accepted", "preamble_untrusted"],
            Caller::MissingHeader => &["accepted", "preamble_missing"],
            Caller::NotTls => &["accepted", "tls_failed", "tls_not_tls"],
            Caller::Silent | Caller::HalfHello => &["accepted", "tls_timeout"],
            Caller::SilentBalancer => &["accepted", "preamble_timeout"],
            Caller::HalfHelloAndGone | Caller::Reset => &["accepted", "tls_failed", "tls_client_gone"],
        }
    }

    fn port(self) -> u16 {
        match self {
            Caller::GoodBehindV1
            | Caller::GoodBehindV2
            | Caller::BadV1
            | Caller::BadV2
            | Caller::UntrustedHeader
            | Caller::MissingHeader => BALANCED,
            Caller::Silent | Caller::HalfHello => HASTY,
            Caller::SilentBalancer => HASTY_BALANCED,
            _ => DIRECT,
        }
    }
}

/// The gateway's configuration, its backend, and what the callers have.
pub(crate) struct World {
    /// The configuration.
    pub(crate) body: String,
    good: [TlsClient; 2],
    bare: [TlsClient; 2],
    stranger: [TlsClient; 2],
    self_signed: TlsClient,
    expired: TlsClient,
    revoked: TlsClient,
    not_named: TlsClient,
    wrong_use: TlsClient,
    _nginx: Nginx,
}

impl World {
    pub(crate) fn new(case: &Case) -> Result<World> {
        let authority = |name: &str| Authority::new(&case.dir(), name);
        let (ca, people, others) = (authority("ca")?, authority("people")?, authority("others")?);
        let staff = "x.staff.example";
        let revoked = people.issue(Role::Client, &["y.staff.example"])?;
        let crl = people.revoke(&[&revoked])?;
        let server = ca.issue(Role::Server, &[HOST])?;
        let client = |identity: Option<&Identity>, version| {
            TlsClient::new(ca.ca_file(), identity, version, Offer::Usual)
        };
        let both = |identity: Option<&Identity>| -> Result<[TlsClient; 2]> {
            Ok([
                client(identity, Some(Version::Tls13))?,
                client(identity, Some(Version::Tls12))?,
            ])
        };
        let expired = people.issue_with(Role::Client, Validity::Expired, &[staff])?;
        Ok(World {
            body: body(people.ca_file(), &crl) + &certificate(&server),
            good: both(Some(&people.issue(Role::Client, &[staff])?))?,
            bare: both(None)?,
            stranger: both(Some(&others.issue(Role::Client, &[staff])?))?,
            self_signed: client(Some(&self_signed(&case.dir(), Role::Client, &[staff])?), None)?,
            expired: client(Some(&expired), None)?,
            revoked: client(Some(&revoked), None)?,
            not_named: client(Some(&people.issue(Role::Client, &["x.guests.example"])?), None)?,
            wrong_use: client(Some(&people.issue(Role::Server, &[staff])?), None)?,
            _nginx: Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)?,
        })
    }

    /// A connection that stays, from a thread inside the namespace.
    pub(crate) fn establish(&self) -> Result<Session> {
        let mut session = self.shake(&self.good, 0, raw_client::connect_here(None, local(DIRECT))?)?;
        // In TLS 1.3 the server may not know yet that the handshake is over; an answer shows that it does.
        ensure!(session.get(HOST)?.status == 200);
        Ok(session)
    }

    /// The connection of a caller, nothing sent yet.
    pub(crate) fn connect(&self, caller: Caller) -> Result<TcpStream> {
        let from = (caller == Caller::UntrustedHeader).then_some(UNTRUSTED);
        let tcp = raw_client::connect_here(from, local(caller.port()))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        Ok(tcp)
    }

    /// Goes through with a call.
    pub(crate) fn call(&self, caller: Caller, mut tcp: TcpStream) -> Result<()> {
        let unfit = [
            alert::BAD_CERTIFICATE,
            alert::CERTIFICATE_UNKNOWN,
            alert::ACCESS_DENIED,
            alert::UNSUPPORTED_CERTIFICATE,
        ];
        match caller {
            Caller::Good13 => self.served(0, tcp),
            Caller::Good12 => self.served(1, tcp),
            Caller::GoodBehindV1 => {
                tcp.write_all(V1)?;
                self.served(0, tcp)
            }
            Caller::GoodBehindV2 => {
                tcp.write_all(V2)?;
                self.served(1, tcp)
            }
            Caller::Bare13 => told(&self.bare[0], HOST, tcp, &[alert::CERTIFICATE_REQUIRED]),
            Caller::Bare12 => {
                let either = [alert::CERTIFICATE_REQUIRED, alert::HANDSHAKE_FAILURE];
                told(&self.bare[1], HOST, tcp, &either)
            }
            Caller::Stranger13 => told(&self.stranger[0], HOST, tcp, &[alert::UNKNOWN_CA]),
            Caller::Stranger12 => told(&self.stranger[1], HOST, tcp, &[alert::UNKNOWN_CA]),
            Caller::SelfSigned => told(&self.self_signed, HOST, tcp, &[alert::UNKNOWN_CA]),
            Caller::Expired => told(&self.expired, HOST, tcp, &[alert::CERTIFICATE_EXPIRED]),
            Caller::Revoked => told(&self.revoked, HOST, tcp, &[alert::CERTIFICATE_REVOKED]),
            Caller::NotNamed => told(&self.not_named, HOST, tcp, &unfit),
            Caller::WrongUse => told(&self.wrong_use, HOST, tcp, &unfit),
            Caller::UnknownName => told(&self.good[0], "b.example", tcp, &[alert::UNRECOGNIZED_NAME]),
            Caller::BadV1 => shut_out(tcp, b"PROXY TCP4 203.0.113.300 198.51.100.1 4000 8001\r\n"),
            Caller::BadV2 => shut_out(tcp, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c012345678901"),
            Caller::UntrustedHeader => shut_out(tcp, V2),
            Caller::MissingHeader => {
                let hello = outgoing(&mut self.good[0].begin(HOST)?)?;
                shut_out(tcp, &hello)
            }
            Caller::NotTls => {
                let got = ended(&mut tcp, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
                // At the most an alert.
                ensure!(got.first().is_none_or(|first| *first == 21), "an answer: {got:?}");
                Ok(())
            }
            Caller::Silent | Caller::SilentBalancer => shut_out(tcp, b""),
            Caller::HalfHello => {
                let hello = outgoing(&mut self.good[0].begin(HOST)?)?;
                shut_out(tcp, hello.get(..hello.len() / 2).unwrap_or_default())
            }
            Caller::HalfHelloAndGone => {
                let hello = outgoing(&mut self.good[0].begin(HOST)?)?;
                tcp.write_all(hello.get(..hello.len() / 2).unwrap_or_default())?;
                tcp.shutdown(Shutdown::Write)?;
                ended(&mut tcp, b"").map(drop)
            }
            Caller::Reset => self.reset(tcp),
        }
    }

    fn shake(&self, clients: &[TlsClient; 2], which: usize, tcp: TcpStream) -> Result<Session> {
        let client = clients.get(which).context("there are two versions")?;
        client.shake(tcp, HOST)
    }

    fn served(&self, which: usize, tcp: TcpStream) -> Result<()> {
        let mut session = self.shake(&self.good, which, tcp)?;
        let reply = session.get(HOST)?;
        ensure!(reply.status == 200, "{}: {}", reply.status, reply.text());
        session.close();
        Ok(())
    }

    /// A client that goes once the server has answered its hello.
    fn reset(&self, mut tcp: TcpStream) -> Result<()> {
        tcp.write_all(&outgoing(&mut self.good[0].begin(HOST)?)?)?;
        tcp.read_exact(&mut [0; 5])?;
        socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }
}

fn body(people: &std::path::Path, crl: &std::path::Path) -> String {
    let entry = |name: &str, port: u16, timeouts: &str, keys: &str| {
        format!(
            "[entry_points.{name}]\naddress = \"127.0.0.1:{port}\"\ntls = {{ options = \"strict\" }}\n\
             timeouts = {{ {timeouts} }}\n{keys}\n"
        )
    };
    let patient = "tls_handshake = \"50s\", proxy_header = \"50s\"";
    let balanced = "proxy_protocol = { trusted_ips = [\"127.0.0.1/32\"] }";
    entry("direct", DIRECT, patient, "")
        + &entry("balanced", BALANCED, patient, balanced)
        + &entry("hasty", HASTY, "tls_handshake = \"3s\"", "")
        + &entry("hasty-balanced", HASTY_BALANCED, "proxy_header = \"3s\"", balanced)
        + &format!(
            "[tls.options.strict]\nsni_strict = true\nclient_auth = {{ type = \"RequireAndVerifyClientCert\", \
             ca_files = [\"{}\"], crl_files = [\"{}\"], subject_names = [\"*.staff.example\"] }}\n",
            people.display(),
            crl.display()
        )
        + "[routers.all]\nrule = \"Host(`a.example`)\"\nservice = \"backend\"\n"
        // Kept connections to the server must not be mistaken for a leak.
        + &format!(
            "[services.backend]\nservers = [{{ url = \"{}\" }}]\nservers_transport = \"brief\"\n\
             [servers_transports.brief]\ntimeouts = {{ idle = \"1s\" }}\n",
            backend_url()
        )
}

/// The handshake, or the first reading after it, must end with one of these alerts.
fn told(client: &TlsClient, name: &str, tcp: TcpStream, alerts: &[u8]) -> Result<()> {
    let refused = client.shake(tcp, name).and_then(|mut session| session.get(name));
    match refused {
        Ok(reply) => bail!("let in: {}", reply.status),
        Err(error) => match alert_of(&error) {
            Some(number) if alerts.contains(&number) => Ok(()),
            number => Err(error).with_context(|| format!("alert {number:?}, expected one of {alerts:?}")),
        },
    }
}

/// Sends and reads to the end; fails where the gateway leaves the connection open.
fn ended(tcp: &mut TcpStream, bytes: &[u8]) -> Result<Vec<u8>> {
    raw_client::send(tcp, &[bytes])?;
    let got = raw_client::read_to_end(tcp, PATIENCE)?;
    ensure!(got.end != End::Silent, "left open");
    Ok(got.bytes)
}

fn shut_out(mut tcp: TcpStream, bytes: &[u8]) -> Result<()> {
    let got = ended(&mut tcp, bytes)?;
    ensure!(got.is_empty(), "bytes in answer: {got:?}");
    Ok(())
}
