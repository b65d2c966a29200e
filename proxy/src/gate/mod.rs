//! The outer gate: a process that keeps an XDP or TC program on the interfaces of gated ports.
//!
//! It loads, attaches, fills, pins and watches; it never serves a packet and never mounts bpffs. What it
//! attached stays when it ends: only `gate off` takes the filter away. `policy` and `compile` are pure and
//! shared with the check at accept.

mod attach;
mod client;
mod compile;
mod daemon;
mod error;
mod interfaces;
mod link;
pub mod lists;
mod maps;
mod netlink;
mod object;
mod off;
mod pins;
pub mod policy;
#[allow(dead_code, reason = "`gate apply` calls it")]
mod preflight;
mod records;
mod socket;
mod status;
mod surroundings;
pub mod watch;

pub use client::status;
pub use daemon::run;
pub use error::GateError;
pub use off::{Reach, off};
pub use socket::{ANSWER_BYTES_MAX, STATUS_REQUEST};
pub use status::Status;
