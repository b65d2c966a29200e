//! `circuit_breaker`.

use super::MiddlewareDraft;
use crate::{
    condition::Condition,
    model::middleware::{Middleware, circuit_breaker::CircuitBreaker},
    reader::Table,
    section::{Names, router},
};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(1);
const CHECK_PERIOD: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(10);
const RESPONSE_CODE: u16 = 503;

/// Reads its table.
pub(super) fn read(table: &Table<'_>, _: &mut Names) -> Option<MiddlewareDraft> {
    let pause = |key: &str| table.duration_from(key, SHORTEST, PAUSE);
    let code = table
        .get("response_code")
        .and_then(|value| value.integer(400..=599));
    let threshold = table
        .get("request_threshold")
        .and_then(|value| value.integer(1..=1_000_000_000));
    let expression = table.need(
        "expression",
        "what opens it, such as `NetworkErrorRatio() > 0.30`",
    );
    let expression = expression.and_then(|value| router::rule(&value, Condition::parse));
    let (check_period, fallback_duration, recovery_duration) = (
        table.duration_from("check_period", SHORTEST, CHECK_PERIOD),
        pause("fallback_duration"),
        pause("recovery_duration"),
    );
    Some(MiddlewareDraft::made(Middleware::CircuitBreaker(
        CircuitBreaker {
            expression: expression?,
            check_period,
            fallback_duration,
            recovery_duration,
            response_code: code
                .and_then(|code| u16::try_from(code).ok())
                .unwrap_or(RESPONSE_CODE),
            request_threshold: threshold
                .and_then(|number| u64::try_from(number).ok())
                .unwrap_or(1),
        },
    )))
}
