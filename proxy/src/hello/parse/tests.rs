use super::{HELLO_BYTES_MAX, Hello, HelloError, Progress, RECORDS_MAX, Reader, parse};
use proptest::prelude::*;
use rustls::server::Acceptor;
use std::io::Read;

/// A hello made by hand, independent of the parser's constants.
#[derive(Clone)]
struct Made {
    session: Vec<u8>,
    suites: Vec<u8>,
    compression: Vec<u8>,
    extensions: Vec<(u16, Vec<u8>)>,
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("test fields are short");
    [&length.to_be_bytes()[..], bytes].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("test fields are short");
    [&[length], bytes].concat()
}

/// A server name list of these names, each with its type.
fn names(listed: &[(u8, &[u8])]) -> Vec<u8> {
    let each = listed
        .iter()
        .map(|(kind, name)| [&[*kind], &long(name)[..]].concat());
    long(&each.collect::<Vec<_>>().concat())
}

fn alpn(listed: &[&[u8]]) -> Vec<u8> {
    long(&listed.iter().map(|name| short(name)).collect::<Vec<_>>().concat())
}

fn made() -> Made {
    Made {
        session: vec![7; 32],
        suites: vec![0x13, 0x01, 0xC0, 0x2B],
        compression: vec![0],
        extensions: vec![
            (10, long(&[0, 29])),
            (0, names(&[(0, b"A.Example.COM")])),
            (13, long(&[4, 3])),
            (16, alpn(&[b"h2", b"http/1.1"])),
            (0xFAFA, Vec::new()),
        ],
    }
}

impl Made {
    fn with(mut self, kind: u16, data: Vec<u8>) -> Self {
        self.extensions.retain(|(known, _)| *known != kind);
        self.extensions.push((kind, data));
        self
    }

    fn and(mut self, kind: u16, data: Vec<u8>) -> Self {
        self.extensions.push((kind, data));
        self
    }

    fn body(&self) -> Vec<u8> {
        let listed = self
            .extensions
            .iter()
            .map(|(kind, data)| [&kind.to_be_bytes()[..], &long(data)].concat());
        let mut body = vec![3, 3];
        body.extend([9; 32]);
        body.extend(short(&self.session));
        body.extend(long(&self.suites));
        body.extend(short(&self.compression));
        body.extend(long(&listed.collect::<Vec<_>>().concat()));
        body
    }

    fn message(&self) -> Vec<u8> {
        message(1, &self.body())
    }

    fn bytes(&self) -> Vec<u8> {
        records(&self.message(), 1 << 14)
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[kind, high, middle, low], body].concat()
}

/// A message in records of at most so many bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let each = message
        .chunks(size)
        .map(|part| [&[22, 3, 1][..], &long(part)].concat());
    each.collect::<Vec<_>>().concat()
}

/// Name and protocols of what must be a hello.
fn read(bytes: &[u8]) -> (Option<String>, Vec<String>) {
    match parse(bytes) {
        Ok(Progress::Hello(hello)) => facts(&hello),
        other => panic!("{other:?}"),
    }
}

fn facts(hello: &Hello) -> (Option<String>, Vec<String>) {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    (hello.sni.clone(), hello.protocols().map(text).collect())
}

fn expected() -> (Option<String>, Vec<String>) {
    (Some("a.example.com".into()), vec!["h2".into(), "http/1.1".into()])
}

#[test]
fn a_hello_is_read_whatever_stands_around_its_name() {
    assert_eq!(read(&made().bytes()), expected());
    let followed = [made().bytes(), vec![20, 3, 3, 0, 1, 1]].concat();
    assert_eq!(
        read(&followed),
        expected(),
        "records behind the hello are not its own"
    );
    let bare = Made {
        extensions: Vec::new(),
        session: Vec::new(),
        ..made()
    };
    assert_eq!(read(&bare.bytes()), (None, vec![]));
    let mut none = bare.body();
    none.truncate(none.len() - 2);
    assert_eq!(read(&records(&message(1, &none), 100)), (None, vec![]));
}

#[test]
fn names_come_out_in_one_spelling_and_addresses_are_no_names() {
    let check = |name: &[u8], expected: Option<&str>| {
        let hello = made().with(0, names(&[(0, name)]));
        let (sni, _) = read(&hello.bytes());
        assert_eq!(sni.as_deref(), expected, "{}", String::from_utf8_lossy(name));
    };
    check(b"a.example.com", Some("a.example.com"));
    check(b"A.EXAMPLE.com.", Some("a.example.com"));
    check(b"xn--bcher-kva.example", Some("xn--bcher-kva.example"));
    check(b"under_score", Some("under_score"));
    check(b"10.0.0.1", None);
    check(b"::1", None);
}

#[test]
fn a_hello_in_any_cut_is_the_same_hello() {
    let message = made().message();
    for size in 1..=message.len() {
        let bytes = records(&message, size);
        assert_eq!(read(&bytes), expected(), "records of {size}");
        for cut in 0..bytes.len() {
            let mut reader = Reader::default();
            assert_eq!(reader.read(&bytes[..cut]), Ok(Progress::NeedMore), "{size} {cut}");
            match reader.read(&bytes) {
                Ok(Progress::Hello(hello)) => assert_eq!(facts(&hello), expected()),
                other => panic!("records of {size} cut at {cut}: {other:?}"),
            }
        }
    }
    let (bytes, mut reader) = (records(&message, 7), Reader::default());
    let steps: Vec<_> = (0..=bytes.len()).map(|end| reader.read(&bytes[..end])).collect();
    assert!(
        steps[..bytes.len()]
            .iter()
            .all(|step| *step == Ok(Progress::NeedMore))
    );
}

#[test]
fn other_protocols_are_told_by_their_first_bytes() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x\r\n",
        &[0, 0, 0, 8, 4, 210, 22, 47],
        &[0x80, 0x2E, 1, 3, 1],
        &[22, 2, 0],
        &[21, 3, 3, 0, 2, 2, 40],
        &[0],
    ] {
        assert_eq!(parse(bytes), Ok(Progress::NotTls), "{bytes:?}");
        assert_eq!(parse(&bytes[..0]), Ok(Progress::NeedMore));
    }
    assert_eq!(parse(&[22]), Ok(Progress::NeedMore));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let check = |hello: Made, expected: HelloError| {
        assert_eq!(parse(&hello.bytes()), Err(expected), "{:?}", hello.extensions);
        assert_eq!(oracle(&hello.bytes()), Oracle::Refused, "the library differs");
    };
    let field = |field| HelloError::Malformed { field };
    let twice = HelloError::Duplicate { extension: 0 };
    check(made().and(0, names(&[(0, b"b.example")])), twice);
    check(made().and(0, names(&[(0, b"a.example.com")])), twice);
    check(
        made().and(0xFAFA, vec![1]),
        HelloError::Duplicate { extension: 0xFAFA },
    );
    for bad in [
        names(&[(0, b"a"), (0, b"b")]),
        names(&[(0, b"")]),
        names(&[(0, "b\u{fc}cher.example".as_bytes())]),
        names(&[(0, b"a..b")]),
        names(&[(0, b"a b")]),
        names(&[(0, b"a\0b")]),
        names(&[(0, b"*.example.com")]),
        names(&[(0, &[b'a'; 64])]),
        names(&[(0, &[b"abc.".repeat(63), b"abcde".to_vec()].concat())]),
        names(&[(1, b"a.example")]),
        names(&[]),
        Vec::new(),
        [names(&[(0, b"a.example")]), vec![0]].concat(),
        [&[0, 13][..], &names(&[(0, b"a.example")])[2..]].concat(),
        [&[0, 11][..], &names(&[(0, b"a.example")])[2..]].concat(),
        vec![0, 4, 0, 0, 9, b'a'],
    ] {
        check(made().with(0, bad), HelloError::BadServerName);
    }
    for bad in [
        Vec::new(),
        alpn(&[]),
        alpn(&[b""]),
        alpn(&[b"h2", b""]),
        [alpn(&[b"h2"]), vec![0]].concat(),
        vec![0, 3, 9, b'h', b'2'],
    ] {
        check(made().with(16, bad), field("protocol_name_list"));
    }
    let suites = |suites: &[u8]| Made {
        suites: suites.to_vec(),
        ..made()
    };
    check(suites(&[]), field("cipher_suites"));
    check(suites(&[0x13]), field("cipher_suites"));
    let session = Made {
        session: vec![0; 33],
        ..made()
    };
    check(session, field("legacy_session_id"));
    let compression = Made {
        compression: vec![1],
        ..made()
    };
    check(compression, field("legacy_compression_methods"));
}

#[test]
fn a_second_kind_of_name_is_refused_although_the_library_would_skip_it() {
    let hello = made().with(0, names(&[(0, b"a.example"), (1, b"b")]));
    assert_eq!(parse(&hello.bytes()), Err(HelloError::BadServerName));
}

#[test]
fn lying_lengths_and_foreign_records_are_refused() {
    let check = |bytes: &[u8], expected: HelloError| {
        assert_eq!(parse(bytes), Err(expected));
        assert_eq!(oracle(bytes), Oracle::Refused, "{expected}");
    };
    let body = made().body();
    check(
        &records(&[message(1, &body), vec![1]].concat(), 1 << 14),
        HelloError::Followed,
    );
    check(
        &records(&message(1, &[&body[..], &[0]].concat()), 100),
        HelloError::TrailingBytes,
    );
    check(
        &records(&message(1, &body[..body.len() - 1]), 100),
        HelloError::Malformed { field: "extensions" },
    );
    check(
        &records(&message(2, &body), 100),
        HelloError::NotAHello { got: 2 },
    );
    let first = records(&made().message()[..60], 100);
    for foreign in [
        &[20, 3, 3, 0, 1, 1][..],
        &[23, 3, 3, 0, 1, 1],
        &[21, 3, 3, 0, 2, 1, 0],
    ] {
        check(&[&first[..], foreign].concat(), HelloError::Interrupted);
    }
    check(
        &[&first[..], &[22, 2, 0, 0, 1, 0]].concat(),
        HelloError::Interrupted,
    );
    check(&[&first[..], &[22, 3, 1, 0, 0]].concat(), HelloError::EmptyRecord);
    check(&[22, 3, 1, 0, 0], HelloError::EmptyRecord);
    let long = [22, 3, 1, 0xFF, 0xFF];
    check(
        &long,
        HelloError::RecordTooLong {
            got: 0xFFFF,
            limit: 1 << 14,
        },
    );
}

#[test]
fn size_and_number_of_records_are_bounded() {
    let padded = |padding: usize| {
        let mut hello = made();
        for (kind, left) in (100..).zip((0..padding).step_by(16_000)) {
            hello
                .extensions
                .push((kind, vec![0; (padding - left).min(16_000)]));
        }
        hello
    };
    assert!(matches!(parse(&padded(60_000).bytes()), Ok(Progress::Hello(_))));
    let limit = HELLO_BYTES_MAX;
    let body = vec![0; HELLO_BYTES_MAX + 1];
    let announced = records(&message(1, &body), 1 << 14);
    assert_eq!(parse(&announced), Err(HelloError::TooLong { limit }));
    let fits = message(1, &vec![0; HELLO_BYTES_MAX - 4]);
    assert_eq!(
        parse(&records(&fits, 1 << 14)),
        Err(HelloError::TooLong { limit }),
        "the headers of the records count"
    );
    let many = message(1, &vec![0; 4 * RECORDS_MAX]);
    let at_most = records(&many[..RECORDS_MAX], 1);
    assert_eq!(parse(&at_most), Ok(Progress::NeedMore));
    let one_more = records(&many[..=RECORDS_MAX], 1);
    let limit = RECORDS_MAX;
    assert_eq!(parse(&one_more), Err(HelloError::RecordsTooMany { limit }));
}

/// What the TLS library makes of the same bytes.
#[derive(Debug, PartialEq, Eq)]
enum Oracle {
    Waits,
    Refused,
    Accepted(Option<String>, Vec<String>),
}

fn oracle(bytes: &[u8]) -> Oracle {
    let (mut acceptor, mut rest) = (Acceptor::default(), bytes);
    loop {
        match acceptor.accept() {
            Err(_) => return Oracle::Refused,
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let sni = hello
                    .server_name()
                    .map(|name| name.trim_end_matches('.').to_owned());
                let offered = hello.alpn().into_iter().flatten();
                let offered = offered.map(|name| String::from_utf8_lossy(name).into_owned());
                return Oracle::Accepted(sni, offered.collect());
            }
            Ok(None) if rest.is_empty() => return Oracle::Waits,
            Ok(None) => {}
        }
        match acceptor.read_tls(&mut rest.by_ref().take(1000)) {
            Ok(_) => {}
            Err(_) => return Oracle::Refused,
        }
    }
}

/// Both must read the same name and protocols; this parser alone may refuse.
fn agree(bytes: &[u8]) {
    let (ours, theirs) = (parse(bytes), oracle(bytes));
    match (&ours, &theirs) {
        (Ok(Progress::Hello(hello)), Oracle::Accepted(sni, offered)) => {
            assert_eq!(facts(hello), (sni.clone(), offered.clone()));
        }
        (Ok(Progress::Hello(_)) | Err(_), Oracle::Refused) | (Err(_), Oracle::Accepted(..)) => {}
        (Ok(Progress::NotTls), Oracle::Refused | Oracle::Waits) => {}
        (Ok(Progress::NeedMore), Oracle::Waits | Oracle::Refused) => {}
        (Err(_), Oracle::Waits) => {}
        _ => panic!("{ours:?} but {theirs:?}"),
    }
}

#[test]
fn the_library_reads_the_same_hello() {
    let message = made().message();
    for size in 1..=message.len() {
        let (sni, offered) = expected();
        assert_eq!(oracle(&records(&message, size)), Oracle::Accepted(sni, offered));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_without_panic_as_the_library_reads_them(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        agree(&bytes);
        agree(&[&[22, 3, 1][..], &bytes].concat());
        agree(&records(&message(1, &bytes), 100));
    }

    #[test]
    fn a_changed_hello_is_read_as_the_library_reads_it(
        at in 0usize..400,
        value in any::<u8>(),
        cut in 0usize..400,
        size in 1usize..400,
    ) {
        let mut message = made().message();
        let at = at % message.len();
        message[at] = value;
        agree(&records(&message, size));
        let mut bytes = records(&made().message(), size);
        let at = at % bytes.len();
        bytes[at] = value;
        agree(&bytes);
        bytes.truncate(cut);
        agree(&bytes);
    }

    #[test]
    fn a_verdict_does_not_depend_on_how_the_bytes_came(
        at in 0usize..400,
        value in any::<u8>(),
        size in 1usize..100,
        step in 1usize..50,
    ) {
        let mut bytes = records(&made().message(), size);
        let at = at % bytes.len();
        bytes[at] = value;
        let mut reader = Reader::default();
        let ends = (0..bytes.len()).step_by(step).chain([bytes.len()]);
        let came = ends.map(|end| reader.read(&bytes[..end])).find(|read| *read != Ok(Progress::NeedMore));
        prop_assert_eq!(came.unwrap_or(Ok(Progress::NeedMore)), parse(&bytes));
    }
}
