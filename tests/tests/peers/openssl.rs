//! `openssl s_client`, and hellos cut into pieces.

use anyhow::{Context, Result, ensure};
use sallyport_tests::case::Case;
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::fragments::{
    BACKEND, PORT, backend_url, certificate, entry_point, local, mutual, router, service,
};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::on_both_drivers;
use sallyport_tests::openssl::{Outcome, SClient, Version};
use sallyport_tests::raw_client;
use sallyport_tests::tls_client::{Offer, Session, TlsClient, in_records, outgoing};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

on_both_drivers!(
    each_client_auth_type_means_what_it_says,
    a_session_is_resumed_under_its_own_policy_only,
    a_session_opens_no_other_entry_point_of_the_same_name,
    a_session_from_before_a_reload_that_demands_more_is_worth_nothing,
    a_hello_in_pieces_gets_the_policy_of_its_name,
    a_hello_in_many_records_of_openssl_gets_the_policy_of_its_name,
    nonsense_in_place_of_records_is_refused,
);

/// Patience with one raw connection.
const SOON: Duration = Duration::from_secs(10);

/// Who knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Nothing,
    Known,
    Stranger,
}

/// A client-auth type: its name, whether it has CAs, and who of nobody, the known and the stranger gets in.
struct AuthType {
    name: &'static str,
    verifies: bool,
    asks: bool,
    lets_in: &'static [Shows],
}

const AUTH_TYPES: [AuthType; 5] = [
    AuthType {
        name: "NoClientCert",
        verifies: false,
        asks: false,
        lets_in: &[Shows::Nothing, Shows::Known, Shows::Stranger],
    },
    AuthType {
        name: "RequestClientCert",
        verifies: false,
        asks: true,
        lets_in: &[Shows::Nothing, Shows::Known, Shows::Stranger],
    },
    AuthType {
        name: "RequireAnyClientCert",
        verifies: false,
        asks: true,
        lets_in: &[Shows::Known, Shows::Stranger],
    },
    AuthType {
        name: "VerifyClientCertIfGiven",
        verifies: true,
        asks: true,
        lets_in: &[Shows::Nothing, Shows::Known],
    },
    AuthType {
        name: "RequireAndVerifyClientCert",
        verifies: true,
        asks: true,
        lets_in: &[Shows::Known],
    },
];

fn nginx(case: &Case) -> Result<Nginx> {
    Nginx::start(&case.ns, "n", BACKEND, &Serves::Plain)
}

fn each_client_auth_type_means_what_it_says(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let (ca, others) = (
        Authority::new(&case.dir(), "ca")?,
        Authority::new(&case.dir(), "others")?,
    );
    let server = ca.issue(Role::Server, &["a.example"])?;
    let known = ca.issue(Role::Client, &["known.example"])?;
    let stranger = others.issue(Role::Client, &["known.example"])?;
    let mut body = String::new();
    for (port, kind) in (PORT..).zip(&AUTH_TYPES) {
        let name = kind.name;
        let cas = match kind.verifies {
            true => format!(", ca_files = [\"{}\"]", ca.ca_file().display()),
            false => String::new(),
        };
        body += &format!(
            "[entry_points.{name}]\naddress = \"127.0.0.1:{port}\"\ntls = {{ options = \"{name}\" }}\n\
             [tls.options.{name}]\nclient_auth = {{ type = \"{name}\"{cas} }}\n"
        );
    }
    body += &router("all", "PathPrefix(`/`)", "backend", "");
    body += &(service("backend", &[&backend_url()], "") + &certificate(&server));
    let _gateway = case.gateway(&body)?;
    for (port, kind) in (PORT..).zip(&AUTH_TYPES) {
        for version in Version::ALL {
            for (shows, identity) in [
                (Shows::Nothing, None),
                (Shows::Known, Some(&known)),
                (Shows::Stranger, Some(&stranger)),
            ] {
                let mut client = SClient::new(&case.ns, local(port), version).sni("a.example");
                if let Some(identity) = identity {
                    client = client.identity(identity);
                }
                judge(kind, shows, &client.get("a.example")?)
                    .with_context(|| format!("{} {version:?} {shows:?}", kind.name))?;
            }
        }
    }
    Ok(())
}

fn judge(kind: &AuthType, shows: Shows, got: &Outcome) -> Result<()> {
    let told = || format!("{}{}", got.output, got.errors);
    if kind.lets_in.contains(&shows) {
        ensure!(got.has_status(200), "not let in: {}", told());
        ensure!(
            got.was_asked() == kind.asks,
            "asked for a certificate: {}",
            got.was_asked()
        );
    } else {
        ensure!(!got.has_answer(), "let in: {}", told());
        ensure!(got.alert.is_some(), "refused without an alert: {}", told());
    }
    Ok(())
}

/// `open.example` is open to all; `staff.example` and `guests.example` demand certificates of one CA each.
struct ThreePolicies {
    ca: Authority,
    staff: Identity,
    guest: Identity,
    body: String,
}

fn three_policies(case: &Case) -> Result<ThreePolicies> {
    let ca = Authority::new(&case.dir(), "ca")?;
    let (staff_ca, guests_ca) = (
        Authority::new(&case.dir(), "staff")?,
        Authority::new(&case.dir(), "guests")?,
    );
    let server = ca.issue(Role::Server, &["open.example", "staff.example", "guests.example"])?;
    let body = entry_point("tls = {}")
        + &router("open", "Host(`open.example`)", "backend", "")
        + &router(
            "staff",
            "Host(`staff.example`)",
            "backend",
            "tls = { options = \"staff\" }",
        )
        + &router(
            "guests",
            "Host(`guests.example`)",
            "backend",
            "tls = { options = \"guests\" }",
        )
        + &service("backend", &[&backend_url()], "")
        + &certificate(&server)
        + &mutual("staff", staff_ca.ca_file(), "")
        + &mutual("guests", guests_ca.ca_file(), "");
    Ok(ThreePolicies {
        ca,
        staff: staff_ca.issue(Role::Client, &["s.example"])?,
        guest: guests_ca.issue(Role::Client, &["g.example"])?,
        body,
    })
}

/// One connection that keeps its session in `file`.
fn keep(
    case: &Case,
    version: Version,
    host: &str,
    identity: Option<&Identity>,
    file: &Path,
) -> Result<Outcome> {
    let words = ["-sess_out", &file.display().to_string()];
    with(case, version, host, identity, &words)
}

/// One connection that comes with the session in `file`.
fn bring(
    case: &Case,
    version: Version,
    host: &str,
    identity: Option<&Identity>,
    file: &Path,
) -> Result<Outcome> {
    ensure!(file.exists(), "no session was kept");
    let words = ["-sess_in", &file.display().to_string()];
    with(case, version, host, identity, &words)
}

fn with(
    case: &Case,
    version: Version,
    host: &str,
    identity: Option<&Identity>,
    words: &[&str],
) -> Result<Outcome> {
    let client = SClient::new(&case.ns, local(PORT), version).sni(host).args(words);
    let client = match identity {
        Some(identity) => client.identity(identity),
        None => client,
    };
    client.get(host)
}

fn a_session_is_resumed_under_its_own_policy_only(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let policies = three_policies(case)?;
    let _gateway = case.gateway(&policies.body)?;
    for version in Version::ALL {
        let (open, staff) = (case.ns.fresh("open", "sess"), case.ns.fresh("staff", "sess"));
        ensure!(keep(case, version, "open.example", None, &open)?.has_status(200));
        ensure!(keep(case, version, "staff.example", Some(&policies.staff), &staff)?.has_status(200));

        let again = bring(case, version, "open.example", None, &open)?;
        ensure!(
            again.is_resumed() && again.has_status(200),
            "{version:?}: not resumed: {}",
            again.output
        );
        // The identity comes with the session: nothing is shown again.
        let again = bring(case, version, "staff.example", None, &staff)?;
        ensure!(
            again.is_resumed() && again.has_status(200),
            "{version:?}: not resumed: {}{}",
            again.output,
            again.errors
        );
        for (host, file) in [
            ("staff.example", &open),
            ("guests.example", &open),
            ("guests.example", &staff),
        ] {
            let crossed = bring(case, version, host, None, file)?;
            ensure!(
                !crossed.is_resumed() && !crossed.has_answer() && crossed.alert.is_some(),
                "{version:?}: {host} with a session of another policy: {}{}",
                crossed.output,
                crossed.errors
            );
        }
        // Whoever has a certificate of the other policy comes in by a full handshake.
        let full = bring(case, version, "guests.example", Some(&policies.guest), &staff)?;
        ensure!(
            !full.is_resumed() && full.has_status(200),
            "{version:?}: {}{}",
            full.output,
            full.errors
        );
    }
    Ok(())
}

/// One name, three entry points: open, for the staff, for guests. The library looks at the name; these must not rely on it.
fn a_session_opens_no_other_entry_point_of_the_same_name(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let authority = |name: &str| Authority::new(&case.dir(), name);
    let (ca, staff, guests) = (authority("ca")?, authority("staff")?, authority("guests")?);
    let server = ca.issue(Role::Server, &["a.example"])?;
    let entry = |name: &str, port: u16, options: &str| {
        format!(
            "[entry_points.{name}]\naddress = \"127.0.0.1:{port}\"\ntls = {{ options = \"{options}\" }}\n"
        )
    };
    let body = entry("open", 8000, "default")
        + &entry("staff", 8001, "staff")
        + &entry("guests", 8002, "guests")
        + &router("all", "PathPrefix(`/`)", "backend", "")
        + &service("backend", &[&backend_url()], "")
        + &certificate(&server)
        + &mutual("staff", staff.ca_file(), "")
        + &mutual("guests", guests.ca_file(), "");
    let _gateway = case.gateway(&body)?;
    let member = staff.issue(Role::Client, &["s.example"])?;
    for version in Version::ALL {
        let visit = |port: u16, identity: Option<&Identity>, way: &str, file: &Path| {
            let words = [way, &file.display().to_string()];
            let client = SClient::new(&case.ns, local(port), version)
                .sni("a.example")
                .args(&words);
            match identity {
                Some(identity) => client.identity(identity),
                None => client,
            }
            .get("a.example")
        };
        let (open, member_of) = (case.ns.fresh("open", "sess"), case.ns.fresh("staff", "sess"));
        ensure!(visit(8000, None, "-sess_out", &open)?.has_status(200));
        ensure!(visit(8001, Some(&member), "-sess_out", &member_of)?.has_status(200));
        for (port, file) in [(8000, &open), (8001, &member_of)] {
            let again = visit(port, None, "-sess_in", file)?;
            ensure!(
                again.is_resumed() && again.has_status(200),
                "{version:?} {port}: {}",
                again.output
            );
        }
        for (port, file) in [(8001, &open), (8002, &open), (8002, &member_of)] {
            let crossed = visit(port, None, "-sess_in", file)?;
            ensure!(
                !crossed.is_resumed() && !crossed.has_answer() && crossed.alert.is_some(),
                "{version:?}: let in at {port}: {}{}",
                crossed.output,
                crossed.errors
            );
        }
        let weaker = visit(8000, None, "-sess_in", &member_of)?;
        ensure!(
            !weaker.is_resumed() && weaker.has_status(200),
            "{version:?}: {}",
            weaker.output
        );
    }
    Ok(())
}

/// Without a certificate yesterday is no certificate today; an unrelated reload forgets nobody.
fn a_session_from_before_a_reload_that_demands_more_is_worth_nothing(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let ca = Authority::new(&case.dir(), "ca")?;
    let server = ca.issue(Role::Server, &["a.example"])?;
    let rest = router("all", "PathPrefix(`/`)", "backend", "")
        + &service("backend", &[&backend_url()], "")
        + &certificate(&server);
    let open = entry_point("tls = {}") + &rest;
    let strict = entry_point("tls = { options = \"mtls\" }") + &rest + &mutual("mtls", ca.ca_file(), "");
    let gateway = case.gateway(&open)?;
    let reload = |body: &str| {
        gateway.setup().write(body)?;
        let done = gateway.setup().command(&["reload"])?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    };
    for version in Version::ALL {
        let file = case.ns.fresh("open", "sess");
        ensure!(keep(case, version, "a.example", None, &file)?.has_status(200));
        reload(&(open.clone() + &router("more", "Path(`/more`)", "backend", "")))?;
        let kept = bring(case, version, "a.example", None, &file)?;
        ensure!(
            kept.is_resumed() && kept.has_status(200),
            "{version:?}: {}",
            kept.output
        );
        reload(&strict)?;
        let late = bring(case, version, "a.example", None, &file)?;
        ensure!(
            !late.is_resumed() && !late.has_answer() && late.alert.is_some(),
            "{version:?}: {}{}",
            late.output,
            late.errors
        );
        reload(&open)?;
    }
    Ok(())
}

/// What the gateway answers `staff.example` to a client whose hello goes out as `segments`.
fn answer(
    client: &TlsClient,
    mut tcp: TcpStream,
    cut: impl Fn(&[u8]) -> Result<Vec<Vec<u8>>>,
) -> Result<u16> {
    let mut connection = client.begin("staff.example")?;
    let hello = outgoing(&mut connection)?;
    let segments = cut(&hello)?;
    let segments: Vec<&[u8]> = segments.iter().map(Vec::as_slice).collect();
    raw_client::send(&mut tcp, &segments)?;
    tcp.set_read_timeout(Some(SOON))?;
    let mut session = Session::finish(connection, tcp)?;
    Ok(session.get("staff.example")?.status)
}

fn a_hello_in_pieces_gets_the_policy_of_its_name(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let policies = three_policies(case)?;
    let _gateway = case.gateway(&policies.body)?;
    for version in Version::ALL {
        let client = |identity| TlsClient::new(policies.ca.ca_file(), identity, Some(version), Offer::Common);
        let (staff, nobody) = (client(Some(&policies.staff))?, client(None)?);
        let length = outgoing(&mut staff.begin("staff.example")?)?.len();
        let connect = || raw_client::connect(&case.ns, None, local(PORT));
        for middle in 1..length {
            let cut = |hello: &[u8]| {
                let (first, second) = hello.split_at(middle.min(hello.len()));
                Ok(vec![first.to_vec(), second.to_vec()])
            };
            let status = answer(&staff, connect()?, cut);
            ensure!(
                matches!(status, Ok(200)),
                "{version:?} split at {middle}: {status:?}"
            );
            let status = answer(&nobody, connect()?, cut);
            ensure!(
                status.is_err(),
                "{version:?} split at {middle}: let in without a certificate"
            );
        }
        for size in [1, 2, 3, 17, 64, 100] {
            let records = |hello: &[u8]| Ok(vec![in_records(hello, size)?]);
            let apart = |hello: &[u8]| {
                let bytes = in_records(hello, size)?;
                Ok(bytes.chunks(size + 5).map(<[u8]>::to_vec).collect())
            };
            let status = answer(&staff, connect()?, records);
            ensure!(
                matches!(status, Ok(200)),
                "{version:?} records of {size}: {status:?}"
            );
            let status = answer(&staff, connect()?, apart);
            ensure!(
                matches!(status, Ok(200)),
                "{version:?} records of {size} apart: {status:?}"
            );
            let status = answer(&nobody, connect()?, records);
            ensure!(
                status.is_err(),
                "{version:?} records of {size}: let in without a certificate"
            );
        }
    }
    Ok(())
}

/// openssl cuts at 512 bytes at the least; a long list of protocols makes the hello longer.
fn a_hello_in_many_records_of_openssl_gets_the_policy_of_its_name(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let policies = three_policies(case)?;
    let _gateway = case.gateway(&policies.body)?;
    let protocols: Vec<String> = (0..200).map(|number| format!("nothing/{number}")).collect();
    let offered = format!("{},http/1.1", protocols.join(","));
    let words = [
        "-max_send_frag",
        "512",
        "-split_send_frag",
        "512",
        "-alpn",
        &offered,
    ];
    for version in Version::ALL {
        let right = with(case, version, "staff.example", Some(&policies.staff), &words)?;
        ensure!(
            right.has_status(200),
            "{version:?}: {}{}",
            right.output,
            right.errors
        );
        let none = with(case, version, "staff.example", None, &words)?;
        ensure!(
            !none.has_answer() && none.alert.is_some(),
            "{version:?}: {}{}",
            none.output,
            none.errors
        );
    }
    Ok(())
}

/// A hello whose records do not say what RFC 8446 section 5.1 asks for gets no answer, and nobody is hurt.
fn nonsense_in_place_of_records_is_refused(case: &Case) -> Result<()> {
    let _nginx = nginx(case)?;
    let policies = three_policies(case)?;
    let _gateway = case.gateway(&policies.body)?;
    let client = TlsClient::new(
        policies.ca.ca_file(),
        Some(&policies.staff),
        Some(Version::Tls13),
        Offer::Common,
    )?;
    let hello = outgoing(&mut client.begin("staff.example")?)?;
    let (head, message) = hello.split_at(5);
    let empty = [&[22, 3, 1, 0, 0], head, message].concat();
    let (first, rest) = message.split_at(40);
    let alert_between = [
        &[22, 3, 1, 0, 40],
        first,
        &[21, 3, 1, 0, 2, 1, 0],
        &[22, 3, 1],
        &u16::try_from(rest.len())?.to_be_bytes()[..],
        rest,
    ]
    .concat();
    let data_between = [&[22, 3, 1, 0, 40], first, &[23, 3, 3, 0, 3, 1, 2, 3], rest].concat();
    // A message that says it is 16 MiB long, in records that go on and on.
    let mut endless = vec![22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
    for _ in 0..200 {
        endless.extend([22, 3, 1, 0x10, 0]);
        endless.extend([0; 4096]);
    }
    for (what, bytes) in [
        ("an empty record", empty),
        ("an alert between", alert_between),
        ("data between", data_between),
        ("an endless hello", endless),
    ] {
        let mut tcp = raw_client::connect(&case.ns, None, local(PORT))?;
        // A reset while the gateway closes is an answer too.
        let _refused = tcp.write_all(&bytes);
        let _refused = tcp.shutdown(std::net::Shutdown::Write);
        let got = raw_client::read_to_end(&mut tcp, SOON)?;
        ensure!(
            got.end != raw_client::End::Silent && got.bytes.first().is_none_or(|first| *first == 21),
            "{what}: {:?} {:?}",
            got.end,
            got.bytes.get(..20)
        );
    }
    let mut session = client.shake(raw_client::connect(&case.ns, None, local(PORT))?, "staff.example")?;
    ensure!(session.get("staff.example")?.status == 200);
    Ok(())
}
