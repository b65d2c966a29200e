//! Requests as HTTP sees them: target, authority, hop-by-hop fields, forwarding fields, bodies.
//!
//! All but `body` and `interim` is pure: no I/O, no clock, no allocation where nothing is to be changed.

pub mod again;
pub mod authority;
pub mod body;
pub mod call;
pub mod fields;
pub mod forwarded;
pub mod interim;
pub mod pace;
mod replay;
pub mod switch;
pub mod target;
pub mod upload;
pub mod via;
