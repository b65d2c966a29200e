//! The ClientHello of a connection, looked at before anybody answers it: by its server name and protocols a
//! connection is passed through, relayed or served.
//!
//! It consumes nothing: whoever comes next reads the same bytes. It knows no routers.

pub mod parse;

use crate::io::{self, Stream};
use parse::{Hello, HelloError, Progress, Reader};
use std::time::Duration;

/// What a client begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// A hello.
    Hello(Hello),
    /// Another protocol.
    NotTls,
    /// What begins as TLS and is no acceptable hello.
    Refused(HelloError),
}

/// Why there is nothing to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloFault {
    /// The first bytes did not come in time.
    #[error("no complete hello in time")]
    Timeout,
    /// The client went away first.
    #[error("closed before the hello was complete")]
    Closed,
}

/// Reads ahead until it is clear what the client begins with. Cancelling loses nothing.
///
/// # Errors
/// Where the connection must be closed.
pub async fn peek(stream: &mut Stream, deadline: Option<Duration>) -> Result<First, HelloFault> {
    let reading = async {
        let mut reader = Reader::default();
        loop {
            match reader.read(stream.peeked()) {
                Ok(Progress::Hello(hello)) => return Ok(First::Hello(hello)),
                Ok(Progress::NotTls) => return Ok(First::NotTls),
                Err(error) => return Ok(First::Refused(error)),
                Ok(Progress::NeedMore) => {}
            }
            if !stream.peek().await.is_ok_and(|came| came > 0) {
                return Err(HelloFault::Closed);
            }
        }
    };
    io::timeout(deadline, reading)
        .await
        .map_err(|_| HelloFault::Timeout)?
}
