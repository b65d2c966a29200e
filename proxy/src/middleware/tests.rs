//! The order of a chain, and what one that stands around the rest can do.

use super::*;
use http::{HeaderValue, StatusCode};
use std::{
    cell::RefCell,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

/// Services that answer at once with their name and what they got.
#[derive(Default)]
struct Services(RefCell<Vec<String>>);

impl Call for Services {
    fn call<'a>(&'a self, service: &'a ServiceRef, request: Request<RequestBody>) -> Answering<'a> {
        Box::pin(async move {
            let ServiceRef::Local(name) = service else {
                return Err(Fault::NoServer);
            };
            let trail = trail(request.headers());
            self.0.borrow_mut().push(format!("{name}:{trail}"));
            let first = self.0.borrow().len() == 1;
            if name == "flaky" && first {
                return Err(Fault::UpstreamFailed);
            }
            Ok(Response::new(AnswerBody::Own(Some(Bytes::from(name.clone())))))
        })
    }
}

fn trail(headers: &http::HeaderMap) -> String {
    let marks = headers.get_all("trail").iter();
    marks.filter_map(|mark| mark.to_str().ok()).collect()
}

/// Leaves its mark on the request.
#[derive(Debug)]
struct Mark(&'static str);

impl Head for Mark {
    fn pass(&self, head: &mut Parts, _: &Facts<'_>) -> Result<Pass, Fault> {
        head.headers.append("trail", HeaderValue::from_static(self.0));
        Ok(Pass::On)
    }
}

/// Answers itself.
#[derive(Debug)]
struct Stop;

impl Head for Stop {
    fn pass(&self, _: &mut Parts, _: &Facts<'_>) -> Result<Pass, Fault> {
        let mut answer = Response::new(Bytes::from_static(b"stopped"));
        *answer.status_mut() = StatusCode::FORBIDDEN;
        Ok(Pass::Answer(answer))
    }
}

/// Refuses.
#[derive(Debug)]
struct Refuse;

impl Head for Refuse {
    fn pass(&self, _: &mut Parts, _: &Facts<'_>) -> Result<Pass, Fault> {
        Err(Fault::NotProven)
    }
}

/// Asks another service first, and goes on only where that answers.
#[derive(Debug)]
struct Ask(ServiceRef);

impl Around for Ask {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(async move {
            next.call.call(&self.0, Request::new(RequestBody::Empty)).await?;
            next.run(request).await
        })
    }
}

/// Runs the rest a second time where the first failed.
#[derive(Debug)]
struct Again;

impl Around for Again {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(async move {
            let mut copy = Request::new(RequestBody::Empty);
            copy.headers_mut().clone_from(request.headers());
            match next.run(request).await {
                Err(Fault::UpstreamFailed) => next.run(copy).await,
                other => other,
            }
        })
    }
}

/// Changes the answer.
#[derive(Debug)]
struct Sign;

impl Around for Sign {
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a> {
        Box::pin(async move {
            let mut answer = next.run(request).await?;
            answer
                .headers_mut()
                .insert("signed", HeaderValue::from_static("yes"));
            Ok(answer)
        })
    }
}

fn nobody() -> Facts<'static> {
    Facts {
        client: IpAddr::from([192, 0, 2, 7]),
        certificates: None,
    }
}

fn head(middleware: impl Head + 'static) -> Arc<Middleware> {
    Arc::new(Middleware::Head(Box::new(middleware)))
}

fn around(middleware: impl Around + 'static) -> Arc<Middleware> {
    Arc::new(Middleware::Around(Box::new(middleware)))
}

/// What a chain answers, and what the services got.
fn run(
    entry: &[Arc<Middleware>],
    route: &[Arc<Middleware>],
    service: &str,
) -> (Result<Response<AnswerBody>, Fault>, Vec<String>) {
    let (services, service) = (Services::default(), ServiceRef::Local(service.to_owned()));
    let next = Next {
        chain: Chain::new(entry, route),
        facts: nobody(),
        service: &service,
        call: &services,
    };
    let answer =
        pin!(next.run(Request::new(RequestBody::Empty))).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(answer) = answer else {
        panic!("nothing here waits");
    };
    (answer, services.0.into_inner())
}

#[test]
fn the_entry_points_come_first_and_each_in_order() {
    let (answer, got) = run(
        &[head(Mark("a")), head(Mark("b"))],
        &[head(Mark("c")), around(Sign), head(Mark("d"))],
        "s",
    );
    assert_eq!(got, ["s:abcd"]);
    let answer = answer.expect("an answer");
    assert_eq!(answer.headers()["signed"], "yes");
}

#[test]
fn one_that_answers_or_refuses_ends_the_way() {
    for rest in [head(Stop), head(Refuse)] {
        let (answer, got) = run(&[head(Mark("a"))], &[around(Sign), rest, head(Mark("z"))], "s");
        assert!(got.is_empty(), "{got:?}");
        match answer {
            Ok(answer) => {
                assert_eq!(answer.status(), StatusCode::FORBIDDEN);
                assert_eq!(answer.headers()["signed"], "yes");
            }
            Err(fault) => assert_eq!(fault, Fault::NotProven),
        }
    }
}

#[test]
fn one_around_may_ask_another_service_and_refuse_by_its_word() {
    let service = |name: &str| ServiceRef::Local(name.to_owned());
    let (answer, got) = run(&[], &[head(Mark("a")), around(Ask(service("auth")))], "s");
    assert!(answer.is_ok());
    assert_eq!(got, ["auth:", "s:a"]);
    let (answer, got) = run(&[], &[around(Ask(service("flaky")))], "s");
    assert_eq!(answer.err(), Some(Fault::UpstreamFailed));
    assert_eq!(got, ["flaky:"]);
}

#[test]
fn one_around_may_run_the_rest_again_and_the_rest_begins_where_it_stood() {
    let (answer, got) = run(&[head(Mark("a"))], &[around(Again), head(Mark("b"))], "flaky");
    assert!(answer.is_ok());
    assert_eq!(got, ["flaky:ab", "flaky:ab"]);
}

#[test]
fn a_chain_of_heads_alone_ends_without_any_around() {
    let (mut parts, ()) = Request::new(()).into_parts();
    let (list, facts) = ([head(Mark("a"))], nobody());
    let mut chain = Chain::new(&[], &list);
    assert!(!chain.is_empty());
    assert!(matches!(chain.heads(&mut parts, &facts), Ok(Turn::End)));
    assert!(chain.is_empty() && trail(&parts.headers) == "a");
}
