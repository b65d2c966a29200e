//! The driver itself.
