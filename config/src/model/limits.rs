//! What an entry point allows a connection: deadlines, limits, and the redirect that stands in place of routing.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

/// `entry_points.NAME.timeouts`; `None` is `"0s"`, no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// First to last byte of a request's header section; default 10 s.
    pub read_header: Option<Duration>,
    /// First to last byte of the whole request; default 60 s.
    pub read: Option<Duration>,
    /// The whole response; default none.
    pub write: Option<Duration>,
    /// Between requests; default 180 s.
    pub idle: Option<Duration>,
    /// TLS handshake; default 10 s.
    pub tls_handshake: Option<Duration>,
    /// PROXY header; default 5 s.
    pub proxy_header: Option<Duration>,
    /// A body that stands still for the client's part, either way; default 60 s.
    pub body_idle: Option<Duration>,
    /// Age at which a connection takes no more requests; default none.
    pub keep_alive_max_time: Option<Duration>,
}

/// `entry_points.NAME.limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a header section; default 64 KiB.
    pub header_bytes_max: usize,
    /// Header fields of a request; default 100.
    pub headers_max: usize,
    /// HTTP/2 streams that a connection may have under way; default 250.
    pub h2_streams_max: u32,
    /// HTTP/2 streams that a client may reset beyond those that it lets finish; default 200.
    pub h2_resets_max: u32,
    /// HTTP/2 frames about the connection beyond those that its traffic explains; default 1000.
    pub h2_control_frames_max: u32,
    /// Connections of one client address in the whole process; default no limit.
    pub connections_per_ip_max: Option<NonZeroU32>,
    /// Bytes a second by which a body may outlive `timeouts.read`; default 1 KiB, `None` is strict.
    pub body_rate_min: Option<NonZeroU64>,
    /// Requests of a connection; default no limit.
    pub keep_alive_max_requests: Option<NonZeroU32>,
}

/// `entry_points.NAME.redirect`, its target resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The scheme of the target.
    pub scheme: RedirectScheme,
    /// Its port.
    pub port: u16,
    /// Whether clients may remember it; default yes.
    pub permanent: bool,
}

/// `redirect.scheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectScheme {
    /// `http`
    Http,
    /// `https`
    Https,
}
