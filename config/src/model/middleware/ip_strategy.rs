//! `ip_strategy`: which address a middleware takes for the client's.

use crate::model::SourceRef;
use std::num::NonZeroUsize;

/// `ip_strategy` of a middleware that goes by addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpStrategy {
    /// Where the address is taken from.
    pub picked: Picked,
    /// An IPv6 address stands for its network of this length, from 1 to 128.
    pub ipv6_subnet: Option<u8>,
}

/// Where a client's address is taken from. `X-Forwarded-For` holds what trusted peers said, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Picked {
    /// Who connected, or the client that a PROXY header or a proven parent names.
    #[default]
    Client,
    /// `depth`: the nth hop of `X-Forwarded-For` from the right.
    Depth(NonZeroUsize),
    /// `excluded_ips`: the first hop from the right that is none of these.
    Excluding(Vec<SourceRef>),
}
