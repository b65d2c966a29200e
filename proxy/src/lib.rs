//! Sallyport's library: the stages of a connection's way, in order, and what they stand on.

pub mod io;
pub mod preamble;
pub mod tls;
