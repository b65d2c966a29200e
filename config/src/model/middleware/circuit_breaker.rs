//! `circuit_breaker`: stops asking a service that fails.

use crate::condition::Condition;
use std::time::Duration;

/// `circuit_breaker`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// What opens it.
    pub expression: Condition,
    /// How often that is looked at.
    pub check_period: Duration,
    /// How long nothing passes.
    pub fallback_duration: Duration,
    /// How long after that until everything passes again.
    pub recovery_duration: Duration,
    /// What clients get meanwhile.
    pub response_code: u16,
    /// Answers without which `expression` is not looked at.
    pub request_threshold: u64,
}
