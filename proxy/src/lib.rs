//! Sallyport's library: the stages of a connection's way, in order, and what they stand on.

// What the stages stand on.
pub mod fault;
pub mod io;
pub mod telemetry;

// The outer gate, a process of its own, and its policy.
pub mod gate;

// The stages, in the order of a connection's way.
pub mod accept;
pub mod balance;
pub mod health;
pub mod hello;
pub mod http;
pub mod middleware;
pub mod preamble;
pub mod route;
pub mod tls;
pub mod tunnel;
pub mod uplink;
pub mod upstream;

// Assembly.
pub mod access_log;
pub mod cli;
pub mod control;
pub mod serve;
pub mod snapshot;
pub mod worker;
