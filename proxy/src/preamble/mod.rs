//! What stands in front of a connection's own bytes: the PROXY protocol.
//!
//! The parser is pure. Who may send a header is the caller's to decide, before it reads the first byte.

pub mod crc32c;
pub mod parse;
