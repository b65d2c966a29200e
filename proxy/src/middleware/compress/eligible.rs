//! Which answers may be compressed. Pure.

use crate::http::call::AnswerBody;
use http::{
    HeaderMap, HeaderName, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE},
};
use http_body::Body;
use sallyport_config::model::middleware::compress::{Compress, Content};

/// Fields that tell of the very bytes of a body.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];
/// Types of which whatever is in them is compressed; a `/` at the end stands for all below it.
const COMPRESSED: [&str; 17] = [
    "audio/",
    "font/woff",
    "font/woff2",
    "image/",
    "video/",
    "application/brotli",
    "application/gzip",
    "application/java-archive",
    "application/vnd.rar",
    "application/x-7z-compressed",
    "application/x-bzip2",
    "application/x-gzip",
    "application/x-rar-compressed",
    "application/x-xz",
    "application/x-zip-compressed",
    "application/zip",
    "application/zstd",
];
/// Pictures that are not.
const PLAIN_PICTURES: [&str; 3] = ["image/svg+xml", "image/bmp", "image/x-icon"];

/// The rules of one middleware.
#[derive(Debug)]
pub(super) struct Eligible {
    bytes_min: u64,
    content: Content,
}

/// Whether the answer to a request may be another than the server's.
pub(super) fn request_may(method: &Method, headers: &HeaderMap) -> bool {
    *method != Method::CONNECT && !forbids(headers)
}

fn forbids(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(CACHE_CONTROL).iter();
    let lists = lists.filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .any(|item| item.trim().eq_ignore_ascii_case("no-transform"))
}

impl Eligible {
    /// Those of a middleware.
    pub(super) fn new(settings: &Compress) -> Self {
        Self {
            bytes_min: settings.body_bytes_min,
            content: settings.content.clone(),
        }
    }

    /// Whether an answer may be compressed, whatever its client accepts.
    pub(super) fn answer_may(&self, answer: &Response<AnswerBody>) -> bool {
        let (status, headers) = (answer.status(), answer.headers());
        let bodiless = status.is_informational()
            || matches!(
                status,
                StatusCode::NO_CONTENT
                    | StatusCode::RESET_CONTENT
                    | StatusCode::PARTIAL_CONTENT
                    | StatusCode::NOT_MODIFIED
            );
        !bodiless
            && !headers.contains_key(CONTENT_RANGE)
            && !DIGESTS.iter().any(|name| headers.contains_key(name))
            && !is_encoded(headers)
            && !forbids(headers)
            && self.is_long(headers, answer.body())
            && self.is_of_kind(&content_type(headers))
    }

    fn is_long(&self, headers: &HeaderMap, body: &AnswerBody) -> bool {
        let told = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        // A header alone has no body that could tell.
        let length = told.or_else(|| body.size_hint().exact());
        length.is_none_or(|length: u64| length >= self.bytes_min.max(1))
    }

    fn is_of_kind(&self, kind: &str) -> bool {
        if kind == "application/grpc"
            || kind.starts_with("application/grpc+")
            || kind.starts_with("application/grpc-web")
        {
            return false;
        }
        let below = |known: &str| known == kind || known.ends_with('/') && kind.starts_with(known);
        let usual = || PLAIN_PICTURES.contains(&kind) || !COMPRESSED.iter().any(|known| below(known));
        match &self.content {
            Content::Usual => usual(),
            Content::Only(kinds) => kinds.iter().any(|known| known == kind),
            Content::AllBut(kinds) => usual() && !kinds.iter().any(|known| known == kind),
        }
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.any(|value| {
        let coding = value.as_bytes().trim_ascii();
        !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity")
    })
}

/// The type in lower case without parameters; empty where there is none.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next());
    kind.unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderValue;

    fn answer(status: u16, fields: &[(&str, &'static str)], length: usize) -> Response<AnswerBody> {
        let body = AnswerBody::Own(Some(Bytes::from(vec![b'x'; length])));
        let mut answer = Response::new(body);
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).expect("a name");
            answer.headers_mut().append(name, HeaderValue::from_static(value));
        }
        answer
    }

    fn eligible(content: Content) -> Eligible {
        Eligible {
            bytes_min: 1024,
            content,
        }
    }

    fn may(content: Content, kind: &'static str) -> bool {
        eligible(content).answer_may(&answer(200, &[("content-type", kind)], 2000))
    }

    #[test]
    fn kinds_of_content_are_as_configured() {
        for (kind, usual) in [
            ("text/html; charset=utf-8", true),
            ("Application/JSON", true),
            ("text/event-stream", true),
            ("image/svg+xml", true),
            ("image/png", false),
            ("video/mp4", false),
            ("application/zip", false),
            ("application/zipper", true),
            ("font/woff2", false),
            ("application/grpc", false),
            ("application/grpc+proto", false),
            ("application/grpc-web", false),
            ("application/grpc-web-text", false),
        ] {
            assert_eq!(may(Content::Usual, kind), usual, "{kind}");
        }
        let list = |kind: &str| vec![kind.to_owned()];
        assert!(may(Content::Only(list("image/png")), "image/png"));
        assert!(!may(Content::Only(list("image/png")), "text/html"));
        assert!(
            !may(Content::Only(list("application/grpc")), "application/grpc"),
            "never"
        );
        assert!(!may(Content::AllBut(list("text/css")), "text/css"));
        assert!(may(Content::AllBut(list("text/css")), "text/html"));
        assert!(
            eligible(Content::Usual).answer_may(&answer(200, &[], 2000)),
            "no type at all"
        );
    }

    #[test]
    fn what_must_stay_as_it_is_does() {
        let usual = eligible(Content::Usual);
        for (name, value) in [
            ("content-encoding", "gzip"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("cache-control", "public, No-Transform"),
            ("content-digest", "sha-256=:x:"),
            ("content-md5", "x"),
        ] {
            assert!(
                !usual.answer_may(&answer(200, &[(name, value)], 2000)),
                "{name}: {value}"
            );
        }
        assert!(usual.answer_may(&answer(200, &[("content-encoding", "identity")], 2000)));
        for status in [101, 204, 205, 206, 304] {
            assert!(!usual.answer_may(&answer(status, &[], 2000)), "{status}");
        }
        assert!(usual.answer_may(&answer(404, &[], 2000)));
        assert!(usual.answer_may(&answer(200, &[], 1024)) && !usual.answer_may(&answer(200, &[], 1023)));
        assert!(
            usual.answer_may(&answer(200, &[("content-length", "5000")], 0)),
            "of a header alone"
        );
        let mut request = HeaderMap::new();
        assert!(request_may(&Method::GET, &request) && !request_may(&Method::CONNECT, &request));
        request.insert(CACHE_CONTROL, HeaderValue::from_static("no-transform"));
        assert!(!request_may(&Method::GET, &request));
    }
}
