//! The gate's word on its policy: a connection to its socket that is told of every change, made again when it breaks.
//!
//! It says what it heard last and decides nothing.

use crate::gate::Announcement;
use serde::Deserialize;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::watch,
    task::AbortHandle,
};

/// The request for every change of the policy.
const REQUEST: &[u8] = b"watch\n";
/// The largest line.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How long the first word may take.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// Between two attempts, at first and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// After the gate said that it does not tell: it is an older one, and asking it fills its log.
const AGAIN_REFUSED: Duration = Duration::from_secs(60);

/// What is known of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing yet.
    Nothing,
    /// It cannot be heard, and why.
    Silent(String),
    /// Its last word.
    Policy(Announcement),
}

/// A line of the gate's.
#[derive(Debug, Deserialize)]
struct Line {
    policy: Option<Announcement>,
    error: Option<String>,
}

/// Listens until it is dropped.
pub(super) struct Subscription {
    socket: PathBuf,
    heard: watch::Receiver<Said>,
    task: AbortHandle,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscription {
    /// Listens on a gate's socket.
    pub(super) fn new(socket: PathBuf) -> Self {
        let (say, heard) = watch::channel(Said::Nothing);
        let task = tokio::task::spawn_local(listen(socket.clone(), say));
        Self {
            socket,
            heard,
            task: task.abort_handle(),
        }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits for news and returns the last. Dropping this loses nothing.
    pub(super) async fn next(&mut self) -> Said {
        if self.heard.changed().await.is_err() {
            // The task ends with `self` alone.
            std::future::pending::<()>().await;
        }
        self.heard.borrow_and_update().clone()
    }
}

/// Why nothing is heard.
#[derive(Debug, thiserror::Error)]
enum Unheard {
    #[error("it does not answer: {0}")]
    Io(#[from] io::Error),
    #[error("it ended the conversation")]
    Ended,
    #[error("it does not tell its policy: {0}")]
    Refused(String),
    #[error("its answer is not understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
}

async fn listen(socket: PathBuf, say: watch::Sender<Said>) {
    let mut pause = AGAIN.0;
    loop {
        let unheard = hear(&socket, &say).await;
        let heard = matches!(*say.borrow(), Said::Policy(_));
        pause = match unheard {
            _ if heard => AGAIN.0,
            Unheard::Refused(_) => AGAIN_REFUSED,
            _ => (pause * 2).min(AGAIN.1),
        };
        say.send_if_modified(|said| {
            let now = Said::Silent(unheard.to_string());
            let news = *said != now;
            *said = now;
            news
        });
        tokio::time::sleep(pause).await;
    }
}

/// Passes on what the gate says, until it says no more.
async fn hear(socket: &Path, say: &watch::Sender<Said>) -> Unheard {
    let first = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(REQUEST).await?;
        let mut stream = BufReader::new(stream);
        let first = line(&mut stream).await?;
        Ok((first, stream))
    };
    let first = tokio::time::timeout(FIRST_WORD, first).await;
    let (mut announced, mut stream) =
        match first.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
            Ok(heard) => heard,
            Err(unheard) => return unheard,
        };
    loop {
        say.send_replace(Said::Policy(announced));
        announced = match line(&mut stream).await {
            Ok(next) => next,
            Err(unheard) => return unheard,
        };
    }
}

async fn line(stream: &mut BufReader<UnixStream>) -> Result<Announcement, Unheard> {
    let mut text = String::new();
    stream.take(LINE_BYTES_MAX).read_line(&mut text).await?;
    if text.is_empty() {
        return Err(Unheard::Ended);
    }
    let line: Line = serde_json::from_str(&text)?;
    match (line.policy, line.error) {
        (Some(policy), _) => Ok(policy),
        (None, Some(error)) => Err(Unheard::Refused(error)),
        (None, None) => Err(Unheard::Ended),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_counts_what_is_tried_or_why_not() {
        let digest = "ab".repeat(32);
        let read = |text: &str| serde_json::from_str::<Line>(text);
        let settled =
            format!(r#"{{"policy":{{"generation":7,"digest":"{digest}","mode":"enforce","trial":null}}}}"#);
        let policy = read(&settled).expect("a line").policy.expect("a policy");
        assert_eq!((policy.digest, policy.trial), (digest.parse().ok(), None));
        let trial = format!(
            r#"{{"policy":{{"generation":8,"digest":null,"mode":"enforce","trial":{{"digest":"{digest}","mode":"observe","deadline_ns":12}}}}}}"#
        );
        let policy = read(&trial).expect("a line").policy.expect("a policy");
        assert_eq!(policy.digest, None);
        assert_eq!(policy.trial.expect("a trial").deadline_ns, 12);
        assert_eq!(
            read(r#"{"error":"no"}"#).expect("a line").error.as_deref(),
            Some("no")
        );
        for wrong in [
            "",
            "{",
            r#"{"policy":{"digest":"ab"}}"#,
            r#"{"policy":{"generation":1,"mode":"off","digest":null,"trial":{}}}"#,
        ] {
            read(wrong).expect_err(wrong);
        }
    }
}
