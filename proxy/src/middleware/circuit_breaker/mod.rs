//! `circuit_breaker`: stops asking a service that fails, for a while, and lets it come back slowly.
//!
//! Each router that names it has a state of its own, shared by the workers and kept over reloads.

mod breaker;
mod latency;
mod window;

use super::{Around, Making, Next, rate_limit::whole_seconds};
use crate::{
    fault::Fault,
    http::{
        body::RequestBody,
        call::{AnswerBody, Answering},
    },
    telemetry::Count,
};
use breaker::{Admission, Breaker, Change};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use sallyport_config::model::middleware::circuit_breaker;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// The compiled middleware.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    name: String,
    refusal: StatusCode,
    /// By router.
    breakers: HashMap<String, Arc<Breaker>>,
}

impl CircuitBreaker {
    /// Compiles it.
    pub(super) fn new(name: &str, settings: &circuit_breaker::CircuitBreaker, making: Making<'_>) -> Self {
        let named = |list: &[String]| list.iter().any(|member| member == name);
        // An entry point's stands before every router.
        let everywhere = making
            .config
            .entry_points
            .values()
            .any(|point| named(&point.middlewares));
        let routers = making.config.routers.iter();
        let routers = routers.filter(|(_, router)| everywhere || named(&router.middlewares));
        let breakers = routers.map(|(router, _)| {
            let fits = |breaker: &Breaker| breaker.settings == *settings;
            let key = format!("{name}@{router}");
            let breaker = making.kept.state(&key, fits, || Breaker::new(settings.clone()));
            (router.clone(), breaker)
        });
        Self {
            name: name.to_owned(),
            refusal: StatusCode::from_u16(settings.response_code).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            breakers: breakers.collect(),
        }
    }

    fn refuse(&self, wait: Duration) -> Response<AnswerBody> {
        let mut answer: Response<Bytes> = Fault::BreakerOpen(self.refusal).into_answer();
        let seconds = HeaderValue::from(whole_seconds(wait));
        answer.headers_mut().insert(RETRY_AFTER, seconds);
        answer.map(|body| AnswerBody::Own(Some(body)))
    }

    async fn run(
        &self,
        request: Request<RequestBody>,
        next: Next<'_>,
    ) -> Result<Response<AnswerBody>, Fault> {
        let router = next.call.router();
        let Some(breaker) = self.breakers.get(router) else {
            return next.run(request).await;
        };
        if let Admission::Refused { wait } = breaker.admit() {
            return Ok(self.refuse(wait));
        }
        let asked = Instant::now();
        let answer = next.run(request).await;
        let status = match &answer {
            Ok(answer) => answer.status(),
            Err(fault) => fault.answer().0,
        };
        let name = self.name.as_str();
        match breaker.record(status.as_u16(), asked.elapsed()) {
            Change::Opened => {
                next.call.count(Count::BreakerOpened);
                let expression = breaker.settings.expression.text();
                tracing::warn!(middleware = name, router, expression, "circuit breaker opened");
            }
            Change::Closed => tracing::info!(middleware = name, router, "circuit breaker closed"),
            Change::None => {}
        }
        answer
    }
}

impl Around for CircuitBreaker {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(self.run(request, next))
    }
}
