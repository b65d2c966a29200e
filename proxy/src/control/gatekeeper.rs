//! Entry points that wait for the gate: with `gate.required` the proxy does not listen before the gate says
//! that the interfaces are filtered. Losing the gate's socket later closes no open listener.

use super::state::State;
use crate::gate::{ANSWER_BYTES_MAX, STATUS_REQUEST, Status};
use sallyport_config::model::{Config, EntryPoint, GateMode};
use std::{collections::BTreeMap, io, path::Path, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// How often the gate is asked while something waits for it.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How long the gate may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Asks the gate for its status.
///
/// # Errors
/// Where it does not answer, or not in words that this version knows.
pub(super) async fn fetch_status(socket: &Path) -> io::Result<Status> {
    let asked = tokio::time::timeout(ANSWER_LIMIT, async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(STATUS_REQUEST.as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream.take(ANSWER_BYTES_MAX))
            .read_line(&mut line)
            .await?;
        let mut answer: serde_json::Value = serde_json::from_str(&line)?;
        let status = answer
            .get_mut("status")
            .map(serde_json::Value::take)
            .unwrap_or_default();
        Ok(serde_json::from_value(status)?)
    });
    asked
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether a kernel filter is wanted anywhere, and so a gate that can be asked.
pub(super) fn is_used(config: &Config) -> bool {
    let mut gates = config
        .entry_points
        .values()
        .filter_map(|entry| entry.gate.as_ref());
    gates.any(|gate| !gate.interfaces.is_empty())
}

/// The entry points of `config` that need the gate, with what they wait for.
pub(super) fn held(config: &Config) -> BTreeMap<String, String> {
    if config.gate.mode == GateMode::Off {
        return BTreeMap::new();
    }
    let required = config.entry_points.iter().filter_map(|(name, entry)| {
        let gate = entry.gate.as_ref().filter(|gate| gate.required)?;
        Some((
            name.clone(),
            format!("waits for the gate on {}", gate.interfaces.join(", ")),
        ))
    });
    required.collect()
}

/// [`held`], without the entry points that are open already.
pub(super) fn held_now(state: &State, config: &Config) -> BTreeMap<String, String> {
    let mut held = held(config);
    held.retain(|name, _| !state.is_open(name));
    held
}

/// Asks the gate until nothing waits for it any more.
pub(super) fn watch(state: &Rc<State>) {
    if let Some(before) = state.gate_watch.take() {
        before.abort();
    }
    if held_now(state, &state.config()).is_empty() {
        return;
    }
    let state_of_task = Rc::clone(state);
    let task = tokio::task::spawn_local(async move {
        let mut said = BTreeMap::new();
        loop {
            let config = state_of_task.config();
            let waiting = still_waiting(&state_of_task, &config).await;
            if said != waiting {
                for (entry, why) in &waiting {
                    tracing::warn!(entry, why, "not listening");
                }
                said.clone_from(&waiting);
            }
            open(&state_of_task, &waiting).await;
            if waiting.is_empty() {
                return;
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    });
    *state.gate_watch.borrow_mut() = Some(task.abort_handle());
}

async fn open(state: &State, waiting: &BTreeMap<String, String>) {
    match state.prepare(waiting) {
        Ok(prepared) => state.commit(prepared).await,
        Err(error) => tracing::error!(%error, "cannot listen"),
    }
}

/// What the gate has not attached yet.
async fn still_waiting(state: &State, config: &Config) -> BTreeMap<String, String> {
    let mut waiting = held_now(state, config);
    if waiting.is_empty() {
        return waiting;
    }
    let status = match fetch_status(&config.gate.socket).await {
        Ok(status) => status,
        Err(error) => {
            let socket = config.gate.socket.display();
            for why in waiting.values_mut() {
                *why = format!("the gate does not answer on `{socket}`: {error}; start `sallyport gate run`");
            }
            return waiting;
        }
    };
    waiting.retain(|name, why| {
        let missing = config
            .entry_points
            .get(name)
            .map(|entry| unfiltered(&status, entry))
            .unwrap_or_default();
        *why = format!(
            "the gate does not filter {}; `sallyport gate status` says why",
            missing.join(", ")
        );
        !missing.is_empty()
    });
    waiting
}

/// The ports and interfaces of an entry point that the gate does not filter: not attached, or started with a
/// configuration that did not name them.
fn unfiltered(status: &Status, entry: &EntryPoint) -> Vec<String> {
    let Some(gate) = &entry.gate else {
        return Vec::new();
    };
    let own = [entry.address.port()];
    let ports = if gate.ports.is_empty() {
        &own[..]
    } else {
        &gate.ports
    };
    let filters = |interface: &String, port: &u16| status.filters(interface, *port);
    let pairs = gate
        .interfaces
        .iter()
        .flat_map(|name| ports.iter().map(move |port| (name, port)));
    pairs
        .filter(|(interface, port)| !filters(interface, port))
        .map(|(interface, port)| format!("port {port} on `{interface}`"))
        .collect()
}
