//! The outer gate: a process that keeps an XDP or TC program on the interfaces of gated ports.
//!
//! It loads, attaches, fills, pins and watches; it never serves a packet and never mounts bpffs. What it
//! attached stays when it ends: only `gate off` takes the filter away. `policy` and `compile` are pure and
//! shared with the check at accept.

mod apply;
mod attach;
mod client;
mod compile;
mod daemon;
#[cfg(test)]
mod differential_tests;
mod engine;
mod error;
mod events;
mod explain;
mod fallback;
mod inputs;
mod interfaces;
mod keeper;
mod link;
pub mod lists;
mod maps;
mod memory;
mod mirror;
mod netlink;
mod object;
mod off;
mod pins;
pub mod policy;
mod preflight;
mod records;
mod report;
mod rights;
mod socket;
mod status;
mod surroundings;
mod tally;
mod top;
pub mod watch;

pub use client::{Applied, Apply, ApplyAnswer, apply, confirm, status};
pub use compile::check;
pub use daemon::{Configured, Reread, run};
pub use error::GateError;
pub use explain::{Explanation, Question, explain};
pub use off::{Reach, off};
pub use preflight::{Cut, Refusal};
pub use socket::{ANSWER_BYTES_MAX, STATUS_REQUEST};
pub use status::{Announcement, InterfaceStatus, PolicyStatus, Status, TrialStatus};
pub use top::{Form, InterfaceCounts, Pace, PolicyCounts, Rounds, SourceCount, Top, top};
