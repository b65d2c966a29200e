//! ClientHellos made byte by byte, for gateways that look at nothing else.

/// A hello in one record that asks for `name` and offers `protocols`; it has no key to shake hands with.
#[must_use]
pub fn record(name: &str, protocols: &[&str]) -> Vec<u8> {
    let listed: Vec<u8> = protocols.iter().flat_map(|one| short(one.as_bytes())).collect();
    let mut extensions = Vec::new();
    extend(&mut extensions, 10, &long(&[0, 29]));
    extend(
        &mut extensions,
        0,
        &long(&[&[0][..], &long(name.as_bytes())].concat()),
    );
    extend(&mut extensions, 13, &long(&[4, 3]));
    if !protocols.is_empty() {
        extend(&mut extensions, 16, &long(&listed));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend(short(&[]));
    body.extend(long(&[0x13, 0x01]));
    body.extend(short(&[0]));
    body.extend(long(&extensions));
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    [&[22, 3, 1][..], &long(&[&[1][..], &length, &body].concat())].concat()
}

/// A hello of [`record`] with one more extension, written out with its type and length.
#[must_use]
pub fn with_more(record: &[u8], extension: &[u8]) -> Vec<u8> {
    let mut hello = [record, extension].concat();
    // The lengths of the record, of the message and of the extensions, each in its last two bytes.
    for at in [3, 7, EXTENSIONS_AT] {
        let more = u16::try_from(extension.len()).unwrap_or(0);
        if let Some([high, low]) = hello.get_mut(at..at + 2) {
            let length = u16::from_be_bytes([*high, *low]).wrapping_add(more);
            [*high, *low] = length.to_be_bytes();
        }
    }
    hello
}

/// Where the length of the extensions stands: behind record header, message header, version, random, no session, one
/// suite and one compression method.
const EXTENSIONS_AT: usize = 5 + 4 + 2 + 32 + 1 + 4 + 2;

fn extend(extensions: &mut Vec<u8>, kind: u16, data: &[u8]) {
    extensions.extend(kind.to_be_bytes());
    extensions.extend(long(data));
}

/// Bytes behind a length of one byte.
fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap_or(u8::MAX)], bytes].concat()
}

/// Bytes behind a length of two bytes.
fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}
