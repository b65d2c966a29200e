//! Uplinks: what a child says of itself and counts of its parents, and what a parent makes of its children.
//!
//! Pure: the conversation itself is the control thread's (parent) and the request's (child).

pub mod audience;
pub mod context;
pub mod directory;
pub mod usage;
pub mod wire;
