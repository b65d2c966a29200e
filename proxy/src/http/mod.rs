//! Requests as HTTP sees them: target, authority, hop-by-hop fields, forwarding fields, bodies.
//!
//! All but `body` is pure: no I/O, no clock, no allocation where nothing is to be changed.

pub mod authority;
pub mod body;
pub mod call;
pub mod fields;
pub mod forwarded;
pub mod target;
