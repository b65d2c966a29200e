//! The kinds that send clients elsewhere.

use super::pattern::Pattern;
use std::num::NonZeroU16;

/// `[middlewares.NAME.redirect_scheme]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectScheme {
    /// `http` or `https`.
    pub scheme: Web,
    /// The port of the new URL; `None` is the scheme's own.
    pub port: Option<NonZeroU16>,
    /// Whether clients may remember it.
    pub permanent: bool,
}

/// `[middlewares.NAME.redirect_regex]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectRegex {
    /// What is replaced in the whole URL.
    pub pattern: Pattern,
    /// By what; `$1` stands for a group.
    pub replacement: String,
    /// Whether clients may remember it.
    pub permanent: bool,
}

/// The schemes of the web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Web {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Web {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a URL does not write.
    pub fn usual_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}
