//! What is tried again and what never is.

use super::super::{Chain, Facts, Kept};
use super::*;
use crate::{gate::policy::Allowlists, http::call::Call, tls::Files};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body::Body;
use sallyport_config::model::ServiceRef;
use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

/// A service that fails so many times by `fault`, reading of the body first where it does so.
struct Service {
    failures: Cell<u32>,
    fault: Fault,
    reads: bool,
    got: RefCell<Vec<Method>>,
}

impl Call for Service {
    fn call<'a>(&'a self, _: &'a ServiceRef, request: Request<RequestBody>) -> Answering<'a> {
        Box::pin(async move {
            self.got.borrow_mut().push(request.method().clone());
            if self.reads {
                let mut body = request.into_body();
                let _ = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
            }
            if self.failures.get() == 0 {
                return Ok(Response::new(AnswerBody::Own(None)));
            }
            self.failures.set(self.failures.get() - 1);
            match self.fault {
                Fault::NoServer => {
                    let mut answer = Response::new(AnswerBody::Own(None));
                    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    Ok(answer)
                }
                fault => Err(fault),
            }
        })
    }
}

fn settings(attempts: u32) -> retry::Retry {
    retry::Retry {
        attempts,
        initial_interval: Duration::ZERO,
        timeout: None,
        status: vec![503..=503],
        budget_percent: 20,
        budget_min: 10,
    }
}

/// How often the service was asked, and whether it answered in the end.
fn run(
    settings: retry::Retry,
    request: Request<RequestBody>,
    fault: Fault,
    failures: u32,
    reads: bool,
) -> (usize, bool) {
    let service = Service {
        failures: Cell::new(failures),
        fault,
        reads,
        got: RefCell::default(),
    };
    let (name, lists, kept) = (
        ServiceRef::Local("s".to_owned()),
        Allowlists::default(),
        Kept::default(),
    );
    let (config, files) = (
        sallyport_config::parse(&[]).expect("empty"),
        Files::new("/".as_ref()),
    );
    let making = Making {
        config: &config,
        lists: &lists,
        files: &files,
        kept: &kept,
    };
    let retry = Retry::new("again", &settings, making);
    let next = Next {
        chain: Chain::new(&[], &[]),
        facts: Facts {
            client: "192.0.2.1".parse().expect("an address"),
            certificates: None,
        },
        service: &name,
        call: &service,
    };
    let answer = pin!(retry.call(request, next)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(answer) = answer else {
        panic!("nothing here waits");
    };
    let answered = answer.is_ok_and(|answer| answer.status() == StatusCode::OK);
    (service.got.into_inner().len(), answered)
}

fn request(method: Method, body: &'static str) -> Request<RequestBody> {
    let body = if body.is_empty() {
        RequestBody::Empty
    } else {
        RequestBody::Whole(Some(Bytes::from_static(body.as_bytes())))
    };
    let mut request = Request::new(body);
    *request.method_mut() = method;
    request
}

#[test]
fn an_idempotent_request_is_tried_again_until_it_is_answered() {
    for fault in [
        Fault::UpstreamFailed,
        Fault::UpstreamSilent,
        Fault::Unreached,
        Fault::NoServer,
    ] {
        assert_eq!(
            run(settings(3), request(Method::GET, ""), fault, 2, false),
            (3, true),
            "{fault:?}"
        );
        assert_eq!(
            run(settings(3), request(Method::GET, ""), fault, 9, false),
            (3, false),
            "{fault:?}"
        );
        assert_eq!(
            run(settings(1), request(Method::GET, ""), fault, 1, false),
            (1, false),
            "{fault:?}"
        );
    }
    assert_eq!(
        run(settings(3), request(Method::GET, ""), Fault::BadRequest, 1, false),
        (1, false)
    );
}

#[test]
fn what_a_server_may_have_seen_goes_out_once_unless_it_is_idempotent() {
    for fault in [Fault::UpstreamFailed, Fault::UpstreamSilent, Fault::NoServer] {
        assert_eq!(
            run(settings(3), request(Method::POST, ""), fault, 1, false),
            (1, false),
            "{fault:?}"
        );
    }
    for fault in [Fault::Unreached, Fault::UnreachedSilent] {
        assert_eq!(
            run(settings(3), request(Method::POST, "x"), fault, 1, false),
            (2, true),
            "{fault:?}"
        );
    }
}

#[test]
fn a_body_that_somebody_read_of_goes_out_once() {
    for method in [Method::PUT, Method::POST] {
        let fault = Fault::Unreached;
        assert_eq!(
            run(settings(3), request(method.clone(), "x"), fault, 1, true),
            (1, false)
        );
        assert_eq!(run(settings(3), request(method, "x"), fault, 1, false), (2, true));
    }
}

#[test]
fn the_budget_ends_it_and_so_does_what_is_bound_to_the_request() {
    let broke = retry::Retry {
        budget_min: 0,
        ..settings(9)
    };
    assert_eq!(
        run(broke, request(Method::GET, ""), Fault::UpstreamFailed, 9, false),
        (1, false)
    );
    let mut bound = request(Method::GET, "");
    bound.extensions_mut().insert(Switch {
        protocol: HeaderValue::from_static("websocket"),
    });
    assert_eq!(
        run(settings(3), bound, Fault::UpstreamFailed, 1, false),
        (1, false)
    );
    let late = retry::Retry {
        timeout: Some(Duration::from_nanos(1)),
        ..settings(9)
    };
    assert_eq!(
        run(late, request(Method::GET, ""), Fault::UpstreamFailed, 9, false),
        (1, false)
    );
}

#[test]
fn pauses_differ_and_keep_near_their_length() {
    let pause = Duration::from_millis(100);
    let pauses: Vec<Duration> = (0..100).map(|_| jittered(pause)).collect();
    let fits = |found: &Duration| (pause / 2..pause * 3 / 2).contains(found);
    assert!(pauses.iter().all(fits), "{pauses:?}");
    assert!(pauses.iter().any(|found| found != &pauses[0]));
}
