//! What requests and answers go through between route and balance, in the order of the configuration.
//!
//! There are two shapes. A [`Head`] looks at the header section of a request and changes it, or answers in its
//! place; it waits for nothing, and a route that has only such ones allocates nothing for them. An [`Around`] stands
//! around all that follows: it may wait, ask others, change the answer, or ask again. What it needs of later stages
//! it gets as [`Call`]; this stage must not know servers or how one is chosen.

mod basic_auth;
mod circuit_breaker;
mod compile;
mod compress;
mod errors;
mod forward_auth;
mod guarded;
mod headers;
mod in_flight;
mod ip_list;
mod ip_strategy;
mod kept;
mod limit_body;
pub(crate) mod pace;
mod pass_tls_client_cert;
mod path;
mod rate_limit;
mod redirect;
mod retry;
mod source_criterion;

pub use compile::{Making, compile, follows_lists};
pub use compress::accepts_gzip;
pub use kept::Kept;
pub use redirect::moved;

use crate::{
    fault::Fault,
    http::{
        body::RequestBody,
        call::{AnswerBody, Answering, Call},
    },
    tls::ClientChain,
};
use bytes::Bytes;
use http::{Request, Response, request::Parts};
use sallyport_config::model::ServiceRef;
use std::{fmt::Debug, net::IpAddr, sync::Arc};

/// A compiled middleware.
#[derive(Debug)]
pub enum Middleware {
    /// Before what follows.
    Head(Box<dyn Head>),
    /// Around what follows.
    Around(Box<dyn Around>),
}

/// Looks at the header section of a request. It comes here clean: hop-by-hop fields are gone, forwarding fields
/// are ours or a trusted peer's, the target is in origin form and canonical, `Host` is what the client asked for.
pub trait Head: Debug + Send + Sync {
    /// Changes it, or answers in its place.
    ///
    /// # Errors
    /// What the client is told instead.
    fn pass(&self, head: &mut Parts, facts: &Facts<'_>) -> Result<Pass, Fault>;
}

/// What a [`Head`] decides.
#[derive(Debug)]
pub enum Pass {
    /// The request goes on.
    On,
    /// This is the answer.
    Answer(Response<Bytes>),
}

/// Stands around what follows.
pub trait Around: Debug + Send + Sync {
    /// Answers a request, most often by what `next` answers. Cancelling gives up what is under way.
    fn call<'a>(&'a self, request: Request<RequestBody>, next: Next<'a>) -> Answering<'a>;
}

/// What middlewares may know beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The client: who connected, or on an uplink whom the proven parent names.
    pub client: IpAddr,
    /// The certificates that the client showed; never a parent's.
    pub certificates: Option<&'a ClientChain>,
}

/// The middlewares that a request still has before it.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    entry: &'a [Arc<Middleware>],
    route: &'a [Arc<Middleware>],
}

/// How far the [`Head`]s of a chain lead.
pub enum Turn<'a> {
    /// To the end: the request goes to its service.
    End,
    /// To an answer.
    Answer(Response<Bytes>),
    /// To one that stands around the rest.
    Around(&'a dyn Around),
}

impl<'a> Chain<'a> {
    /// Those of the entry point, then those of the route.
    pub fn new(entry: &'a [Arc<Middleware>], route: &'a [Arc<Middleware>]) -> Self {
        Self { entry, route }
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.entry.is_empty() && self.route.is_empty()
    }

    fn pop(&mut self) -> Option<&'a Middleware> {
        let list = if self.entry.is_empty() {
            &mut self.route
        } else {
            &mut self.entry
        };
        let (first, rest) = list.split_first()?;
        *list = rest;
        Some(first)
    }

    /// Takes a request through all [`Head`]s up to the first that is none.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    pub fn heads(&mut self, head: &mut Parts, facts: &Facts<'_>) -> Result<Turn<'a>, Fault> {
        while let Some(middleware) = self.pop() {
            match middleware {
                Middleware::Around(around) => return Ok(Turn::Around(&**around)),
                Middleware::Head(looking) => {
                    if let Pass::Answer(answer) = looking.pass(head, facts)? {
                        return Ok(Turn::Answer(answer));
                    }
                }
            }
        }
        Ok(Turn::End)
    }
}

/// What follows an [`Around`]. It may be run more than once, or not at all.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    /// The middlewares that are left.
    pub chain: Chain<'a>,
    /// What is known beside the request.
    pub facts: Facts<'a>,
    /// The route's service.
    pub service: &'a ServiceRef,
    /// The stages behind, also for asking other services.
    pub call: &'a dyn Call,
}

impl<'a> Next<'a> {
    /// Takes the request through the rest of the way. Cancelling gives it up.
    pub fn run(self, request: Request<RequestBody>) -> Answering<'a> {
        Box::pin(async move {
            let Self { mut chain, .. } = self;
            let (mut head, body) = request.into_parts();
            match chain.heads(&mut head, &self.facts)? {
                Turn::Answer(answer) => Ok(answer.map(|body| AnswerBody::Own(Some(body)))),
                Turn::Around(around) => {
                    let request = Request::from_parts(head, body);
                    around.call(request, Self { chain, ..self }).await
                }
                Turn::End => {
                    let request = Request::from_parts(head, body);
                    self.call.call(self.service, request).await
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
