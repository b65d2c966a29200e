//! `[services]`: who answers requests, and how one of them is chosen.
//!
//! A service has servers, or leads to other services. Which of them is up is not the configuration's to know.

use super::{ServerUrl, ServiceRef};
use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

/// `[services.NAME]`.
#[derive(Clone, Debug)]
pub enum Service {
    /// Servers that share requests.
    Servers(Box<Servers>),
    /// Services that share requests.
    Weighted(Weighted),
    /// A service, and another for when it has no server.
    Failover(Failover),
    /// A service, and others that get copies.
    Mirroring(Mirroring),
}

/// Servers that share requests.
#[derive(Clone, Debug)]
pub struct Servers {
    /// At least one.
    pub servers: Vec<Server>,
    /// How one is chosen; default `wrr`.
    pub strategy: Strategy,
    /// Whether the client's `Host` goes upstream; default true.
    pub pass_host_header: bool,
    /// Name of a servers transport, defined; `default` where absent.
    pub servers_transport: String,
    /// Probes; `None`: servers are not probed.
    pub health_check: Option<HealthCheck>,
    /// Ejection of servers that fail; `None`: none is ejected.
    pub passive: Option<PassiveHealthCheck>,
    /// How long the share of a server that came back grows to its whole; zero is at once.
    pub slow_start: Duration,
    /// Requests that one server has under way at once, over all workers; `None` is any number.
    pub requests_max: Option<NonZeroU32>,
    /// Who waits where every server is full.
    pub queue: Queue,
    /// Keeps a client at one server.
    pub sticky: Option<StickyCookie>,
}

/// One server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: ServerUrl,
    /// Share of the requests; 0 gets no new clients. Default 1.
    pub weight: u32,
}

/// `strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Smooth weighted round robin.
    Wrr,
    /// Two at random, the one with fewer requests under way.
    P2c,
    /// The one that answers soonest.
    LeastTime,
    /// By the client's address.
    Hrw,
}

/// `health_check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Another protocol than the server's URL has.
    pub scheme: Option<super::Scheme>,
    /// Another port than the server's URL has.
    pub port: Option<u16>,
    /// Whether an answer that leads elsewhere at the same server is followed; default true.
    pub redirects: Redirects,
    /// `Host` of the probe; `None` is the server's own.
    pub hostname: Option<String>,
    /// More fields of the probe.
    pub headers: Vec<(String, String)>,
    /// Between two probes of a server that is up; default 30 s.
    pub interval: Duration,
    /// Between two probes of a server that is down; default `interval`.
    pub unhealthy_interval: Duration,
    /// Deadline of one probe; default 5 s.
    pub timeout: Duration,
    /// Probes in a row that must succeed until a server is up again; default 2.
    pub rise: NonZeroU32,
    /// Probes in a row that must fail until a server is down; default 3.
    pub fall: NonZeroU32,
    /// What a server is until its first probe has ended, whose outcome counts at once; default up.
    pub initial: InitialState,
}

/// `health_check.follow_redirects`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// The server is asked where its answer leads; one that leads to another server fails the probe.
    Follow,
    /// They are answers like others.
    Judge,
}

/// `tcp_services.NAME.health_check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpHealthCheck {
    /// Another port than the server's address has.
    pub port: Option<u16>,
    /// What is sent once the connection stands; empty is nothing.
    pub send: String,
    /// What the server must begin with; empty is nothing.
    pub expect: String,
    /// How often, and how many.
    pub rhythm: Rhythm,
}

/// How often a server is probed, and how many outcomes change what is thought of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    /// Between two probes of a server that is up; default 30 s.
    pub interval: Duration,
    /// Between two probes of a server that is down; default `interval`.
    pub unhealthy_interval: Duration,
    /// Deadline of one probe; default 5 s.
    pub timeout: Duration,
    /// Probes in a row that must succeed until a server is up again; default 2.
    pub rise: NonZeroU32,
    /// Probes in a row that must fail until a server is down; default 3.
    pub fall: NonZeroU32,
    /// What a server is until its first probe has ended, whose outcome counts at once; default up.
    pub initial: InitialState,
}

impl HealthCheck {
    /// How often, and how many.
    pub fn rhythm(&self) -> Rhythm {
        Rhythm {
            interval: self.interval,
            unhealthy_interval: self.unhealthy_interval,
            timeout: self.timeout,
            rise: self.rise,
            fall: self.fall,
            initial: self.initial,
        }
    }
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A request over HTTP.
    Http {
        /// Its path and query.
        path: String,
        /// Its method; default `GET`.
        method: String,
        /// The status that is wanted; `None` is any from 200 to 399.
        status: Option<u16>,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The name that is asked for; empty is the whole server.
        service: String,
    },
}

/// `health_check.initial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Asked before it was probed.
    Up,
    /// Not asked before a probe succeeded.
    Down,
}

/// `passive_health_check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealthCheck {
    /// How long failures are counted together, and how long a server that had too many is left out; default 10 s.
    pub failure_window: Duration,
    /// Failures that eject; default 1.
    pub failures_max: NonZeroU32,
}

/// `queue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests that wait at once, over all workers; default 128.
    pub waiting_max: u32,
    /// Longest wait of one; default 10 s.
    pub timeout: Duration,
}

/// `sticky.cookie`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    /// Its name; `None` is one made from the service's.
    pub name: Option<String>,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `SameSite`; `None` leaves it out.
    pub same_site: Option<SameSite>,
    /// `Max-Age`; `None` is a cookie of the session.
    pub max_age: Option<Duration>,
    /// `Path`; default `/`.
    pub path: String,
    /// `Domain`.
    pub domain: Option<String>,
}

/// `sticky.cookie.same_site`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// `none`.
    None,
    /// `lax`.
    Lax,
    /// `strict`.
    Strict,
}

/// `weighted`.
#[derive(Clone, Debug)]
pub struct Weighted {
    /// At least one, each once.
    pub services: Vec<(ServiceRef, u32)>,
    /// Keeps a client at one of them.
    pub sticky: Option<StickyCookie>,
}

/// `failover`.
#[derive(Clone, Debug)]
pub struct Failover {
    /// The service that is asked while it has a server.
    pub service: ServiceRef,
    /// The one that is asked else.
    pub fallback: ServiceRef,
    /// How long the first must have been up again before it is asked again; default 10 s.
    pub return_after: Duration,
    /// Answers of the first in whose place the other is asked.
    pub errors: Option<FailoverErrors>,
}

/// `failover.errors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverErrors {
    /// Statuses of such answers; at least one.
    pub status: Vec<RangeInclusive<u16>>,
    /// How much of a request body is remembered for that; default 64 KiB. A request with a longer one is not sent again.
    pub body_bytes_max: u64,
}

impl FailoverErrors {
    /// Whether an answer of this status is one.
    pub fn holds(&self, status: u16) -> bool {
        self.status.iter().any(|range| range.contains(&status))
    }
}

/// `mirroring`.
#[derive(Clone, Debug)]
pub struct Mirroring {
    /// The service that answers.
    pub service: ServiceRef,
    /// Those that get copies.
    pub mirrors: Vec<Mirror>,
    /// Whether copies have bodies; default true.
    pub body: MirrorBody,
}

/// One of `mirroring.mirrors`.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Who gets the copy.
    pub service: ServiceRef,
    /// Of how many requests in a hundred.
    pub percent: u32,
}

/// `mirroring.mirror_body` and `mirroring.max_body_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorBody {
    /// Copies have the request's body; a request with a longer one has no copy.
    UpTo(u64),
    /// Copies have none.
    None,
}

impl Service {
    /// The services that it leads to.
    pub fn leads_to(&self) -> Vec<&ServiceRef> {
        match self {
            Self::Servers(_) => Vec::new(),
            Self::Weighted(weighted) => weighted.services.iter().map(|(service, _)| service).collect(),
            Self::Failover(failover) => vec![&failover.service, &failover.fallback],
            Self::Mirroring(mirroring) => {
                let mirrors = mirroring.mirrors.iter().map(|mirror| &mirror.service);
                std::iter::once(&mirroring.service).chain(mirrors).collect()
            }
        }
    }

    /// Its servers, where it has some of its own.
    pub fn servers(&self) -> Option<&Servers> {
        match self {
            Self::Servers(servers) => Some(servers),
            Self::Weighted(_) | Self::Failover(_) | Self::Mirroring(_) => None,
        }
    }
}
