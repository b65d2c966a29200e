//! Requests that may have to be sent more than once.

use super::body::RequestBody;
use bytes::Bytes;
use http::Request;
use std::{any::Any, sync::Arc};

/// What a request takes along into all of its copies. Only what was told by another gateway, or is told to one, is here.
#[derive(Clone, Debug, Default)]
pub struct Luggage {
    /// What the gateway before this one told of the client, in its words.
    pub told: Option<Arc<dyn Any + Send + Sync>>,
    /// What the next one is told, before it is sealed for a connection.
    pub unsealed: Option<Bytes>,
}

/// Takes a request out of its place, where one without anything stays: what an `async fn` is given by value it carries
/// around in every state, so a request is taken only where it is sent.
pub fn take(request: &mut Request<RequestBody>) -> Request<RequestBody> {
    std::mem::replace(request, Request::new(RequestBody::Empty))
}

/// The same request once more, with a body of which up to `bytes_max` are remembered as they pass; extensions are not
/// copied.
pub fn once_more(request: &mut Request<RequestBody>, bytes_max: usize) -> Request<RequestBody> {
    let body = request.body_mut().remembered(bytes_max);
    same_head(request, body)
}

/// Another request with the same method, target, version, fields and luggage; other extensions are not copied.
pub fn same_head<A, B>(request: &Request<A>, body: B) -> Request<B> {
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    if let Some(luggage) = request.extensions().get::<Luggage>() {
        copy.extensions_mut().insert(luggage.clone());
    }
    copy
}
