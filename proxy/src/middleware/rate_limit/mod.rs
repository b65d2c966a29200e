//! `rate_limit`: so many requests of a source in a time, for the whole process.
//!
//! A request is never held back to fit: it passes, or is answered 429 with the time after which it would.

mod buckets;

use super::{Facts, Head, Making, Pass, source_criterion::SourceCriterion};
use crate::fault::Fault;
use buckets::Buckets;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header::RETRY_AFTER, request::Parts};
use sallyport_config::model::middleware::rate_limit;
use std::{sync::Arc, time::Duration};

const RETRY_IN: HeaderName = HeaderName::from_static("x-retry-in");

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct RateLimit {
    source: SourceCriterion,
    buckets: Arc<Buckets>,
}

impl RateLimit {
    /// Compiles it; its buckets stay over reloads while its settings do.
    pub(super) fn new(name: &str, settings: &rate_limit::RateLimit, making: Making<'_>) -> Self {
        Self {
            source: SourceCriterion::new(&settings.source, making.lists),
            buckets: making.kept.state(
                name,
                |buckets: &Buckets| buckets.settings == *settings,
                || Buckets::new(settings.clone()),
            ),
        }
    }
}

impl Head for RateLimit {
    fn pass(&self, head: &mut Parts, facts: &Facts<'_>) -> Result<Pass, Fault> {
        let source = self.source.of(&self.buckets.keys, &head.headers, facts);
        let source = source.ok_or(Fault::SourceForbidden(StatusCode::FORBIDDEN))?;
        match self.buckets.take(source) {
            Ok(()) => Ok(Pass::On),
            Err(wait) => Ok(Pass::Answer(refusal(wait))),
        }
    }
}

fn refusal(wait: Duration) -> Response<Bytes> {
    let mut answer = Fault::RateExceeded.into_answer();
    let headers = answer.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    let exactly = HeaderValue::from_str(&format!("{}ms", wait.as_millis().saturating_add(1)));
    if let Ok(exactly) = exactly {
        headers.insert(RETRY_IN, exactly);
    }
    answer
}

/// The seconds of `Retry-After`, never too few.
pub(super) fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs()
        .saturating_add(u64::from(wait.subsec_nanos() > 0))
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_to_come_again_and_never_too_early() {
        for (wait, seconds) in [(1, 1), (999_999_999, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            let answer = refusal(Duration::from_nanos(wait));
            assert_eq!(answer.headers()[RETRY_AFTER], seconds.to_string(), "{wait}");
            assert_eq!(answer.status(), 429);
            assert_eq!(crate::fault::of(&answer), Some(Fault::RateExceeded));
        }
        assert_eq!(refusal(Duration::from_millis(1500)).headers()[RETRY_IN], "1501ms");
    }
}
