//! The parsers of a connection's first bytes, of a request's target and of rules beside readers of another hand, on
//! generated and mutated bytes.
//!
//! `cargo xtask fuzz proxy`, `hello`, `target` and `rule` run these tests for longer.
#![allow(clippy::panic, clippy::indexing_slicing, reason = "this is how a test fails")]

mod corpus;
mod hello;
mod lanes;
mod mutate;
mod preamble;
#[path = "../gate_packets/random.rs"]
mod random;
mod rule;
mod target;
