//! Which fields go to the server that is asked, and which of its answer go on.

use super::folded;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use regex::Regex;

const METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// What this gateway wrote of the client; the server gets it always.
const OURS: [&str; 5] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];
/// Fields by which messages are framed and routed: no pattern lets the server set them.
const NEVER_GRANTED: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "hub-uplink",
    "hub-context",
    "hub-grant",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "set-cookie",
];

/// A choice of fields, by their names with `-` for `_` and `.`.
#[derive(Debug)]
pub(super) struct Fields {
    all: bool,
    names: Vec<String>,
    pattern: Option<Regex>,
}

impl Fields {
    /// Those of the request that the server gets; all where none is named.
    pub(super) fn of_request(names: &[String]) -> Self {
        let ours = OURS.iter().map(|name| (*name).to_owned());
        Self {
            all: names.is_empty(),
            names: names.iter().cloned().chain(ours).collect(),
            pattern: None,
        }
    }

    /// Those of its answer that go on.
    pub(super) fn of_answer(names: &[String], pattern: Option<&str>) -> Result<Self, regex::Error> {
        let fold = |name: &String| name.replace(['_', '.'], "-");
        Ok(Self {
            all: false,
            names: names.iter().map(fold).collect(),
            pattern: pattern.map(Regex::new).transpose()?,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.all
            || self.names.iter().any(|known| known == name)
            || self
                .pattern
                .as_ref()
                .is_some_and(|pattern| pattern.is_match(name))
    }

    /// The chosen ones of a request.
    pub(super) fn copy(&self, headers: &HeaderMap) -> HeaderMap {
        if self.all {
            return headers.clone();
        }
        let chosen = headers.iter().filter(|(name, _)| self.has(name.as_str()));
        let mut copy = HeaderMap::new();
        for (name, value) in chosen {
            copy.append(name, value.clone());
        }
        copy
    }

    /// Takes the chosen ones off a request, in every spelling, and sets those of an answer.
    pub(super) fn grant(&self, answer: &HeaderMap, request: &mut HeaderMap) {
        let may = |name: &HeaderName| {
            let folded = folded(name);
            self.has(&folded) && !NEVER_GRANTED.contains(&folded.as_str())
        };
        let clients: Vec<HeaderName> = request.keys().filter(|name| may(name)).cloned().collect();
        for name in clients {
            request.remove(name);
        }
        for (name, value) in answer.iter().filter(|(name, _)| may(name)) {
            request.append(name, value.clone());
        }
    }
}

/// Tells the server what is asked for. Unless `trusted`, nobody else's word of it counts.
pub(super) fn tell(headers: &mut HeaderMap, head: &Parts, trusted: bool) {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let told = [
        (METHOD, HeaderValue::from_str(head.method.as_str())),
        (URI, HeaderValue::from_str(target)),
    ];
    for (name, value) in told {
        let kept = trusted && head.headers.contains_key(&name);
        headers.remove(&name);
        let value = if kept {
            head.headers.get(&name).cloned()
        } else {
            value.ok()
        };
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}
