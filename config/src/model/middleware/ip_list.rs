//! `ip_allow_list` and `ip_deny_list`: who is let in, and who is kept out.

use super::ip_strategy::IpStrategy;
use crate::model::SourceRef;

/// `[middlewares.NAME.ip_allow_list]` or `[middlewares.NAME.ip_deny_list]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpList {
    /// Prefixes and allowlists, never empty.
    pub sources: Vec<SourceRef>,
    /// The status of a refusal, from 400 to 599.
    pub reject_status: u16,
    /// Which address counts.
    pub ip_strategy: IpStrategy,
}
