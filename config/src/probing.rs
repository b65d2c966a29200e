//! What a probe may say, whoever asks for it: the operator of a service, or a child gateway in what it advertises.
//!
//! Pure questions about text. It knows no keys and words no message.

use crate::address;

/// Longest path, name and field value of a probe.
const TEXT_BYTES_MAX: usize = 4096;
/// Longest method.
const METHOD_BYTES_MAX: usize = 32;
/// Fields that a probe has of its own, or that would make its framing another.
const OWN_FIELDS: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "hub-uplink",
    "hub-context",
    "hub-grant",
];

/// Whether a probe may ask for this path, with its query or without.
pub fn is_path(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    text.starts_with('/') && plain && text.len() <= TEXT_BYTES_MAX
}

/// Whether a probe may have this method. What `CONNECT` opens is no answer.
pub fn is_method(text: &str) -> bool {
    let length = (1..=METHOD_BYTES_MAX).contains(&text.len());
    length && text.bytes().all(|byte| byte.is_ascii_uppercase()) && text != "CONNECT"
}

/// Whether it can be the name of a gRPC service; empty is the whole server.
pub fn is_grpc_service(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a probe may have a field of this name beside its own.
pub fn is_field(name: &str) -> bool {
    // A server that takes `_` and `.` for `-` must not be told another framing or uplink either.
    let plain = name.to_ascii_lowercase().replace(['_', '.'], "-");
    crate::section::is_field_name(name) && !OWN_FIELDS.contains(&plain.as_str())
}

/// Whether a field of a probe may have this value.
pub fn is_field_value(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    plain && text.len() <= TEXT_BYTES_MAX
}

/// Whether it is a host name as the configuration keeps it.
pub fn is_hostname(text: &str) -> bool {
    address::host_name(text).is_ok_and(|name| name == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_names_neither_its_framing_nor_an_uplink_in_any_spelling() {
        for own in [
            "Host",
            "te",
            "Content_Length",
            "transfer.encoding",
            "HUB-UPLINK",
            "hub_uplink",
        ] {
            assert!(!is_field(own), "{own}");
        }
        for other in ["X-Probe", "Authorization", "x_probe"] {
            assert!(is_field(other), "{other}");
        }
        assert!(!is_field("") && !is_field("a b") && !is_field("a:"));
    }

    #[test]
    fn texts_at_their_limits() {
        let long = |length: usize| format!("/{}", "a".repeat(length - 1));
        assert!(is_path(&long(4096)) && !is_path(&long(4097)));
        assert!(!is_path("healthz") && !is_path("/a b") && !is_path("/a#b") && !is_path("http://x/"));
        assert!(is_method("GET") && !is_method("get") && !is_method("CONNECT") && !is_method(""));
        assert!(is_grpc_service("") && is_grpc_service("a.B") && !is_grpc_service("a b"));
        assert!(is_field_value("") && is_field_value("a b") && !is_field_value("a\r\nb"));
        assert!(is_hostname("a.example") && !is_hostname("A.example") && !is_hostname("a b"));
    }
}
