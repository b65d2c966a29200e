//! A TLS client on rustls, for thousands of handshakes and for hellos whose bytes are in the caller's hand.
//!
//! openssl and curl are the second opinion; this one is for numbers and for splitting. It knows of HTTP/1.1 only
//! where an answer ends.

use crate::certs::Identity;
use crate::openssl::Version;
use anyhow::{Context, Result, bail};
use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Threads that do the arithmetic of handshakes at once. Thousands would leave a gateway on the same machine no CPU,
/// and what is seen then is the scheduler's fairness.
const TURNS: usize = 2;

/// Who may compute now.
#[derive(Debug)]
struct Turns {
    free: Mutex<usize>,
    back: Condvar,
}

static FREE_TURNS: Turns = Turns {
    free: Mutex::new(TURNS),
    back: Condvar::new(),
};

impl Turns {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, which ends with the value.
    fn take(&self) -> Turn<'_> {
        let free = self.back.wait_while(self.count(), |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Turn { turns: self }
    }
}

/// One turn.
#[derive(Debug)]
struct Turn<'t> {
    turns: &'t Turns,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.turns.count() += 1;
        self.turns.back.notify_one();
    }
}

/// Which groups and suites are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// What rustls offers by itself, the post-quantum hybrid among it.
    Usual,
    /// X25519 and AES-128-GCM alone: what every peer has, so that all do the same work.
    Common,
}

/// A client: whom it trusts, what it shows, what it remembers of sessions.
#[derive(Clone, Debug)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts `ca` alone, shows `identity` where one is asked for, speaks `version` or either, offers HTTP/1.1.
    ///
    /// # Errors
    /// Where a file cannot be used.
    pub fn new(
        ca: &Path,
        identity: Option<&Identity>,
        version: Option<Version>,
        offer: Offer,
    ) -> Result<TlsClient> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let versions: &[&rustls::SupportedProtocolVersion] = match version {
            None => rustls::ALL_VERSIONS,
            Some(Version::Tls12) => &[&rustls::version::TLS12],
            Some(Version::Tls13) => &[&rustls::version::TLS13],
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider(offer)))
            .with_protocol_versions(versions)?
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&identity.cert)?.collect();
                let key = PrivateKeyDer::from_pem_file(&identity.key)?;
                builder.with_client_auth_cert(chain?, key)?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(TlsClient {
            config: Arc::new(config),
        })
    }

    /// Trusts `ca` alone and shows a certificate with a key, whether they belong together or not, in TLS 1.3.
    ///
    /// # Errors
    /// Where a file cannot be used.
    pub fn with_pair(ca: &Path, certificate: &Path, key: &Path) -> Result<TlsClient> {
        let provider = provider(Offer::Usual);
        let key = provider
            .key_provider
            .load_private_key(PrivateKeyDer::from_pem_file(key)?)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)?.collect();
        // Not `from_der`: that would see that they do not match.
        let pair = Arc::new(CertifiedKey::new(chain?, key));
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca)? {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
        Ok(TlsClient {
            config: Arc::new(config),
        })
    }

    /// The same client, with a memory for sessions of its own.
    #[must_use]
    pub fn that_resumes(&self) -> TlsClient {
        let mut config = ClientConfig::clone(&self.config);
        config.resumption = Resumption::in_memory_sessions(8);
        TlsClient {
            config: Arc::new(config),
        }
    }

    /// The same client, offering HTTP/2 alone.
    #[must_use]
    pub fn over_http2(&self) -> TlsClient {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsClient {
            config: Arc::new(config),
        }
    }

    /// A handshake that has not begun.
    ///
    /// # Errors
    /// Where `name` is no server name.
    pub fn begin(&self, name: &str) -> Result<ClientConnection> {
        let name = ServerName::try_from(name.to_owned())?;
        let _turn = FREE_TURNS.take();
        Ok(ClientConnection::new(Arc::clone(&self.config), name)?)
    }

    /// Shakes hands over a connection.
    ///
    /// # Errors
    /// Where the server refuses, is refused, or is gone. In TLS 1.3 a client learns that its certificate is
    /// refused at its first reading.
    pub fn shake(&self, tcp: TcpStream, name: &str) -> Result<Session> {
        Session::finish(self.begin(name)?, tcp)
    }
}

/// The bytes that a connection wants to send now.
///
/// # Errors
/// Where there are none to be had.
pub fn outgoing(connection: &mut ClientConnection) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

fn provider(offer: Offer) -> CryptoProvider {
    let usual = aws_lc_rs::default_provider();
    match offer {
        Offer::Usual => usual,
        Offer::Common => CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            cipher_suites: vec![
                aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
                aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ],
            ..usual
        },
    }
}

/// An established connection.
#[derive(Debug)]
pub struct Session {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Session {
    /// Goes on with a handshake whose first bytes the caller has sent.
    ///
    /// # Errors
    /// As [`TlsClient::shake`].
    pub fn finish(mut connection: ClientConnection, mut tcp: TcpStream) -> Result<Session> {
        while connection.is_handshaking() {
            while connection.wants_write() {
                connection.write_tls(&mut tcp)?;
            }
            if connection.is_handshaking() && connection.read_tls(&mut tcp)? == 0 {
                bail!("the server has gone in the middle of the handshake");
            }
            let turn = FREE_TURNS.take();
            let read = connection.process_new_packets();
            drop(turn);
            if let Err(error) = read {
                // The alert that says why; the server may be gone.
                let _gone = connection.write_tls(&mut tcp);
                return Err(std::io::Error::new(ErrorKind::InvalidData, error).into());
            }
        }
        while connection.wants_write() {
            connection.write_tls(&mut tcp)?;
        }
        let stream = StreamOwned::new(connection, tcp);
        Ok(Session { stream })
    }

    /// Whether the session was resumed.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Keying material of the session (RFC 8446 section 7.5).
    ///
    /// # Errors
    /// Where the library gives none.
    pub fn keying_material(&self, label: &[u8]) -> Result<[u8; 64]> {
        Ok(self.stream.conn.export_keying_material([0; 64], label, None)?)
    }

    /// The key exchange group, by IANA's name.
    #[must_use]
    pub fn group(&self) -> Option<&'static str> {
        self.stream.conn.negotiated_key_exchange_group()?.name().as_str()
    }

    /// Asks for `/` of `host` and reads the whole answer; the connection stays.
    ///
    /// # Errors
    /// Where the connection ends before the answer does.
    pub fn get(&mut self, host: &str) -> Result<Reply> {
        self.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// Sends a request and reads the whole answer, whose length must be stated.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub fn ask(&mut self, request: &str) -> Result<Reply> {
        let sent = self.stream.write_all(request.as_bytes());
        if let Err(unsent) = sent.and_then(|()| self.stream.flush()) {
            // A peer that has refused and closed said why before; that is what counts.
            let why = self.stream.read(&mut [0; 1]).err().unwrap_or(unsent);
            return Err(why.into());
        }
        let mut bytes = Vec::new();
        let mut buffer = [0_u8; 4096];
        loop {
            if let Some(reply) = Reply::read(&bytes) {
                return Ok(reply);
            }
            let count = self.stream.read(&mut buffer)?;
            if count == 0 || bytes.len() > ANSWER_BYTES_MAX {
                bail!(
                    "no whole answer came: {:?}",
                    String::from_utf8_lossy(bytes.get(..200).unwrap_or(&bytes))
                );
            }
            bytes.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// What comes next; `None` where the connection has ended, in whatever way.
    ///
    /// # Errors
    /// Where nothing comes within `limit`.
    pub fn receive(&mut self, limit: Duration) -> Result<Option<Vec<u8>>> {
        self.stream.sock.set_read_timeout(Some(limit))?;
        let mut buffer = vec![0_u8; 16 * 1024];
        let read = self.stream.read(&mut buffer);
        self.stream.sock.set_read_timeout(None)?;
        match read {
            Ok(0) => Ok(None),
            Ok(count) => {
                buffer.truncate(count);
                Ok(Some(buffer))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("the connection is open, and nothing came within {limit:?}")
            }
            Err(_) => Ok(None),
        }
    }

    /// Reads until the peer has ended the connection, whatever it still says.
    pub fn drain(mut self) {
        let mut buffer = [0_u8; 1024];
        while matches!(self.stream.read(&mut buffer), Ok(count) if count > 0) {}
    }

    /// Sends bytes that are no request.
    ///
    /// # Errors
    /// Where the connection is over.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Ok(self.stream.flush()?)
    }

    /// Sends bytes to a server that gives back what it gets, a piece at a time, and reads them again.
    ///
    /// # Errors
    /// Where the connection ends first.
    pub fn bounce(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut back = Vec::with_capacity(bytes.len());
        for piece in bytes.chunks(64 * 1024) {
            self.write_all(piece)?;
            let mut came = vec![0; piece.len()];
            self.stream.read_exact(&mut came)?;
            back.extend(came);
        }
        Ok(back)
    }

    /// Sends bytes past TLS and reads what comes to the end of the connection; whether that was no reset. Like a client
    /// that has written ahead and reads later.
    #[must_use]
    pub fn ends_without_reset(mut self, bytes: &[u8]) -> bool {
        let mut rest = Vec::new();
        let written = self.stream.sock.write_all(bytes);
        written.is_ok() && self.stream.sock.read_to_end(&mut rest).is_ok()
    }

    /// Says goodbye.
    pub fn close(mut self) {
        self.stream.conn.send_close_notify();
        // The peer may have left first.
        let _left = self.stream.conn.write_tls(&mut self.stream.sock);
    }
}

/// An HTTP/1.1 answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its header section, without the blank line.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The answer that `bytes` are, once they are whole.
    fn read(bytes: &[u8]) -> Option<Reply> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
        let lower = head.to_ascii_lowercase();
        let length: usize = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(Some(0), |length| length.trim().parse().ok())?;
        let from = end.checked_add(4)?;
        let body = bytes.get(from..from.checked_add(length)?)?.to_vec();
        let status = head.get(9..12)?.parse().ok()?;
        Some(Reply { status, head, body })
    }
}

/// The fatal alert that ended a handshake or a reading, as rustls names it.
#[must_use]
pub fn alert_of(error: &anyhow::Error) -> Option<u8> {
    let io = error.downcast_ref::<std::io::Error>()?;
    match io.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(u8::from(*alert)),
        _ => None,
    }
}

/// A hello cut into records of at most `size` bytes of handshake each (RFC 8446 section 5.1 allows it).
///
/// # Errors
/// Where `hello` is not one handshake record.
pub fn in_records(hello: &[u8], size: usize) -> Result<Vec<u8>> {
    let (header, message) = hello.split_at_checked(5).context("no whole record")?;
    let [22, major, minor, _, _] = *header else {
        bail!("no handshake record: {header:?}");
    };
    let mut out = Vec::new();
    for part in message.chunks(size.max(1)) {
        out.extend([22, major, minor]);
        out.extend(u16::try_from(part.len())?.to_be_bytes());
        out.extend_from_slice(part);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::{Reply, in_records};

    #[test]
    fn an_answer_is_whole_with_its_body() {
        assert_eq!(
            Reply::read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"),
            None
        );
        let reply = Reply::read(b"HTTP/1.1 421 M\r\ncontent-length: 2\r\n\r\nab").expect("it is whole");
        assert_eq!((reply.status, reply.text().as_str()), (421, "ab"));
    }

    #[test]
    fn records_are_cut() {
        let cut = in_records(&[22, 3, 1, 0, 3, 7, 8, 9], 2).expect("it is a record");
        assert_eq!(cut, [22, 3, 1, 0, 2, 7, 8, 22, 3, 1, 0, 1, 9]);
        assert!(in_records(&[21, 3, 1, 0, 1, 7], 2).is_err());
    }
}
