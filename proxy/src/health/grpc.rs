//! The bytes of `grpc.health.v1.Health/Check`: one message each way, so small that no library is needed.

use bytes::{Bytes, BytesMut};
use std::time::Duration;

/// Where it is asked.
pub(super) const PATH: &str = "/grpc.health.v1.Health/Check";

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// It serves.
    Serving,
    /// It does not, in its own word.
    Other(&'static str),
}

/// `HealthCheckRequest { service }` in its frame.
pub(super) fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    // proto3 leaves out what is empty.
    if !service.is_empty() {
        message.extend_from_slice(&[0x0a]);
        let mut length = service.len();
        while length >= 0x80 {
            message.extend_from_slice(&[u8::try_from(length & 0x7f).unwrap_or(0) | 0x80]);
            length >>= 7;
        }
        message.extend_from_slice(&[u8::try_from(length).unwrap_or(0)]);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = BytesMut::from(&[0][..]);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// `grpc-timeout`: at most eight digits and a unit.
pub(super) fn deadline(time: Duration) -> String {
    let millis = time.as_millis();
    if millis < 100_000_000 {
        format!("{millis}m")
    } else {
        format!("{}S", time.as_secs())
    }
}

/// `HealthCheckResponse { status }` in its frame; `None` where it is none.
pub(super) fn answer(frame: &[u8]) -> Option<Serving> {
    // A compressed one was not asked for.
    let rest = frame.strip_prefix(&[0])?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if message.len() != length {
        return None;
    }
    let (mut rest, mut status) = (message, 0);
    while !rest.is_empty() {
        let (tag, after) = varint(rest)?;
        let (value, after) = match tag & 7 {
            0 => varint(after)?,
            1 => (0, after.get(8..)?),
            2 => {
                let (length, after) = varint(after)?;
                (0, after.get(usize::try_from(length).ok()?..)?)
            }
            5 => (0, after.get(4..)?),
            _ => return None,
        };
        if tag == 0x08 {
            status = value;
        }
        rest = after;
    }
    Some(match status {
        0 => Serving::Other("UNKNOWN"),
        1 => Serving::Serving,
        2 => Serving::Other("NOT_SERVING"),
        3 => Serving::Other("SERVICE_UNKNOWN"),
        _ => Serving::Other("a status that is not known"),
    })
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let shift = 7 * u32::try_from(index).ok()?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    #[test]
    fn questions_are_framed_and_name_the_service() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 308);
    }

    #[test]
    fn deadlines_have_at_most_eight_digits() {
        assert_eq!(deadline(Duration::from_secs(5)), "5000m");
        assert_eq!(deadline(Duration::from_secs(200_000)), "200000S");
    }

    #[test]
    fn answers_are_read_strictly() {
        let check =
            |frame: &[u8], expected: Option<Serving>| assert_eq!(answer(frame), expected, "{frame:?}");
        check(&[0, 0, 0, 0, 2, 8, 1], Some(Serving::Serving));
        check(&[0, 0, 0, 0, 2, 8, 2], Some(Serving::Other("NOT_SERVING")));
        check(&[0, 0, 0, 0, 0], Some(Serving::Other("UNKNOWN")));
        check(
            &[0, 0, 0, 0, 2, 8, 9],
            Some(Serving::Other("a status that is not known")),
        );
        // Fields of a later version are passed over.
        check(&[0, 0, 0, 0, 6, 0x12, 2, 8, 2, 8, 1], Some(Serving::Serving));
        for wrong in [
            &[][..],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 8, 0x80],
            &[0, 0, 0, 0, 2, 0x12, 5],
            &[0, 0, 0, 0, 1, 0x0f],
        ] {
            check(wrong, None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = answer(&bytes);
            let mut framed = vec![0, 0, 0, 0, u8::try_from(bytes.len()).expect("few")];
            framed.extend_from_slice(&bytes);
            let _ = answer(&framed);
        }
    }
}
