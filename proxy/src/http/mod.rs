//! Requests as HTTP sees them: target, authority, hop-by-hop fields, forwarding fields, bodies.
//!
//! All but `body`, `date`, `in_flight`, `interim` and the streams of HTTP/2 (`received`, `sending`, `stream`) is pure: no
//! I/O, no clock, no allocation where nothing is to be changed.

pub mod again;
pub mod authority;
pub mod body;
pub mod call;
pub mod date;
pub mod fields;
pub mod forwarded;
pub mod in_flight;
pub mod interim;
pub mod pace;
pub mod received;
mod replay;
pub mod sending;
pub mod stream;
pub mod switch;
pub mod target;
pub mod upload;
pub mod via;
