//! Servers of other hands behind the gateway that tell every request they see, and what was on the wire before them.
//!
//! A server's reading of a request is compared with that of [`strict`], which knows one spelling of each
//! thing: number, method, target, fields and body.

use crate::case::Case;
use crate::fragments::{local, router, service};
use crate::haproxy::Haproxy;
use crate::nginx::{Nginx, Serves};
use crate::process::Proc;
use crate::script::{Interpreter, Script};
use crate::strict::{self, Request};
use crate::tap::Tap;
use crate::wait;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const NODE: Script = Script {
    name: "node-http",
    interpreter: Interpreter::Node,
    text: include_str!("../scripts/http_witness.js"),
};
/// Fields that nginx and haproxy tell; node tells all.
const FIELDS: [&str; 11] = [
    "host",
    "content-length",
    "transfer-encoding",
    "x",
    "x-long",
    "range",
    "te",
    "trailer",
    "via",
    "x-forwarded-for",
    "x-http-method-override",
];

/// How a server tells what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    /// A line of text with replaced bytes, chosen fields.
    Nginx,
    /// In hexadecimal, chosen fields.
    Haproxy,
    /// All fields, Latin-1.
    Node,
}

/// A server, and the entry point that leads to it.
#[derive(Debug)]
pub struct Witness {
    /// Its name, also that of its entry point, router and service.
    pub name: &'static str,
    /// The port of the gateway's entry point for it.
    pub entry: u16,
    /// Where the gateway finds it.
    port: u16,
    telling: Telling,
    log: PathBuf,
    proc: Option<Proc>,
    tap: Tap,
}

/// The witnesses, and what keeps them alive.
#[derive(Debug)]
pub struct Witnesses {
    /// nginx, haproxy and node.
    pub all: Vec<Witness>,
    _nginx: Nginx,
    haproxy: Haproxy,
}

/// A request as a server tells it.
#[derive(Clone, Debug)]
struct Saw {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    /// `None` where it did not get all of it, or does not tell.
    body: Option<String>,
}

/// How many requests there were, for judging whether a run shows anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// On the wire.
    pub sent: usize,
    /// With their end.
    pub whole: usize,
    /// That the server told of.
    pub seen: usize,
    /// That it told of with their bodies.
    pub read: usize,
}

impl Witnesses {
    /// Starts them, each behind a tap.
    ///
    /// # Errors
    /// Where one does not come up.
    pub fn start(case: &Case) -> Result<Witnesses> {
        let nginx_log = case.dir().join("nginx-seen");
        let nginx = Nginx::start_with(&case.ns, "inner", 9021, &Serves::Plain, &nginx_front(&nginx_log))?;
        let haproxy = Haproxy::start_with(&case.ns, &[9012], &haproxy_front())?;
        let node = NODE.serve(&case.ns, 9013, &[])?;
        let witness = |name, number: u16, telling, log: &Path, proc| -> Result<Witness> {
            Ok(Witness {
                name,
                entry: 8000 + number,
                port: 9000 + number,
                telling,
                log: log.to_owned(),
                proc,
                tap: Tap::start(&case.ns, local(9000 + number), local(9010 + number))?,
            })
        };
        let none = Path::new("");
        let all = vec![
            witness("nginx", 1, Telling::Nginx, &nginx_log, None)?,
            witness("haproxy", 2, Telling::Haproxy, none, None)?,
            witness("node", 3, Telling::Node, none, Some(node))?,
        ];
        Ok(Witnesses {
            all,
            _nginx: nginx,
            haproxy,
        })
    }

    /// An entry point, a router and a service for each.
    #[must_use]
    pub fn configuration(&self) -> String {
        let mut body = String::new();
        for witness in &self.all {
            let (name, entry) = (witness.name, witness.entry);
            body += &format!("[entry_points.{name}]\naddress = \"127.0.0.1:{entry}\"\n");
            let keys = format!("entry_points = [\"{name}\"]");
            body += &router(name, "PathPrefix(`/`)", name, &keys);
            body += &service(name, &[&format!("http://127.0.0.1:{}", witness.port)], "");
        }
        body
    }

    /// Compares what a server says with what was on its wire, once the request to `last` is in both.
    ///
    /// # Errors
    /// Where something on the wire is not canonical, or a server saw something else than was there.
    pub fn judge(&self, witness: &Witness, last: &str) -> Result<(Vec<Request>, Tally)> {
        let saw = wait::until(
            SOON,
            &format!("the last request in the log of {}", witness.name),
            || {
                let text = match (&witness.proc, witness.telling) {
                    (Some(proc), _) => proc.log(),
                    (None, Telling::Haproxy) => self.haproxy.proc.log(),
                    (None, _) => String::from_utf8_lossy(&std::fs::read(&witness.log)?).into_owned(),
                };
                let saw = told(witness.telling, &text)?;
                let there = saw.iter().any(|request| request.target == last);
                Ok(there.then_some(saw))
            },
        )?;
        let mut sent = Vec::new();
        for connection in witness.tap.connections() {
            sent.extend(
                strict::read(&connection).with_context(|| format!("on the wire to {}", witness.name))?,
            );
        }
        let mut tally = compare(witness, &sent, &saw)?;
        tally.sent = sent.len();
        tally.whole = sent.iter().filter(|request| request.whole).count();
        Ok((sent, tally))
    }
}

/// A server that reads the whole body, tells all, and asks another.
fn nginx_front(log: &Path) -> String {
    let mut format =
        String::from("\"method\":\"$request_method\",\"target\":\"$request_uri\",\"status\":\"$status\"");
    for name in FIELDS {
        format += &format!(",\"{name}\":\"$http_{}\"", name.replace('-', "_"));
    }
    format!(
        "access_log off;\nlog_format seen escape=json '{{{format},\"body\":\"$request_body\"}}';\n\
         server {{\nlisten 9011;\nlocation / {{\nproxy_pass http://127.0.0.1:9021;\nclient_body_buffer_size 1m;\n\
         access_log {} seen;\n}}\n}}\n",
        log.display()
    )
}

fn haproxy_front() -> String {
    let mut rules = String::from(
        "  http-request set-var(txn.target) url,hex\n  http-request set-var(txn.body) req.body,hex\n",
    );
    let mut format = String::from("\"method\":\"%HM\",\"target\":\"%[var(txn.target)]\",\"status\":\"%ST\"");
    for (number, name) in FIELDS.iter().enumerate() {
        rules += &format!("  http-request set-var(txn.f{number}) req.fhdr({name},1),hex\n");
        format += &format!(",\"{name}\":\"%[var(txn.f{number})]\"");
    }
    format!(
        "frontend seen\n  mode http\n  option http-buffer-request\n  bind 127.0.0.1:9012\n  \
         log stdout len 65535 format raw local0\n{rules}  \
         log-format '{{{format},\"body\":\"%[var(txn.body)]\"}}'\n  \
         http-request return status 200 content-type text/plain string ok\n"
    )
}

/// What a server told, as far as it is about requests that it could read.
fn told(telling: Telling, text: &str) -> Result<Vec<Saw>> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    let mut all = Vec::new();
    for line in lines {
        // The last line may not be whole yet.
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        all.extend(one(telling, &line)?);
    }
    Ok(all)
}

fn one(telling: Telling, line: &Value) -> Result<Option<Saw>> {
    let word = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    let told = |key: &str| match telling {
        Telling::Haproxy => unhexed(word(key)),
        Telling::Nginx | Telling::Node => Ok(word(key).to_owned()),
    };
    let target = told("target")?;
    if target.is_empty() || target == "-" {
        return Ok(None);
    }
    let (fields, body) = match telling {
        Telling::Node => (
            pairs(line.get("fields").and_then(Value::as_array)),
            line.get("body").and_then(Value::as_str).map(unhexed),
        ),
        Telling::Nginx | Telling::Haproxy => {
            let mut fields = Vec::new();
            for name in FIELDS {
                fields.push((name.to_owned(), told(name)?));
            }
            let read = word("status") == "200";
            (fields, read.then(|| told("body")))
        }
    };
    Ok(Some(Saw {
        method: word("method").to_owned(),
        target,
        fields,
        body: body.transpose()?,
    }))
}

/// Names and values that take turns.
fn pairs(list: Option<&Vec<Value>>) -> Vec<(String, String)> {
    let words: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
    let pair = |pair: &[&str]| match pair {
        [name, value] => Some((name.to_ascii_lowercase(), (*value).to_owned())),
        _ => None,
    };
    words.chunks(2).filter_map(pair).collect()
}

/// Bytes of a text in hexadecimal, as Latin-1.
fn unhexed(text: &str) -> Result<String> {
    if text == "-" {
        return Ok(String::new());
    }
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    ensure!(
        digits.len() == text.len() && text.len().is_multiple_of(2),
        "`{text}` is not hexadecimal"
    );
    let byte = |pair: &[u32]| pair.iter().fold(0, |byte, digit| byte * 16 + digit);
    Ok(digits
        .chunks(2)
        .filter_map(|pair| char::from_u32(byte(pair)))
        .collect())
}

/// Bytes as a server tells them.
fn shown(telling: Telling, bytes: &[u8]) -> String {
    match telling {
        Telling::Nginx => String::from_utf8_lossy(bytes).into_owned(),
        Telling::Haproxy | Telling::Node => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Each request that a server told of is one of the wire that nobody told of before.
fn compare(witness: &Witness, sent: &[Request], saw: &[Saw]) -> Result<Tally> {
    let mut open: BTreeMap<(&str, &str), Vec<&Request>> = BTreeMap::new();
    for request in sent {
        let key = (request.method.as_str(), request.target.as_str());
        open.entry(key).or_default().push(request);
    }
    let mut tally = Tally::default();
    for request in saw {
        let key = (request.method.as_str(), request.target.as_str());
        let left = open.get_mut(&key);
        let place = left.as_ref().and_then(|left| {
            let mut all = left.iter();
            all.position(|sent| is_same(witness.telling, sent, request))
        });
        let (Some(left), Some(place)) = (left, place) else {
            let alike: Vec<_> = sent.iter().filter(|sent| sent.target == request.target).collect();
            bail!(
                "{} saw {request:?}; with this target there was on its wire: {alike:?}",
                witness.name
            );
        };
        left.swap_remove(place);
        tally.seen += 1;
        tally.read += usize::from(request.body.is_some());
    }
    Ok(tally)
}

fn is_same(telling: Telling, sent: &Request, saw: &Saw) -> bool {
    let show = |bytes: &[u8]| shown(telling, bytes);
    let fields = match telling {
        Telling::Node => {
            let sent = sent
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), show(value)));
            sent.eq(saw.fields.iter().cloned())
        }
        Telling::Nginx | Telling::Haproxy => {
            let mut told = saw.fields.iter();
            told.all(|(name, value)| show(sent.field(name).unwrap_or_default()) == *value)
        }
    };
    let body = match &saw.body {
        Some(body) if sent.whole => show(&sent.body) == *body,
        // haproxy answers a request by itself that its client gave up, and does not tell that it did.
        Some(body) => telling == Telling::Haproxy && show(&sent.body).starts_with(body.as_str()),
        None => true,
    };
    fields && body
}

#[cfg(test)]
mod tests {
    use super::{Telling, is_same, told};
    use crate::strict;

    fn same(telling: Telling, line: &str) -> bool {
        let sent = strict::read(b"POST /i1 HTTP/1.1\r\nhost: a\r\nx: \xe9\r\ncontent-length: 2\r\n\r\nhi");
        let (sent, saw) = (sent.expect("canonical"), told(telling, line).expect("a line"));
        match (sent.as_slice(), saw.as_slice()) {
            ([sent], [saw]) => saw.method == sent.method && is_same(telling, sent, saw),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_that_sees_something_else_is_found() {
        let node = |fields: &str, body: &str| {
            format!("{{\"method\":\"POST\",\"target\":\"/i1\",\"fields\":[{fields}],\"body\":{body}}}")
        };
        let right = "\"host\",\"a\",\"x\",\"\u{e9}\",\"content-length\",\"2\"";
        assert!(same(Telling::Node, &node(right, "\"6869\"")));
        assert!(same(Telling::Node, &node(right, "null")));
        assert!(!same(Telling::Node, &node(right, "\"68\"")));
        assert!(!same(Telling::Node, &node("\"host\",\"a\"", "\"6869\"")));
        assert!(!same(
            Telling::Node,
            &node(&right.replace("\"a\"", "\"b\""), "null")
        ));
        let haproxy = |host: &str, status: &str| {
            format!(
                "{{\"method\":\"POST\",\"target\":\"2f6931\",\"status\":\"{status}\",\"host\":\"{host}\",\"x\":\"E9\",\
                 \"content-length\":\"32\",\"body\":\"68\"}}"
            )
        };
        assert!(same(Telling::Haproxy, &haproxy("61", "400")));
        assert!(!same(Telling::Haproxy, &haproxy("61", "200")));
        assert!(!same(Telling::Haproxy, &haproxy("62", "400")));
    }
}
