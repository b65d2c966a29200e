//! `source_criterion`: whose requests are counted together.

use super::ip_strategy::IpStrategy;

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceCriterion {
    /// The client's address.
    Address(IpStrategy),
    /// The value of this field; the name is lower case.
    Header(String),
    /// The host that is asked for.
    Host,
}
