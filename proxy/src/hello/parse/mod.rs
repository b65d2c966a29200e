//! Parses the ClientHello at the front of a connection: which name and which protocols it asks for (RFC 8446
//! sections 4.1.2 and 5.1, RFC 6066 section 3, RFC 7301 section 3.1).
//!
//! Pure: bytes in, a verdict out, over any number of segments and records. What it reads must be what the
//! TLS library reads afterwards, because the name that chose the way must be the name of the handshake: where
//! two readers could differ, the hello is refused. It judges no cryptography; that is for whoever shakes hands.

use rustls_pki_types::ServerName;

/// The most bytes that a hello may take, headers of its records included; rustls holds no more of one either.
pub const HELLO_BYTES_MAX: usize = 0xffff;
/// The most records that a hello may be spread over.
pub const RECORDS_MAX: usize = 1024;

/// Longest plaintext of a record (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;
const SESSION_ID_BYTES_MAX: usize = 32;
/// The record's content type `handshake`.
const HANDSHAKE: u8 = 22;
/// The first byte of every version of TLS on the wire.
const VERSION_MAJOR: u8 = 3;
/// The handshake type `client_hello`.
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const APPLICATION_PROTOCOLS: u16 = 16;
/// The name type `host_name`, the only one that there is.
const HOST_NAME: u8 = 0;
const NULL_COMPRESSION: u8 = 0;

/// What a hello asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The server name, lower case and without trailing dot. `None` where there is none, and where it is an
    /// address, which is not a name (RFC 6066 section 3). Where the hello is encrypted it is the outer name.
    pub sni: Option<String>,
    /// The protocol name list as it came: each name behind its length.
    protocols: Box<[u8]>,
}

impl Hello {
    /// A hello that asks for this, for tests of what goes by it.
    #[cfg(test)]
    pub(crate) fn new(sni: Option<&str>, protocols: &[&str]) -> Self {
        let mut listed = Vec::new();
        for protocol in protocols {
            listed.push(u8::try_from(protocol.len()).expect("short"));
            listed.extend_from_slice(protocol.as_bytes());
        }
        Self {
            sni: sni.map(str::to_owned),
            protocols: listed.into(),
        }
    }

    /// The application protocols that are offered, in the client's order.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Cursor(&self.protocols);
        std::iter::from_fn(move || rest.list8())
    }
}

/// How far a reading came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All bytes so far fit, but the hello is not complete.
    NeedMore,
    /// The first bytes are no handshake record: some other protocol.
    NotTls,
    /// The hello.
    Hello(Hello),
}

/// Why bytes that begin as TLS are no acceptable hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// A record without a byte.
    #[error("a record is empty")]
    EmptyRecord,
    /// A record longer than TLS allows.
    #[error("a record has {got} bytes, at most {limit} are allowed")]
    RecordTooLong {
        /// What its header says.
        got: usize,
        /// 2^14.
        limit: usize,
    },
    /// Another record, or none of TLS, inside the hello.
    #[error("the hello is interrupted by other bytes")]
    Interrupted,
    /// Spread too thin.
    #[error("the hello is spread over more than {limit} records")]
    RecordsTooMany {
        /// [`RECORDS_MAX`].
        limit: usize,
    },
    /// More bytes than a hello may have.
    #[error("the hello has more than {limit} bytes")]
    TooLong {
        /// [`HELLO_BYTES_MAX`].
        limit: usize,
    },
    /// Another handshake message.
    #[error("the first handshake message is of type {got}, expected 1")]
    NotAHello {
        /// Its type.
        got: u8,
    },
    /// A handshake message right behind the hello, in its last record.
    #[error("bytes follow the hello in its record")]
    Followed,
    /// A field that is cut off, empty where it must not be, or longer than it may be.
    #[error("the field `{field}` is malformed")]
    Malformed {
        /// Its name in the specification.
        field: &'static str,
    },
    /// Bytes behind the last extension.
    #[error("bytes follow the extensions")]
    TrailingBytes,
    /// An extension twice.
    #[error("extension {extension} is there twice")]
    Duplicate {
        /// Its type.
        extension: u16,
    },
    /// The server name is not exactly one host name.
    #[error("the server name is not exactly one host name")]
    BadServerName,
}

/// Reads a hello piece by piece, each byte once, however the pieces are cut.
#[derive(Debug, Default)]
pub struct Reader {
    /// Where the next record begins.
    at: usize,
    records: usize,
    /// The handshake message so far.
    message: Vec<u8>,
}

impl Reader {
    /// Reads on. `bytes` are all bytes of the connection so far: those of the call before, then newer ones.
    ///
    /// # Errors
    /// Why they are no acceptable hello. The reader is of no use afterwards.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Progress, HelloError> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            match record(rest, self.records == 0)? {
                Record::Partial => return Ok(Progress::NeedMore),
                Record::Other => return Ok(Progress::NotTls),
                Record::Announced(length) => {
                    self.account(length)?;
                    let end = RECORD_HEADER_BYTES + length;
                    let Some(payload) = rest.get(RECORD_HEADER_BYTES..end) else {
                        return Ok(Progress::NeedMore);
                    };
                    self.message.extend_from_slice(payload);
                    self.at += end;
                    self.records += 1;
                }
            }
            if let Some(body) = body(&self.message)? {
                return hello(body).map(Progress::Hello);
            }
        }
    }

    /// Whether there is room for one more record of so many bytes.
    fn account(&self, length: usize) -> Result<(), HelloError> {
        if self.records == RECORDS_MAX {
            return Err(HelloError::RecordsTooMany { limit: RECORDS_MAX });
        }
        if self.at + RECORD_HEADER_BYTES + length > HELLO_BYTES_MAX {
            return Err(HelloError::TooLong {
                limit: HELLO_BYTES_MAX,
            });
        }
        Ok(())
    }
}

/// Reads all of `bytes` at once.
///
/// # Errors
/// As [`Reader::read`].
pub fn parse(bytes: &[u8]) -> Result<Progress, HelloError> {
    Reader::default().read(bytes)
}

/// What stands where a record should.
enum Record {
    /// Too little to tell.
    Partial,
    /// No handshake record, and the first bytes of all: another protocol.
    Other,
    /// A handshake record with so many bytes behind its header.
    Announced(usize),
}

fn record(bytes: &[u8], is_first: bool) -> Result<Record, HelloError> {
    let foreign = || {
        if is_first {
            Ok(Record::Other)
        } else {
            Err(HelloError::Interrupted)
        }
    };
    match *bytes {
        [kind, ..] if kind != HANDSHAKE => foreign(),
        [_, major, ..] if major != VERSION_MAJOR => foreign(),
        [_, _, _, high, low, ..] => match usize::from(u16::from_be_bytes([high, low])) {
            0 => Err(HelloError::EmptyRecord),
            got if got > RECORD_BYTES_MAX => Err(HelloError::RecordTooLong {
                got,
                limit: RECORD_BYTES_MAX,
            }),
            length => Ok(Record::Announced(length)),
        },
        _ => Ok(Record::Partial),
    }
}

/// The body of the handshake message, once it is whole.
fn body(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    let &[kind, high, middle, low, ref rest @ ..] = message else {
        return match message.first() {
            Some(&got) if got != CLIENT_HELLO => Err(HelloError::NotAHello { got }),
            _ => Ok(None),
        };
    };
    if kind != CLIENT_HELLO {
        return Err(HelloError::NotAHello { got: kind });
    }
    let limit = HELLO_BYTES_MAX;
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = usize::try_from(length).map_err(|_| HelloError::TooLong { limit })?;
    if length > limit - MESSAGE_HEADER_BYTES {
        return Err(HelloError::TooLong { limit });
    }
    match rest.len().cmp(&length) {
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Equal => Ok(Some(rest)),
        std::cmp::Ordering::Greater => Err(HelloError::Followed),
    }
}

fn hello(body: &[u8]) -> Result<Hello, HelloError> {
    let field = |field| HelloError::Malformed { field };
    let mut rest = Cursor(body);
    rest.take(2).ok_or(field("legacy_version"))?;
    rest.take(32).ok_or(field("random"))?;
    rest.list8()
        .filter(|id| id.len() <= SESSION_ID_BYTES_MAX)
        .ok_or(field("legacy_session_id"))?;
    rest.list16()
        .filter(|suites| !suites.is_empty() && suites.len().is_multiple_of(2))
        .ok_or(field("cipher_suites"))?;
    rest.list8()
        .filter(|methods| methods.contains(&NULL_COMPRESSION))
        .ok_or(field("legacy_compression_methods"))?;
    if rest.is_empty() {
        // TLS 1.2 lets a hello end here.
        return Ok(Hello::default());
    }
    let listed = rest.list16().ok_or(field("extensions"))?;
    if !rest.is_empty() {
        return Err(HelloError::TrailingBytes);
    }
    extensions(listed)
}

fn extensions(listed: &[u8]) -> Result<Hello, HelloError> {
    let mut rest = Cursor(listed);
    let mut seen = Vec::new();
    let mut found = Hello::default();
    while !rest.is_empty() {
        let read = rest.u16().and_then(|kind| Some((kind, rest.list16()?)));
        let (kind, data) = read.ok_or(HelloError::Malformed { field: "extensions" })?;
        seen.push(kind);
        match kind {
            SERVER_NAME => found.sni = server_name(data)?,
            APPLICATION_PROTOCOLS => found.protocols = protocols(data)?.into(),
            _ => {}
        }
    }
    seen.sort_unstable();
    let twice = seen.windows(2).find_map(|pair| match *pair {
        [one, other] if one == other => Some(one),
        _ => None,
    });
    match twice {
        Some(extension) => Err(HelloError::Duplicate { extension }),
        None => Ok(found),
    }
}

/// The one host name of a server name extension. Libraries differ in what they make of two names, of other
/// kinds of name and of bytes behind the name, so none of these is accepted.
fn server_name(data: &[u8]) -> Result<Option<String>, HelloError> {
    let mut whole = Cursor(data);
    let listed = whole.list16().filter(|_| whole.is_empty());
    let mut names = Cursor(listed.ok_or(HelloError::BadServerName)?);
    let kind = names.take(1).and_then(|kind| kind.first().copied());
    let name = names.list16().filter(|_| names.is_empty());
    let (Some(HOST_NAME), Some(name)) = (kind, name) else {
        return Err(HelloError::BadServerName);
    };
    match ServerName::try_from(name) {
        Ok(ServerName::DnsName(name)) => {
            let name = name.as_ref();
            Ok(Some(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()))
        }
        Ok(ServerName::IpAddress(_)) => Ok(None),
        _ => Err(HelloError::BadServerName),
    }
}

/// The list of a protocol negotiation extension: names of at least one byte, at least one of them.
fn protocols(data: &[u8]) -> Result<&[u8], HelloError> {
    let malformed = HelloError::Malformed {
        field: "protocol_name_list",
    };
    let mut whole = Cursor(data);
    let listed = whole.list16().filter(|list| whole.is_empty() && !list.is_empty());
    let listed = listed.ok_or(malformed)?;
    let mut names = Cursor(listed);
    while !names.is_empty() {
        names.list8().filter(|name| !name.is_empty()).ok_or(malformed)?;
    }
    Ok(listed)
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    }

    /// Bytes behind a length of one byte.
    fn list8(&mut self) -> Option<&'a [u8]> {
        let length = *self.take(1)?.first()?;
        self.take(length.into())
    }

    /// Bytes behind a length of two bytes.
    fn list16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests;
