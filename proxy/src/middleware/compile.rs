//! From the configuration to compiled middlewares: one arm a kind.
//!
//! Each kind's own file knows what it makes of its settings; this one must not.

use super::{
    Around, Head, Kept, Middleware,
    basic_auth::BasicAuth,
    circuit_breaker::CircuitBreaker,
    compress::Compress,
    errors::Errors,
    forward_auth::ForwardAuth,
    headers,
    in_flight::InFlight,
    ip_list::{IpList, Sense},
    limit_body::LimitBody,
    pass_tls_client_cert::PassTlsClientCert,
    path::Change,
    rate_limit::RateLimit,
    redirect::{RedirectRegex, RedirectScheme},
    retry::Retry,
};
use crate::{gate::policy::Allowlists, tls::Files};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{Config, middleware},
};

/// What making a middleware may use.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// The whole configuration.
    pub config: &'a Config,
    /// The allowlists with what their files hold.
    pub lists: &'a Allowlists,
    /// The files that the configuration names.
    pub files: &'a Files,
    /// State that outlives reloads.
    pub kept: &'a Kept,
}

/// Compiles one middleware; `None` for a chain, whose members stand where it was named.
///
/// # Errors
/// What cannot be used of that which only compiling looks at, such as files.
pub fn compile(
    name: &str,
    configured: &middleware::Middleware,
    making: Making<'_>,
) -> Result<Option<Middleware>, Vec<Diagnostic>> {
    let made = match configured {
        middleware::Middleware::Chain(_) => return Ok(None),
        // Kinds that look at the header section of a request.
        middleware::Middleware::IpAllowList(settings) => {
            head(IpList::new(name, Sense::Allow, settings, making.lists))
        }
        middleware::Middleware::IpDenyList(settings) => {
            head(IpList::new(name, Sense::Deny, settings, making.lists))
        }
        middleware::Middleware::StripPrefix(settings) => head(Change::from(settings)),
        middleware::Middleware::StripPrefixRegex(settings) => head(Change::from(settings)),
        middleware::Middleware::AddPrefix(settings) => head(Change::from(settings)),
        middleware::Middleware::ReplacePath(settings) => head(Change::from(settings)),
        middleware::Middleware::ReplacePathRegex(settings) => head(Change::from(settings)),
        middleware::Middleware::RedirectScheme(settings) => head(RedirectScheme::new(settings.clone())),
        middleware::Middleware::RedirectRegex(settings) => head(RedirectRegex::new(settings.clone())),
        middleware::Middleware::LimitBody(settings) => around(LimitBody::new(*settings)),
        middleware::Middleware::Errors(settings) => around(Errors::new(settings.clone())),
        middleware::Middleware::Headers(settings) => headers::compile(name, settings),
        // Kinds that tell servers of the client.
        middleware::Middleware::PassTlsClientCert(settings) => head(PassTlsClientCert::new(settings.clone())),
        // Kinds that wait, count or ask others.
        middleware::Middleware::BasicAuth(settings) => around(BasicAuth::new(settings, making)?),
        middleware::Middleware::ForwardAuth(settings) => around(ForwardAuth::new(name, settings, making)?),
        middleware::Middleware::RateLimit(settings) => head(RateLimit::new(name, settings, making)),
        middleware::Middleware::InFlight(settings) => around(InFlight::new(name, settings, making)),
        middleware::Middleware::Retry(settings) => around(Retry::new(name, settings, making)),
        middleware::Middleware::CircuitBreaker(settings) => {
            around(CircuitBreaker::new(name, settings, making))
        }
        middleware::Middleware::Compress(settings) => around(Compress::new(settings, making)),
    };
    Ok(Some(made))
}

fn head(made: impl Head + 'static) -> Middleware {
    Middleware::Head(Box::new(made))
}

fn around(made: impl Around + 'static) -> Middleware {
    Middleware::Around(Box::new(made))
}

/// Whether it was made of allowlists, so that it must be made anew when their contents change.
pub fn follows_lists(configured: &middleware::Middleware) -> bool {
    match configured {
        // Kinds that look at the header section of a request.
        middleware::Middleware::IpAllowList(_) | middleware::Middleware::IpDenyList(_) => true,
        middleware::Middleware::Chain(_)
        | middleware::Middleware::StripPrefix(_)
        | middleware::Middleware::StripPrefixRegex(_)
        | middleware::Middleware::AddPrefix(_)
        | middleware::Middleware::ReplacePath(_)
        | middleware::Middleware::ReplacePathRegex(_)
        | middleware::Middleware::RedirectScheme(_)
        | middleware::Middleware::RedirectRegex(_)
        | middleware::Middleware::LimitBody(_)
        | middleware::Middleware::Errors(_)
        | middleware::Middleware::Headers(_)
        | middleware::Middleware::PassTlsClientCert(_) => false,
        // Kinds that wait, count or ask others.
        middleware::Middleware::RateLimit(_) | middleware::Middleware::InFlight(_) => true,
        middleware::Middleware::BasicAuth(_)
        | middleware::Middleware::ForwardAuth(_)
        | middleware::Middleware::Retry(_)
        | middleware::Middleware::CircuitBreaker(_)
        | middleware::Middleware::Compress(_) => false,
    }
}
