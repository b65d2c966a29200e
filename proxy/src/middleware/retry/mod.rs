//! `retry`: asks again where that is safe, and only as often as a budget lets it.
//!
//! What no server has seen may go out again whatever it is; what one may have seen only where its method is idempotent
//! (RFC 9110 section 9.2.2). Either only while nobody has read of its body. It must not know servers: what follows chooses
//! one anew for each try.

mod budget;

use super::{Around, Making, Next};
use crate::{
    fault::Fault,
    http::{
        body::{Lender, RequestBody},
        call::{AnswerBody, Answering},
        switch::Switch,
    },
    io::{self, Instant},
    telemetry::Count,
};
use budget::Budget;
use http::{Method, Request, Response};
use sallyport_config::model::middleware::retry;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct Retry {
    settings: retry::Retry,
    budget: Arc<Budget>,
}

impl Retry {
    /// Compiles it; its budget stays over reloads while it is the same.
    pub(super) fn new(name: &str, settings: &retry::Retry, making: Making<'_>) -> Self {
        let (percent, least) = (settings.budget_percent, settings.budget_min);
        Self {
            budget: making.kept.state(
                name,
                |budget: &Budget| budget.is_of(percent, least),
                || Budget::new(percent, least),
            ),
            settings: settings.clone(),
        }
    }

    async fn run(
        &self,
        request: Request<RequestBody>,
        next: Next<'_>,
    ) -> Result<Response<AnswerBody>, Fault> {
        self.budget.earn();
        let started = Instant::now();
        let (head, body) = request.into_parts();
        // A connection that is to leave HTTP leaves it once.
        if head.extensions.get::<Switch>().is_some() {
            return next.run(Request::from_parts(head, body)).await;
        }
        let method = head.method.clone();
        let mut lender = Lender::new(body);
        let mut left = self.settings.attempts.saturating_sub(1);
        let mut pause = self.settings.initial_interval;
        let mut spare = (left > 0).then(|| head.clone());
        let mut head = head;
        loop {
            let answer = next.run(Request::from_parts(head, lender.lend())).await;
            let Some(copied) = spare.take() else { return answer };
            if !self.is_wanted(&answer, &method, &lender) || !self.may_wait(started, pause) {
                return answer;
            }
            if !self.budget.spend() {
                next.call.count(Count::RetryBudgetSpent);
                return answer;
            }
            drop(answer);
            if !pause.is_zero() {
                io::sleep(jittered(pause)).await;
            }
            next.call.count(Count::Retried);
            left -= 1;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
            spare = (left > 0).then(|| copied.clone());
            head = copied;
        }
    }

    /// Whether what came is worth another try, and another try safe.
    fn is_wanted(
        &self,
        answer: &Result<Response<AnswerBody>, Fault>,
        method: &Method,
        lender: &Lender,
    ) -> bool {
        let safe = match answer {
            Err(fault) if fault.is_unreached() => true,
            Err(Fault::UpstreamFailed | Fault::UpstreamSilent) => method.is_idempotent(),
            Err(_) => false,
            Ok(answer) => {
                let status = answer.status().as_u16();
                let listed = self.settings.status.iter().any(|range| range.contains(&status));
                listed && method.is_idempotent()
            }
        };
        safe && lender.is_untouched()
    }

    fn may_wait(&self, started: Instant, pause: Duration) -> bool {
        let timeout = self.settings.timeout;
        timeout.is_none_or(|timeout| started.elapsed().saturating_add(pause) < timeout)
    }
}

impl Around for Retry {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(self.run(request, next))
    }
}

/// From half of a pause to one and a half: many that failed at once must not come again at once.
fn jittered(pause: Duration) -> Duration {
    let permille = RandomState::new().hash_one(0_u8) % 1000;
    let permille = u32::try_from(permille).unwrap_or(0);
    pause / 2 + pause.saturating_mul(permille) / 1000
}

#[cfg(test)]
mod tests;
