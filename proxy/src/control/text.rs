//! `status` for people: the same document, a section a paragraph.

use serde_json::Value;
use std::fmt::Write;

/// Renders a status document.
pub fn status_text(document: &Value) -> String {
    let mut text = String::new();
    let word = |path: &str| plain(document.pointer(path).unwrap_or(&Value::Null));
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "sallyport {}, pid {}", word("/sallyport"), word("/pid"));
    let _ = writeln!(text, "io: {} ({})", word("/io/driver"), word("/io/reason"));
    let _ = writeln!(
        text,
        "configuration: {} {}, generation {}",
        word("/configuration/file"),
        word("/configuration/state"),
        word("/configuration/generation")
    );
    for list in ["/configuration/diagnostics", "/configuration/warnings"] {
        for line in document
            .pointer(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let _ = writeln!(text, "  {}", plain(line));
        }
    }
    for section in [
        "workers",
        "entry_points",
        "gate",
        "policy",
        "allowlists",
        "tls",
        "tls/certificates",
        "tls/authorities",
        "tls/revocation_lists",
        "routers",
        "services",
        "tcp_routers",
        "tcp_services",
        "uplinks",
        "children",
        "counters",
    ] {
        let _ = writeln!(text, "\n{}:", section.replace(['_', '/'], " "));
        match document.pointer(&format!("/{section}")) {
            Some(Value::Object(fields)) if section == "tls" => tls(&mut text, fields),
            Some(Value::Array(items)) => items.iter().for_each(|item| line(&mut text, item)),
            Some(Value::Object(fields)) if section == "counters" => {
                for (name, value) in fields.iter().filter(|(_, value)| value.as_u64() != Some(0)) {
                    let _ = writeln!(text, "  {name} {value}");
                }
            }
            Some(other) => line(&mut text, other),
            None => {}
        }
    }
    text
}

/// The state of TLS as a whole; its files follow in sections of their own.
fn tls(text: &mut String, fields: &serde_json::Map<String, Value>) {
    let word = |key: &str| fields.get(key).map(plain).unwrap_or_default();
    let _ = writeln!(text, "  files {}", word("state"));
    for problem in fields
        .get("problems")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let _ = writeln!(text, "    {}", plain(problem));
    }
    let ended = fields.get("sessions_ended").and_then(Value::as_object);
    for (reason, count) in ended.into_iter().flatten() {
        let _ = writeln!(text, "  sessions ended {reason} {count}");
    }
}

/// One item: its name, then its fields, then what is listed in it, an indented line each.
fn line(text: &mut String, item: &Value) {
    let Some(fields) = item.as_object() else { return };
    let _ = writeln!(text, "  {}", described(fields));
    for (key, items) in fields.iter().filter(|(_, value)| lists_objects(value)) {
        for item in items
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
        {
            let _ = writeln!(text, "    {} {}", key.replace('_', " "), described(item));
        }
    }
}

fn described(fields: &serde_json::Map<String, Value>) -> String {
    let keys = ["name", "id"].into_iter();
    let name = keys.filter_map(|key| fields.get(key)).map(plain).next();
    let rest = fields.iter().filter(|(key, value)| {
        !matches!(key.as_str(), "name" | "id") && !is_nothing(value) && !lists_objects(value)
    });
    let rest: Vec<String> = rest
        .map(|(key, value)| format!("{key}={}", plain(value)))
        .collect();
    format!("{}  {}", name.unwrap_or_default(), rest.join(" "))
}

fn lists_objects(value: &Value) -> bool {
    let items = value.as_array();
    items.is_some_and(|items| items.first().is_some_and(Value::is_object))
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_shows_and_missing_ones_do_not_hurt() {
        let document = serde_json::json!({
            "sallyport": "0.1.0", "pid": 7,
            "io": { "driver": "uring", "reason": "why" },
            "tls": {
                "state": "invalid", "problems": ["t:1:1: `a.key` is bad"], "sessions_ended": { "r": 2 },
                "certificates": [{ "name": "a.pem + a.key", "days_left": 3, "problems": [] }],
            },
            "entry_points": [{ "name": "web", "address": ":80", "tls": null, "listening": true }],
            "children": [{
                "name": "c1", "state": "fresh", "offers": [{ "name": "orders", "weight": 2 }], "polls": { "failed": 1 },
            }],
            "counters": { "requests": 3, "misdirected": 0 },
        });
        let text = status_text(&document);
        assert!(text.contains("io: uring (why)"));
        assert!(text.contains("web  address=:80 listening=true"));
        assert!(text.contains("files invalid\n    t:1:1: `a.key` is bad\n  sessions ended r 2\n"));
        assert!(text.contains("tls certificates:\n  a.pem + a.key  days_left=3\n"));
        let child = "  c1  state=fresh polls={\"failed\":1}\n    offers orders  weight=2\n";
        let sorted = "  c1  polls={\"failed\":1} state=fresh\n    offers orders  weight=2\n";
        assert!(text.contains(child) || text.contains(sorted), "{text}");
        assert!(text.contains("requests 3") && !text.contains("misdirected"));
    }
}
