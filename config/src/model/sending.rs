//! The PROXY header that goes out to servers, as configured. It knows no bytes.

/// The PROXY header that goes out in front of a connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendProxy {
    /// Version of the header.
    pub version: ProxyVersion,
    /// Additional facts that it carries where they are known; empty for version 1.
    pub tlvs: Vec<ProxyTlv>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// A fact that a version 2 header can carry beside the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyTlv {
    /// `authority`: the host name that the client asked for.
    Authority,
    /// `alpn`: the application protocol that was agreed with the client.
    Alpn,
    /// `ssl`: TLS version and client certificate.
    Ssl,
    /// `unique_id`: an identifier of the client's connection.
    UniqueId,
    /// `crc32c`: a checksum of the header.
    Crc32c,
}
