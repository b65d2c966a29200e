//! One probe of a TCP server: a connection, what is sent on it, and what the server begins with.

use super::probe::Complaint;
use crate::{
    io::Stream,
    preamble::write::{self, Ends, Facts},
    upstream::Pool,
};
use sallyport_config::model::{sending::SendProxy, service::TcpHealthCheck, tcp::ServerAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Probes the server at `at`. Cancelling closes the connection.
pub(super) async fn ask(
    pool: &Pool,
    at: &ServerAddress,
    check: &TcpHealthCheck,
    proxy_protocol: Option<&SendProxy>,
) -> Result<(), Complaint> {
    let port = check.port.unwrap_or(at.port);
    let mut stream = pool
        .dial(&at.host, port, None)
        .await
        .map_err(Complaint::Unanswered)?;
    // The gateway asks for itself, so the header says `LOCAL`.
    let header = proxy_protocol.map(|sending| write::header(sending, Ends::Own, &Facts::default()));
    let said = [header.unwrap_or_default(), check.send.clone().into_bytes()].concat();
    if !said.is_empty() {
        let sent = async {
            stream.write_all(&said).await?;
            stream.flush().await
        };
        sent.await.map_err(Complaint::Unsaid)?;
    }
    expect(&mut stream, check.expect.as_bytes()).await
}

/// Reads as much as is expected, and no more.
async fn expect(stream: &mut Stream, expected: &[u8]) -> Result<(), Complaint> {
    let mut came = vec![0; expected.len()];
    let mut length = 0;
    while length < expected.len() {
        let rest = came.get_mut(length..).unwrap_or_default();
        let count = stream.read(rest).await.map_err(Complaint::Unsaid)?;
        length += count;
        let same = came.get(..length) == expected.get(..length);
        if count == 0 || !same {
            return Err(Complaint::Unexpected { length });
        }
    }
    Ok(())
}
