//! A reader of HTTP/1.1 requests that knows one spelling of each thing: what it takes, no reader takes for something else.
//!
//! It is for what a gateway writes, which must be canonical; whatever is not is an error. Pure: bytes in, requests out.

use anyhow::{Context, Result, bail, ensure};

/// Names in lower case, and values.
pub type Fields = Vec<(String, Vec<u8>)>;

/// A request as it stands on a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its target.
    pub target: String,
    /// Its fields in their order; names in lower case.
    pub fields: Fields,
    /// Its body without its framing, as far as it came.
    pub body: Vec<u8>,
    /// Whether all of it came.
    pub whole: bool,
}

impl Request {
    /// The first value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields.iter();
        fields
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_slice())
    }
}

/// Bytes that are left.
struct Rest<'b>(&'b [u8]);

impl<'b> Rest<'b> {
    /// The next line without its end; `None` where its end is not there.
    fn line(&mut self) -> Option<&'b [u8]> {
        let end = self.0.windows(2).position(|two| two == b"\r\n")?;
        let (line, rest) = self.0.split_at(end);
        self.0 = rest.get(2..).unwrap_or_default();
        Some(line)
    }

    /// The next bytes; `None`, and all that there are, where they are fewer.
    fn take(&mut self, count: usize) -> Result<&'b [u8], &'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(self.0)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// All requests of one connection, the last perhaps without its end.
///
/// # Errors
/// Where a byte is not what a careful sender writes.
pub fn read(bytes: &[u8]) -> Result<Vec<Request>> {
    let mut rest = Rest(bytes);
    let mut all = Vec::new();
    while !rest.0.is_empty() {
        let start = rest.0;
        let one = request(&mut rest);
        let one = one.with_context(|| format!("not canonical: {:.600?}", String::from_utf8_lossy(start)))?;
        ensure!(
            one.whole || rest.0.is_empty(),
            "bytes behind a request that did not end"
        );
        all.push(one);
    }
    Ok(all)
}

fn request(rest: &mut Rest<'_>) -> Result<Request> {
    let line = rest.line().context("a request line without end")?;
    let line = std::str::from_utf8(line).context("a request line that is no text")?;
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some("HTTP/1.1"), None) = (method, target, version, words.next()) else {
        bail!("the request line is not `METHOD TARGET HTTP/1.1`");
    };
    ensure!(is_token(method), "the method is no token");
    let printable = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    ensure!(printable && !target.is_empty(), "the target is not printable");
    let fields = section(rest)?.context("a header section without end")?;
    let framing = framing(&fields)?;
    let mut request = Request {
        method: method.to_owned(),
        target: target.to_owned(),
        fields,
        body: Vec::new(),
        whole: true,
    };
    match framing {
        Framing::None => {}
        Framing::Length(length) => match rest.take(length) {
            Ok(body) => request.body = body.to_vec(),
            Err(part) => cut(rest, &mut request, part),
        },
        Framing::Chunked => chunks(rest, &mut request)?,
    }
    Ok(request)
}

fn cut(rest: &mut Rest<'_>, request: &mut Request, part: &[u8]) {
    request.body.extend_from_slice(part);
    request.whole = false;
    rest.0 = &[];
}

/// Lines up to the empty one; `None` where it does not come.
fn section(rest: &mut Rest<'_>) -> Result<Option<Fields>> {
    let mut fields = Vec::new();
    loop {
        let Some(line) = rest.line() else {
            return Ok(None);
        };
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.context("a field without colon")?);
        let name = std::str::from_utf8(name).context("a name that is no text")?;
        ensure!(is_token(name), "`{name}` is no name");
        let value = value.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        ensure!(
            value.trim_ascii() == value,
            "`{name}` has a value with spaces around it"
        );
        let control = value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t');
        ensure!(!control, "`{name}` has a control character");
        fields.push((name.to_ascii_lowercase(), value.to_vec()));
    }
}

fn is_token(text: &str) -> bool {
    let sign = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || sign(byte))
}

enum Framing {
    None,
    Length(usize),
    Chunked,
}

fn framing(fields: &[(String, Vec<u8>)]) -> Result<Framing> {
    let all = |name: &str| -> Vec<&[u8]> {
        let named = fields.iter().filter(|(given, _)| given == name);
        named.map(|(_, value)| value.as_slice()).collect()
    };
    // Spellings that some reader takes for these.
    let alike = |name: &str| {
        let folded = name.replace(['_', '.'], "-");
        ["content-length", "transfer-encoding"].contains(&folded.as_str()) && folded != name
    };
    ensure!(
        !fields.iter().any(|(name, _)| alike(name)),
        "a name that is nearly one of framing"
    );
    ensure!(all("host").len() == 1, "not one `Host`");
    match (
        all("content-length").as_slice(),
        all("transfer-encoding").as_slice(),
    ) {
        ([], []) => Ok(Framing::None),
        ([], [b"chunked"]) => Ok(Framing::Chunked),
        ([length], []) => {
            let text = std::str::from_utf8(length)?;
            let number: usize = text.parse().context("a length that is no number")?;
            ensure!(number.to_string() == text, "the length `{text}`");
            Ok(Framing::Length(number))
        }
        (lengths, codings) => bail!("framed by {lengths:?} and {codings:?}"),
    }
}

fn chunks(rest: &mut Rest<'_>, request: &mut Request) -> Result<()> {
    loop {
        let Some(size) = rest.line() else {
            cut(rest, request, &[]);
            return Ok(());
        };
        let size = std::str::from_utf8(size)?;
        let hexadecimal = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(
            hexadecimal && (size == "0" || !size.starts_with('0')),
            "the chunk size `{size}`"
        );
        let size = usize::from_str_radix(size, 16)?;
        if size == 0 {
            return trailers(rest, request);
        }
        match rest.take(size) {
            Ok(data) => request.body.extend_from_slice(data),
            Err(part) => {
                cut(rest, request, part);
                return Ok(());
            }
        }
        match rest.take(2) {
            Ok(b"\r\n") => {}
            Ok(other) => bail!("a chunk ends in {other:?}"),
            Err(_) => {
                cut(rest, request, &[]);
                return Ok(());
            }
        }
    }
}

fn trailers(rest: &mut Rest<'_>, request: &mut Request) -> Result<()> {
    let Some(trailers) = section(rest)? else {
        cut(rest, request, &[]);
        return Ok(());
    };
    let forbidden = ["content-length", "transfer-encoding", "host", "trailer"];
    let bad = trailers
        .iter()
        .find(|(name, _)| forbidden.contains(&name.as_str()));
    ensure!(bad.is_none(), "a trailer that is one of framing: {bad:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn one_spelling_is_taken() {
        let all = read(
            b"GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi\
              POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\nx: y\r\n\r\n",
        );
        let all = all.expect("canonical");
        let bodies: Vec<&[u8]> = all.iter().map(|request| request.body.as_slice()).collect();
        assert_eq!(bodies, [&b""[..], b"hi", b"hi!"]);
        assert!(all.iter().all(|request| request.whole));
    }

    #[test]
    fn what_is_cut_is_not_whole() {
        for text in [
            "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nh",
            "POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nh",
            "POST /b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n0\r\n",
        ] {
            let all = read(text.as_bytes()).expect(text);
            assert!(
                all.len() == 1 && all.iter().all(|request| !request.whole),
                "{text}"
            );
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        for (line, fields, body) in [
            ("GET  /a HTTP/1.1", "host: a\r\n", ""),
            ("GET /a HTTP/1.0", "host: a\r\n", ""),
            ("GET /a#b HTTP/1.1", "host: a\r\n", ""),
            ("GET /a HTTP/1.1", "", ""),
            ("GET /a HTTP/1.1", "host: a\r\nhost: a\r\n", ""),
            ("GET /a HTTP/1.1", "host: a\r\nx : y\r\n", ""),
            ("GET /a HTTP/1.1", "host: a\r\nx: y \r\n", ""),
            ("GET /a HTTP/1.1", "host: a\r\nx: a\rb\r\n", ""),
            ("GET /a HTTP/1.1", "host: a\r\n y\r\n", ""),
            ("GET /a HTTP/1.1", "host: a\r\ncontent-length: 02\r\n", "hi"),
            ("GET /a HTTP/1.1", "host: a\r\ncontent-length: +2\r\n", "hi"),
            ("GET /a HTTP/1.1", "host: a\r\ncontent_length: 2\r\n", ""),
            (
                "GET /a HTTP/1.1",
                "host: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n",
                "0\r\n\r\n",
            ),
            (
                "GET /a HTTP/1.1",
                "host: a\r\ntransfer-encoding: chunked\r\n",
                "0x2\r\nhi\r\n0\r\n\r\n",
            ),
            (
                "GET /a HTTP/1.1",
                "host: a\r\ntransfer-encoding: chunked\r\n",
                "2;x\r\nhi\r\n0\r\n\r\n",
            ),
            (
                "GET /a HTTP/1.1",
                "host: a\r\ntransfer-encoding: chunked\r\n",
                "0\r\ncontent-length: 1\r\n\r\n",
            ),
        ] {
            let text = format!("{line}\r\n{fields}\r\n{body}");
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
