//! `headers`: fields that are set or taken away, CORS, and what tells browsers to be careful.

use super::pattern::Pattern;

/// `[middlewares.NAME.headers]`. Names are in lower case, and names and values are such as a message can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Changes of requests; `host` is never taken away.
    pub request: Vec<Change>,
    /// What tells browsers to be careful, in every answer.
    pub security: Vec<Change>,
    /// `Strict-Transport-Security`.
    pub strict_transport: Option<StrictTransport>,
    /// Changes of answers, after those of `security`.
    pub response: Vec<Change>,
    /// Which pages of others may read the answers.
    pub cors: Option<Cors>,
    /// The hosts that may be asked for.
    pub hosts: Option<Hosts>,
}

/// A change of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The field's name.
    pub name: String,
    /// Its new value; `None` takes it away.
    pub value: Option<String>,
}

/// `sts_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictTransport {
    /// The value of the field.
    pub value: String,
    /// Also in answers to requests that came in the clear.
    pub force: bool,
    /// Fields by which a proxy in front tells that a request came by TLS: names in lower case and values.
    pub secure_by: Vec<(String, String)>,
}

/// `access_control_*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Which origins; never empty.
    pub origins: Vec<Origin>,
    /// `Access-Control-Allow-Credentials`; never beside [`Origin::Any`].
    pub credentials: bool,
    /// `Access-Control-Allow-Headers`.
    pub headers: Vec<String>,
    /// `Access-Control-Allow-Methods`.
    pub methods: Vec<String>,
    /// `Access-Control-Expose-Headers`.
    pub exposed: Vec<String>,
    /// `Access-Control-Max-Age`, in seconds.
    pub max_age: Option<u64>,
    /// Whether answers say that they vary with the origin.
    pub vary: bool,
}

/// An origin whose pages may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `*`.
    Any,
    /// This one.
    Exact(String),
    /// Those that this takes as a whole.
    Matching(Pattern),
}

/// `allowed_hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// In lower case and without port; never empty.
    pub allowed: Vec<String>,
    /// Whether `X-Forwarded-Host` of a trusted peer counts in place of `Host`.
    pub forwarded: bool,
}
