//! Probes and ejection as the wire has them: what differs from the defaults of version 1, times in milliseconds.
//!
//! What is read is checked as strictly as a configuration is: it becomes requests that the parent makes. It must not
//! name another place than the uplink itself.

use sallyport_config::{
    model::service::{self, InitialState, PassiveHealthCheck, Probe, Redirects},
    probing,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

/// Shortest time between two probes: a child's mistake is not to become a flood by its parents.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Shortest deadline and window.
const TIME_MIN: Duration = Duration::from_millis(10);
/// Longest time; keeps every deadline far from the clock's end.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The defaults of version 1.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(10);
const RISE: u32 = 2;
const FALL: u32 = 3;
const FAILURES: u32 = 1;
const METHOD: &str = "GET";
/// The largest count.
const COUNT_MAX: u32 = 1_000_000;

/// `health_check`.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct HealthCheck {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grpc_service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unhealthy_interval_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rise: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fall: Option<NonZeroU32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    initial: Option<Initial>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    follow_redirects: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Http,
    Grpc,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Initial {
    Up,
    Down,
}

/// `passive_health_check`.
#[derive(Serialize, Deserialize)]
pub(super) struct Passive {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_window_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_failed_attempts: Option<NonZeroU32>,
}

/// What is wrong with a probe, for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeFault {
    /// `http` without a path that a probe can ask for.
    #[error("`path` is no path that starts with `/`")]
    Path,
    /// No method of a probe.
    #[error("`method` is no method in capital letters")]
    Method,
    /// No status that is an answer.
    #[error("`status` is not from 200 to 599")]
    Status,
    /// A key of the other mode.
    #[error("a key stands there that its `mode` does not have")]
    Mode,
    /// No name of a gRPC service.
    #[error("`grpc_service` is no name of a service")]
    GrpcService,
    /// No host name.
    #[error("`hostname` is no host name in lower case")]
    Hostname,
    /// A field that a probe cannot have.
    #[error("`headers` has a field that a probe cannot have")]
    Header,
    /// Too short or too long.
    #[error("a time is outside its range")]
    Time,
    /// Too large.
    #[error("a count is over {COUNT_MAX}")]
    Count,
}

impl From<&service::HealthCheck> for HealthCheck {
    fn from(check: &service::HealthCheck) -> Self {
        let unless = |time: Duration, default: Duration| Some(time).filter(|time| *time != default);
        let count = |count: NonZeroU32, default: u32| Some(count).filter(|count| count.get() != default);
        let asked = match &check.probe {
            Probe::Http { path, method, status } => Self {
                path: Some(path.clone()),
                method: Some(method.clone()).filter(|method| method != METHOD),
                status: *status,
                ..Self::default()
            },
            Probe::Grpc { service } => Self {
                mode: Some(Mode::Grpc),
                grpc_service: Some(service.clone()).filter(|service| !service.is_empty()),
                ..Self::default()
            },
        };
        Self {
            hostname: check.hostname.clone(),
            headers: check.headers.iter().cloned().collect(),
            interval_ms: unless(check.interval, INTERVAL).map(milliseconds),
            unhealthy_interval_ms: unless(check.unhealthy_interval, check.interval).map(milliseconds),
            timeout_ms: unless(check.timeout, TIMEOUT).map(milliseconds),
            rise: count(check.rise, RISE),
            fall: count(check.fall, FALL),
            initial: match check.initial {
                InitialState::Up => None,
                InitialState::Down => Some(Initial::Down),
            },
            follow_redirects: match check.redirects {
                Redirects::Follow => None,
                Redirects::Judge => Some(false),
            },
            ..asked
        }
    }
}

impl TryFrom<HealthCheck> for service::HealthCheck {
    type Error = ProbeFault;

    fn try_from(read: HealthCheck) -> Result<Self, ProbeFault> {
        let interval = time(read.interval_ms, INTERVAL, INTERVAL_MIN)?;
        let hostname = read.hostname.clone();
        if hostname
            .as_deref()
            .is_some_and(|name| !probing::is_hostname(name))
        {
            return Err(ProbeFault::Hostname);
        }
        Ok(Self {
            hostname,
            headers: fields(&read.headers)?,
            interval,
            unhealthy_interval: time(read.unhealthy_interval_ms, interval, INTERVAL_MIN)?,
            timeout: time(read.timeout_ms, TIMEOUT, TIME_MIN)?,
            rise: count(read.rise, RISE)?,
            fall: count(read.fall, FALL)?,
            initial: match read.initial {
                None | Some(Initial::Up) => InitialState::Up,
                Some(Initial::Down) => InitialState::Down,
            },
            redirects: match read.follow_redirects {
                None | Some(true) => Redirects::Follow,
                Some(false) => Redirects::Judge,
            },
            probe: probe(read)?,
            scheme: None,
            port: None,
        })
    }
}

impl From<&PassiveHealthCheck> for Passive {
    fn from(passive: &PassiveHealthCheck) -> Self {
        let window = Some(passive.failure_window).filter(|window| *window != WINDOW);
        Self {
            failure_window_ms: window.map(milliseconds),
            max_failed_attempts: Some(passive.failures_max).filter(|count| count.get() != FAILURES),
        }
    }
}

impl TryFrom<Passive> for PassiveHealthCheck {
    type Error = ProbeFault;

    fn try_from(read: Passive) -> Result<Self, ProbeFault> {
        Ok(Self {
            failure_window: time(read.failure_window_ms, WINDOW, TIME_MIN)?,
            failures_max: count(read.max_failed_attempts, FAILURES)?,
        })
    }
}

fn probe(read: HealthCheck) -> Result<Probe, ProbeFault> {
    if read.mode == Some(Mode::Grpc) {
        if read.path.is_some() || read.method.is_some() || read.status.is_some() {
            return Err(ProbeFault::Mode);
        }
        let service = read.grpc_service.unwrap_or_default();
        return match probing::is_grpc_service(&service) {
            true => Ok(Probe::Grpc { service }),
            false => Err(ProbeFault::GrpcService),
        };
    }
    if read.grpc_service.is_some() {
        return Err(ProbeFault::Mode);
    }
    let path = read.path.filter(|path| probing::is_path(path));
    let method = read.method.unwrap_or_else(|| METHOD.to_owned());
    if !probing::is_method(&method) {
        return Err(ProbeFault::Method);
    }
    if read.status.is_some_and(|status| !(200..=599).contains(&status)) {
        return Err(ProbeFault::Status);
    }
    Ok(Probe::Http {
        path: path.ok_or(ProbeFault::Path)?,
        method,
        status: read.status,
    })
}

fn fields(read: &BTreeMap<String, String>) -> Result<Vec<(String, String)>, ProbeFault> {
    let good = |(name, value): &(&String, &String)| probing::is_field(name) && probing::is_field_value(value);
    if !read.iter().all(|field| good(&field)) {
        return Err(ProbeFault::Header);
    }
    let fields = read.iter();
    Ok(fields
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect())
}

fn time(read: Option<u64>, default: Duration, least: Duration) -> Result<Duration, ProbeFault> {
    let time = read.map_or(default, Duration::from_millis);
    let inside = (least..=TIME_MAX).contains(&time);
    inside.then_some(time).ok_or(ProbeFault::Time)
}

fn count(read: Option<NonZeroU32>, default: u32) -> Result<NonZeroU32, ProbeFault> {
    let count = read.or(NonZeroU32::new(default)).unwrap_or(NonZeroU32::MIN);
    Some(count)
        .filter(|count| count.get() <= COUNT_MAX)
        .ok_or(ProbeFault::Count)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<service::HealthCheck, ProbeFault> {
        let check: HealthCheck = serde_json::from_str(text).expect("of the shape");
        check.try_into()
    }

    fn written(check: &service::HealthCheck) -> String {
        serde_json::to_string(&HealthCheck::from(check)).expect("can be written")
    }

    #[test]
    fn what_is_written_is_read_again_and_defaults_are_left_out() {
        for text in [
            r#"{"path":"/healthz"}"#,
            r#"{"mode":"grpc"}"#,
            r#"{"mode":"grpc","grpc_service":"a.B"}"#,
            r#"{"path":"/h?x","method":"HEAD","status":204,"hostname":"h.example","headers":{"x-a":"1","x-b":""},"interval_ms":100,"unhealthy_interval_ms":250,"timeout_ms":10,"rise":1,"fall":1000000,"initial":"down"}"#,
        ] {
            assert_eq!(written(&read(text).expect("good")), text);
        }
        let spelled_out = r#"{"mode":"http","path":"/","method":"GET","interval_ms":30000,"unhealthy_interval_ms":30000,"timeout_ms":5000,"rise":2,"fall":3,"initial":"up"}"#;
        assert_eq!(written(&read(spelled_out).expect("good")), r#"{"path":"/"}"#);
    }

    #[test]
    fn a_probe_that_a_configuration_could_not_ask_for_is_refused() {
        for (text, fault) in [
            (r#"{}"#, ProbeFault::Path),
            (r#"{"path":"healthz"}"#, ProbeFault::Path),
            (r#"{"path":"/a b"}"#, ProbeFault::Path),
            (
                r#"{"path":"//evil.example/","method":"CONNECT"}"#,
                ProbeFault::Method,
            ),
            (r#"{"path":"/","method":"G\r\nX"}"#, ProbeFault::Method),
            (r#"{"path":"/","status":199}"#, ProbeFault::Status),
            (r#"{"path":"/","status":600}"#, ProbeFault::Status),
            (r#"{"path":"/","grpc_service":"a"}"#, ProbeFault::Mode),
            (r#"{"mode":"grpc","path":"/"}"#, ProbeFault::Mode),
            (r#"{"mode":"grpc","grpc_service":"a b"}"#, ProbeFault::GrpcService),
            (r#"{"path":"/","hostname":"a/b"}"#, ProbeFault::Hostname),
            (r#"{"path":"/","hostname":"A"}"#, ProbeFault::Hostname),
            (r#"{"path":"/","headers":{"Hub_Uplink":"x"}}"#, ProbeFault::Header),
            (
                r#"{"path":"/","headers":{"content-length":"7"}}"#,
                ProbeFault::Header,
            ),
            (r#"{"path":"/","headers":{"x":"a\r\nb"}}"#, ProbeFault::Header),
            (r#"{"path":"/","interval_ms":99}"#, ProbeFault::Time),
            (r#"{"path":"/","unhealthy_interval_ms":0}"#, ProbeFault::Time),
            (r#"{"path":"/","timeout_ms":9}"#, ProbeFault::Time),
            (
                r#"{"path":"/","timeout_ms":18446744073709551615}"#,
                ProbeFault::Time,
            ),
            (r#"{"path":"/","rise":1000001}"#, ProbeFault::Count),
        ] {
            assert_eq!(read(text), Err(fault), "{text}");
        }
        let shapeless = [r#"{"path":1}"#, r#"{"mode":"tcp"}"#, r#"{"path":"/","rise":0}"#];
        for text in shapeless {
            assert!(serde_json::from_str::<HealthCheck>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ejection_is_read_as_it_was_written() {
        let read = |text: &str| {
            let passive: Passive = serde_json::from_str(text).expect("of the shape");
            PassiveHealthCheck::try_from(passive)
        };
        for text in ["{}", r#"{"failure_window_ms":20,"max_failed_attempts":3}"#] {
            let passive = read(text).expect("good");
            assert_eq!(
                serde_json::to_string(&Passive::from(&passive)).expect("text"),
                text
            );
        }
        assert_eq!(read("{}").expect("good").failures_max.get(), 1);
        assert_eq!(read(r#"{"failure_window_ms":9}"#), Err(ProbeFault::Time));
        assert_eq!(read(r#"{"max_failed_attempts":1000001}"#), Err(ProbeFault::Count));
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..400_u64, 999_990..1_000_010_u64, any::<u64>()]
    }

    proptest! {
        #[test]
        fn whatever_is_taken_could_stand_in_a_configuration_and_is_written_as_it_was_meant(
            mode in prop_oneof![Just(""), Just("http"), Just("grpc")],
            texts in prop::collection::vec("[ -~]{0,6}|/[a-z]{0,3}|GET|a", 6),
            numbers in prop::collection::vec(prop::option::of(number()), 6),
            given in any::<u8>(),
        ) {
            let keys = ["path", "method", "grpc_service", "hostname"];
            let mut object = serde_json::Map::new();
            for (bit, (key, text)) in keys.iter().zip(&texts).enumerate() {
                if given & (1 << bit) != 0 {
                    object.insert((*key).to_owned(), text.clone().into());
                }
            }
            if !mode.is_empty() {
                object.insert("mode".to_owned(), mode.into());
            }
            if let [.., name, value] = &texts[..] && given & 0x80 != 0 {
                object.insert("headers".to_owned(), serde_json::json!({ name: value }));
            }
            let keys = ["interval_ms", "unhealthy_interval_ms", "timeout_ms", "rise", "fall", "status"];
            for (key, number) in keys.iter().zip(numbers) {
                if let Some(number) = number {
                    object.insert((*key).to_owned(), number.into());
                }
            }
            let text = serde_json::Value::from(object).to_string();
            let taken = serde_json::from_str::<HealthCheck>(&text).ok().map(service::HealthCheck::try_from);
            if let Some(Ok(taken)) = taken {
                prop_assert!(taken.interval >= INTERVAL_MIN && taken.unhealthy_interval >= INTERVAL_MIN);
                prop_assert!(taken.timeout >= TIME_MIN && taken.timeout <= TIME_MAX);
                prop_assert!(taken.scheme.is_none() && taken.port.is_none());
                prop_assert!(taken.headers.iter().all(|(name, _)| probing::is_field(name)));
                prop_assert_eq!(read(&written(&taken)), Ok(taken));
            }
        }
    }
}
