//! What a trusted sender says of a connection beyond addresses: the fields of a PROXY v2 header that are kept.
//!
//! Facts for logs and forwarding fields. They prove nothing: no route, TLS policy or client certificate check may
//! be satisfied by them.

use std::fmt::{self, Write};

/// The facts of one header. A connection has them only where its header had such fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asserted {
    /// `PP2_TYPE_AUTHORITY`: the host name that the client asked for, such as its SNI.
    pub authority: Option<Told>,
    /// `PP2_TYPE_ALPN`: the identifier of the application protocol.
    pub alpn: Option<Told>,
    /// `PP2_TYPE_UNIQUE_ID`: the sender's name for the connection, opaque.
    pub unique_id: Option<Told>,
    /// `PP2_TYPE_NETNS`: the network namespace that the sender got the connection in.
    pub netns: Option<Told>,
    /// `PP2_TYPE_SSL`: how the client spoke TLS with the sender.
    pub tls: Option<AssertedTls>,
}

impl Asserted {
    /// Whether the client spoke TLS with the sender.
    pub fn over_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.client.over_tls())
    }

    /// Each fact that was said, under its name in logs, as one printable line.
    pub fn said(&self) -> Vec<(&'static str, String)> {
        let mut said = Vec::new();
        let mut say = |name, told: &Option<Told>| {
            if let Some(told) = told {
                said.push((name, told.to_string()));
            }
        };
        say("authority", &self.authority);
        say("alpn", &self.alpn);
        say("unique_id", &self.unique_id);
        say("netns", &self.netns);
        let Some(tls) = &self.tls else { return said };
        say("tls_version", &tls.version);
        say("tls_cn", &tls.common_name);
        say("tls_cipher", &tls.cipher);
        say("tls_sig_alg", &tls.signature_algorithm);
        say("tls_key_alg", &tls.key_algorithm);
        say("tls_group", &tls.group);
        say("tls_sig_scheme", &tls.signature_scheme);
        said.push(("tls", tls.client.over_tls().to_string()));
        said.push(("tls_certificate", tls.client.certificate().to_string()));
        said.push(("tls_verify", tls.verify.to_string()));
        said
    }
}

/// `PP2_TYPE_SSL` with its own fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssertedTls {
    /// What the client did.
    pub client: ClientBits,
    /// The sender's result of verifying the client's certificate; 0 is verified, or that there was none.
    pub verify: u32,
    /// The TLS version, such as `TLSv1.3`.
    pub version: Option<Told>,
    /// The Common Name of the client's certificate.
    pub common_name: Option<Told>,
    /// The cipher, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: Option<Told>,
    /// How the sender's certificate is signed, such as `RSA-SHA256`.
    pub signature_algorithm: Option<Told>,
    /// The key of the sender's certificate, such as `RSA2048`.
    pub key_algorithm: Option<Told>,
    /// The group of the key exchange, such as `X25519`.
    pub group: Option<Told>,
    /// The scheme of the handshake's signature.
    pub signature_scheme: Option<Told>,
}

impl AssertedTls {
    /// Whether the sender verified a certificate of the client.
    pub fn verified(&self) -> bool {
        self.verify == 0 && self.client.certificate()
    }
}

/// `client` of `PP2_TYPE_SSL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientBits(pub u8);

impl ClientBits {
    const SSL: u8 = 0x01;
    const CERT_CONN: u8 = 0x02;
    const CERT_SESS: u8 = 0x04;

    /// The client spoke TLS.
    pub fn over_tls(self) -> bool {
        self.0 & Self::SSL != 0
    }

    /// The client showed a certificate, on this connection or an earlier one of its TLS session.
    pub fn certificate(self) -> bool {
        self.0 & (Self::CERT_CONN | Self::CERT_SESS) != 0
    }

    /// The client showed it on this connection.
    pub fn certificate_now(self) -> bool {
        self.0 & Self::CERT_CONN != 0
    }
}

/// Bytes of a sender. Shown, they are one printable line: control characters, backslashes and what is not UTF-8 are
/// escaped, so that no client forges a line of a log through its load balancer. A header holds at most 4 KiB of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told(Box<[u8]>);

impl Told {
    /// Takes them as they are.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// As they came; not for a log, a header field or a label.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                // Line and paragraph separators end a line for some readers of logs.
                if letter.is_control() || matches!(letter, '\\' | '\u{2028}' | '\u{2029}') {
                    write!(f, "{}", letter.escape_default())?;
                } else {
                    f.write_char(letter)?;
                }
            }
            write!(f, "{}", chunk.invalid().escape_ascii())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Asserted, AssertedTls, ClientBits, Told};

    #[test]
    fn text_of_a_sender_is_one_printable_line() {
        for (bytes, text) in [
            (&b"a.example"[..], "a.example"),
            (
                "b\u{fc}cher.example \u{4f8b}".as_bytes(),
                "b\u{fc}cher.example \u{4f8b}",
            ),
            (
                b"a\nlevel=error \x1b[31m\t\0\x7f",
                "a\\nlevel=error \\u{1b}[31m\\t\\u{0}\\u{7f}",
            ),
            (b"back\\slash", "back\\\\slash"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            ("\u{85}\u{2028}".as_bytes(), "\\u{85}\\u{2028}"),
            (b"", ""),
        ] {
            assert_eq!(Told::new(bytes).to_string(), text);
            assert_eq!(Told::new(bytes).as_bytes(), bytes);
        }
    }

    #[test]
    fn a_certificate_is_verified_only_where_there_was_one() {
        let tls = |client, verify| AssertedTls {
            client: ClientBits(client),
            verify,
            ..AssertedTls::default()
        };
        assert!(!tls(0x01, 0).verified());
        assert!(tls(0x03, 0).verified());
        assert!(tls(0x05, 0).verified());
        assert!(!tls(0x07, 1).verified());
        let asserted = |client| Asserted {
            tls: Some(tls(client, 0)),
            ..Asserted::default()
        };
        assert!(asserted(0x01).over_tls());
        assert!(!asserted(0x06).over_tls());
        assert!(!Asserted::default().over_tls());
    }

    #[test]
    fn what_was_said_comes_out_and_no_more() {
        assert_eq!(Asserted::default().said(), []);
        let asserted = Asserted {
            alpn: Some(Told::new(b"h2")),
            tls: Some(AssertedTls {
                client: ClientBits(3),
                common_name: Some(Told::new(b"eve\n")),
                ..AssertedTls::default()
            }),
            ..Asserted::default()
        };
        let expected = [
            ("alpn", "h2"),
            ("tls_cn", "eve\\n"),
            ("tls", "true"),
            ("tls_certificate", "true"),
            ("tls_verify", "0"),
        ];
        assert_eq!(
            asserted.said(),
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }
}
