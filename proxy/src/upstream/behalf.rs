//! On whose behalf a request goes to a server, and the connections that one client connection has to itself.
//!
//! A PROXY header speaks of one connection. So a connection to a server that began with one serves the requests of
//! that client connection alone, and ends with it.

use super::{Pool, Server, pool::Shelf};
use crate::{
    http::interim::Interim,
    preamble::write::{self, Ends, Facts},
};
use sallyport_config::model::sending::SendProxy;
use std::{cell::OnceCell, rc::Rc};

/// Who asks.
#[derive(Clone, Copy)]
pub enum Behalf<'a> {
    /// The gateway itself, such as a poll of a child.
    Gateway,
    /// A client, by one of its connections.
    Client(&'a dyn Downstream),
}

/// A client connection, as servers are told of it, and the way back by which one of its requests came.
pub trait Downstream {
    /// The connections that it has to itself.
    fn own(&self) -> &Own;

    /// The header that `sending` asks for.
    fn header(&self, sending: &SendProxy) -> Vec<u8>;

    /// Whether there is a client who would understand interim answers to this request.
    fn takes_interim(&self) -> bool;

    /// Passes interim answers on, each whole, as far as that is still possible.
    fn interim(&self, answers: Vec<Interim>);
}

/// The connections that a client connection has to itself. Nothing is allocated before there is one.
#[derive(Default)]
pub struct Own(OnceCell<Rc<Shelf>>);

impl Behalf<'_> {
    /// Where connections to `server` are kept for the requests that may use them.
    pub(super) fn shelf<'s>(&'s self, server: &Server, pool: &'s Pool) -> &'s Rc<Shelf> {
        match (self, &server.transport.proxy_protocol) {
            (Self::Client(client), Some(_)) => client.own().0.get_or_init(|| pool.new_shelf()),
            // The gateway's own connections say `LOCAL`, and no client's request meets them.
            (Self::Gateway, Some(_)) | (_, None) => &pool.shared,
        }
    }

    /// Whether interim answers are of use.
    pub(super) fn takes_interim(&self) -> bool {
        matches!(self, Self::Client(client) if client.takes_interim())
    }

    /// Passes interim answers on to the client.
    pub(super) fn interim(&self, answers: Vec<Interim>) {
        if let Self::Client(client) = self
            && !answers.is_empty()
        {
            client.interim(answers);
        }
    }

    /// What goes out in front of a new connection to `server`.
    pub(super) fn header(&self, server: &Server) -> Option<Vec<u8>> {
        let sending = server.transport.proxy_protocol.as_ref()?;
        Some(match self {
            Self::Client(client) => client.header(sending),
            Self::Gateway => write::header(sending, Ends::Own, &Facts::default()),
        })
    }
}
