//! The I/O seam: the only place that knows which driver moves the bytes.
//!
//! Three drivers stand behind one set of types: `ring` (completions, an executor and timers of its own), `uring`
//! (tokio-uring, completions) and tokio on epoll (readiness). Above this folder nobody names a runtime: futures are spawned, put to sleep and given
//! deadlines by the functions here, and bytes move through [`Stream`], which is poll based and can be
//! peeked. A worker thread runs one driver; all values of this module stay on the thread that made them.
//!
//! This folder must not know what the bytes mean.

mod buffer;
mod connect;
mod listener;
mod memory;
mod probe;
mod reset;
mod ring;
mod runtime;
mod sleep;
mod stream;
mod taken;
mod transport;
mod uring;
mod whole;

#[cfg(test)]
mod tests;

pub use connect::{connect, connect_unix, resolve};
pub use listener::{Accepted, Ahead, Listener, Sharing, bind};
pub use memory::release_memory;
pub use probe::{Choice, DriverKind, choose};
pub use runtime::{AbortHandle, Elapsed, Task, TaskEnded, Timeout, detach, run, spawn, timeout, turn};
pub use sleep::{LocalTimer, Sleep, sleep, sleep_until};
pub use stream::{PEEK_MAX, Stream};
pub use transport::Transport;
pub use whole::{Stamp, WholeError, read_whole};

pub use tokio::time::Instant;
