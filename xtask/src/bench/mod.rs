//! `cargo xtask bench NAME`: what the program costs, beside its peers, in one run.

pub(crate) mod gate;
pub(crate) mod peers;
mod programs;
pub(crate) mod routes;
