//! What the gateway says of the requests that it sent, by its access log, beside what it sent.

use crate::strict::Request;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Requests by service and name, each with the bytes of its body as the gateway counted them.
pub type Logged = BTreeMap<(String, String), Vec<u64>>;

/// The table that turns the log on.
#[must_use]
pub fn configuration(log: &Path) -> String {
    format!("[access_log]\npath = \"{}\"\n", log.display())
}

/// What the gateway says that it sent to each of its services.
///
/// # Errors
/// Where the log cannot be read.
pub fn logged(log: &Path) -> Result<Logged> {
    let mut logged = Logged::new();
    for line in std::fs::read_to_string(log)?.lines() {
        let line: Value = serde_json::from_str(line)?;
        let word = |key: &str| line.get(key).and_then(Value::as_str);
        let (Some(service), Some(path), Some(method)) = (word("service"), word("path"), word("method"))
        else {
            continue;
        };
        let bytes = line
            .get("bytes_in")
            .and_then(Value::as_u64)
            .context("no `bytes_in`")?;
        let key = (service.to_owned(), named(method, path));
        logged.entry(key).or_default().push(bytes);
    }
    Ok(logged)
}

/// Every request on the wire to a service is one that the gateway says it sent, with as many bytes of body.
///
/// # Errors
/// Where one is not.
pub fn judge(service: &str, sent: &[Request], logged: &Logged) -> Result<()> {
    let mut open = logged.clone();
    for request in sent {
        let key = (service.to_owned(), named(&request.method, &request.target));
        let length = u64::try_from(request.body.len())?;
        let left = open.get_mut(&key);
        let place = left.as_ref().and_then(|left| {
            let fits = |bytes: &u64| *bytes == length || !request.whole && *bytes > length;
            left.iter().position(fits)
        });
        let (Some(left), Some(place)) = (left, place) else {
            let told = logged.get(&key);
            bail!("on the wire to {service} was {request:?}; the gateway tells of bodies of {told:?} bytes");
        };
        left.swap_remove(place);
    }
    Ok(())
}

fn named(method: &str, path: &str) -> String {
    format!("{method} {}", name(path).unwrap_or_else(|| path.to_owned()))
}

/// The first `i` or `s` with a number behind it.
fn name(target: &str) -> Option<String> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (at, length) = target.char_indices().find_map(|(at, c)| {
        let length = digits(target.get(at + 1..).filter(|_| matches!(c, 'i' | 's'))?);
        (length > 0).then_some((at, 1 + length))
    })?;
    target.get(at..at + length).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{Logged, judge, name};
    use crate::strict::Request;

    #[test]
    fn a_body_that_the_gateway_did_not_read_is_found() {
        let request = |body: &str, whole| Request {
            method: "POST".to_owned(),
            target: "/i1?x".to_owned(),
            fields: Vec::new(),
            body: body.as_bytes().to_vec(),
            whole,
        };
        let logged = Logged::from([(("peer".to_owned(), "POST i1".to_owned()), vec![3])]);
        assert!(judge("peer", &[request("abc", true)], &logged).is_ok());
        assert!(judge("peer", &[request("ab", false)], &logged).is_ok());
        assert!(judge("peer", &[request("ab", true)], &logged).is_err());
        assert!(judge("peer", &[request("abcd", false)], &logged).is_err());
        assert!(judge("peer", &[request("abc", true), request("abc", true)], &logged).is_err());
        assert!(judge("other", &[request("abc", true)], &logged).is_err());
        assert_eq!(name("http://a.example/i12/../i12"), Some("i12".to_owned()));
        assert_eq!(name("/s3?x"), Some("s3".to_owned()));
        assert_eq!(name("-"), None);
    }
}
