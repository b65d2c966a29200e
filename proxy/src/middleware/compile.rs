//! From the configuration to compiled middlewares: one arm a kind.
//!
//! Each kind's own file knows what it makes of its settings; this one must not.

use super::{
    Kept, Middleware,
    ip_list::{IpList, Sense},
    pass_tls_client_cert::PassTlsClientCert,
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
            Middleware::Head(Box::new(IpList::new(name, Sense::Allow, settings, making.lists)))
        }
        middleware::Middleware::IpDenyList(settings) => {
            Middleware::Head(Box::new(IpList::new(name, Sense::Deny, settings, making.lists)))
        }
        // Kinds that tell servers of the client.
        middleware::Middleware::PassTlsClientCert(settings) => {
            Middleware::Head(Box::new(PassTlsClientCert::new(settings.clone())))
        } // Kinds that wait, count or ask others.
    };
    Ok(Some(made))
}

/// Whether it was made of allowlists, so that it must be made anew when their contents change.
pub fn follows_lists(configured: &middleware::Middleware) -> bool {
    match configured {
        middleware::Middleware::Chain(_) => false,
        // Kinds that look at the header section of a request.
        middleware::Middleware::IpAllowList(_) | middleware::Middleware::IpDenyList(_) => true,
        // Kinds that tell servers of the client.
        middleware::Middleware::PassTlsClientCert(_) => false,
        // Kinds that wait, count or ask others.
    }
}
