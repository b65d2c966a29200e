//! The alphabets of password hashes. Padding is the caller's.

/// RFC 4648 section 4 without padding; strict: one spelling for each value.
pub(super) fn standard(text: &str) -> Option<Vec<u8>> {
    let value = |symbol: u8| match symbol {
        b'A'..=b'Z' => Some(symbol - b'A'),
        b'a'..=b'z' => Some(symbol - b'a' + 26),
        b'0'..=b'9' => Some(symbol - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (bytes, spare) = decode(text, value)?;
    (spare == 0).then_some(bytes)
}

/// bcrypt's own. Bits that are left over count for nothing, because some writers leave them as they come.
pub(super) fn bcrypt(text: &str) -> Option<Vec<u8>> {
    let value = |symbol: u8| match symbol {
        b'.' => Some(0),
        b'/' => Some(1),
        b'A'..=b'Z' => Some(symbol - b'A' + 2),
        b'a'..=b'z' => Some(symbol - b'a' + 28),
        b'0'..=b'9' => Some(symbol - b'0' + 54),
        _ => None,
    };
    decode(text, value).map(|(bytes, _)| bytes)
}

/// Whether a byte stands in the alphabet of crypt.
pub(super) fn is_crypt(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/')
}

/// The bytes of symbols of six bits each, the first one highest, and the bits that are left over.
fn decode(text: &str, value: impl Fn(u8) -> Option<u8>) -> Option<(Vec<u8>, u32)> {
    // One symbol alone is not a byte.
    if text.len() % 4 == 1 {
        return None;
    }
    let (mut bits, mut held, mut bytes) = (0u32, 0u32, Vec::new());
    for symbol in text.bytes() {
        bits = (bits << 6) | u32::from(value(symbol)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    Some((bytes, bits))
}
