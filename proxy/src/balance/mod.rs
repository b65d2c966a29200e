//! Which server's turn it is.
//!
//! A [`Group`] is servers that share requests, as places in a list with their weights and standings; what they are is
//! not known here. How they stand ([`Standing`]) is of the whole process: probes and workers write it, all workers
//! read it, and it outlives reloads. Whose turn it is ([`Picker`]) is a worker's own: shares hold for each worker and
//! so for the process.

mod group;
mod line;
mod moment;
mod picker;
mod round_robin;
mod standing;
mod sticky;
mod tried;

#[cfg(test)]
mod simulation;

pub use group::{Asked, Group, Lease, Member, NoSeat, Pick, Rules, Seat};
pub use line::Line;
pub use moment::Moment;
pub use picker::{Picker, key_of};
pub use round_robin::{FULL_SHARE, RoundRobin};
pub use standing::{Change, Health, Outcome, Standing};
pub use sticky::{KEY_BYTES, Sticky, StickyKey};
pub use tried::{ATTEMPTS_MAX, Tried};
