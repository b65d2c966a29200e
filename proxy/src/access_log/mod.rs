//! The access log: a line for each request when it has ended, and for each connection that came to none.
//!
//! A worker makes lines and gathers them ([`Lines`]); one thread writes them (`Writer`). Between the two is a bounded
//! queue: a slow disk costs lines, which are counted, never a worker's time. Nothing that a client sends can end a
//! line or begin a field ([`line`](self)). This module must not know how requests are served.

mod line;
mod lines;
mod text;
mod writer;

pub use line::{Asked, Bytes, Came, Ended, Line, Shown};
pub use lines::Lines;
pub use writer::{Keeper, Opening};

use crate::http::fields::is_identity;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE},
};
use sallyport_config::model::access_log::{FieldRule, HeaderRules, LineFormat};
use std::sync::Arc;
use writer::Writer;

/// What workers need to know: what stands in a line, and where it goes.
#[derive(Debug)]
pub struct AccessLog {
    format: LineFormat,
    /// What becomes of queries.
    query: FieldRule,
    headers: Choice,
    writer: Arc<Writer>,
}

impl AccessLog {
    /// The header fields that a line tells of, as far as they may be told.
    pub fn choose(&self, headers: &HeaderMap) -> Vec<Chosen> {
        self.headers.choose(headers)
    }

    /// The line, with its end.
    fn write(&self, line: &Line<'_>) -> String {
        match self.format {
            LineFormat::Json => line.json(self.query),
            LineFormat::Common => line.common(self.query),
        }
    }
}

/// A header field that is told of; `None` is a value that is not.
pub type Chosen = (HeaderName, Option<HeaderValue>);

/// Which header fields are told of.
#[derive(Debug)]
struct Choice {
    default: FieldRule,
    names: Vec<(HeaderName, FieldRule)>,
}

impl Choice {
    fn new(rules: &HeaderRules) -> Self {
        let named = |(name, rule): (&String, &FieldRule)| Some((name.parse().ok()?, *rule));
        Self {
            default: rules.default,
            names: rules.names.iter().filter_map(named).collect(),
        }
    }

    fn choose(&self, headers: &HeaderMap) -> Vec<Chosen> {
        let mut chosen = Vec::new();
        let mut add = |name: &HeaderName, value: &HeaderValue, rule: FieldRule| match rule {
            FieldRule::Drop => {}
            FieldRule::Redact => chosen.push((name.clone(), None)),
            FieldRule::Keep => chosen.push((name.clone(), Some(value.clone()))),
        };
        if self.default == FieldRule::Drop {
            for (name, rule) in &self.names {
                headers
                    .get_all(name)
                    .iter()
                    .for_each(|value| add(name, value, *rule));
            }
        } else {
            headers
                .iter()
                .for_each(|(name, value)| add(name, value, self.rule_of(name)));
        }
        chosen
    }

    fn rule_of(&self, name: &HeaderName) -> FieldRule {
        match self.names.iter().find(|(named, _)| named == name) {
            Some((_, rule)) => *rule,
            None if self.default == FieldRule::Keep && is_secret(name) => FieldRule::Redact,
            None => self.default,
        }
    }
}

/// Fields that are kept only by name.
fn is_secret(name: &HeaderName) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, SET_COOKIE].contains(name)
        || is_identity(name.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn chosen(default: FieldRule, names: &[(&str, FieldRule)]) -> Vec<(String, String)> {
        let sent = [
            ("user-agent", "curl"),
            ("cookie", "secret"),
            ("authorization", "secret"),
            ("proxy-authorization", "secret"),
            ("set-cookie", "secret"),
            ("client-cert", "secret"),
            ("x_forwarded_tls_client_cert", "secret"),
            ("x-twice", "1"),
            ("x-twice", "2"),
        ];
        let headers: HeaderMap = sent
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().expect("a name");
                (name, HeaderValue::from_static(value))
            })
            .collect();
        let names: BTreeMap<String, FieldRule> = names
            .iter()
            .map(|(name, rule)| ((*name).to_owned(), *rule))
            .collect();
        let choice = Choice::new(&HeaderRules { default, names });
        let shown = |value: Option<HeaderValue>| {
            value.map_or_else(
                || "REDACTED".to_owned(),
                |value| value.to_str().expect("ASCII").to_owned(),
            )
        };
        choice
            .choose(&headers)
            .into_iter()
            .map(|(name, value)| (name.to_string(), shown(value)))
            .collect()
    }

    #[test]
    fn nothing_is_told_unless_asked_and_secrets_only_by_name() {
        use FieldRule::{Drop, Keep, Redact};
        assert!(chosen(Drop, &[]).is_empty());
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            chosen(
                Drop,
                &[
                    ("user-agent", Keep),
                    ("cookie", Redact),
                    ("x-twice", Keep),
                    ("absent", Keep)
                ]
            ),
            [
                pair("cookie", "REDACTED"),
                pair("user-agent", "curl"),
                pair("x-twice", "1"),
                pair("x-twice", "2")
            ]
        );
        let kept = chosen(Keep, &[("x-twice", Drop), ("cookie", Keep)]);
        assert!(kept.contains(&pair("user-agent", "curl")) && kept.contains(&pair("cookie", "secret")));
        assert_eq!(
            kept.iter().filter(|(_, value)| value == "secret").count(),
            1,
            "{kept:?}"
        );
        assert_eq!(
            kept.iter().filter(|(_, value)| value == "REDACTED").count(),
            5,
            "{kept:?}"
        );
        assert!(!kept.iter().any(|(name, _)| name == "x-twice"));
        assert!(chosen(Redact, &[]).iter().all(|(_, value)| value == "REDACTED"));
    }
}
