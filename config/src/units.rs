//! Numbers with units and digests as the file writes them: pure text to value.
//!
//! It knows no keys; a zero that means "none" is the caller's to judge.

use crate::report::Fault;
use std::time::Duration;

/// Longest duration that is taken; keeps every deadline far from the clock's end.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// `500ms`, `60s`, `1m`, `2h`.
pub(crate) fn duration(text: &str) -> Result<Duration, Fault> {
    let wrong = || {
        Fault::found(format!("found `{text}`"))
            .expected("a whole number with the unit `ms`, `s`, `m` or `h`")
            .fix("write it like `500ms`, `60s` or `2h`")
    };
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let long = || {
        Fault::found(format!("found `{text}`"))
            .expected("at most one year (`8760h`)")
            .fix("write a shorter time, or `0s` where that means none")
    };
    let total = number
        .checked_mul(milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(long)?;
    if total > DURATION_MAX {
        Err(long())
    } else {
        Ok(total)
    }
}

/// `512B`, `64KiB`, `1MiB`, `2GiB`.
pub(crate) fn size(text: &str) -> Result<u64, Fault> {
    let wrong = || {
        Fault::found(format!("found `{text}`"))
            .expected("a whole number with the unit `B`, `KiB`, `MiB` or `GiB`")
            .fix("write it like `64KiB`")
    };
    let (number, unit) = split_unit(text).ok_or_else(wrong)?;
    let bytes = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(bytes).ok_or_else(wrong)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

/// `sha256/` and the base64 of a SHA-256 digest, as in HTTP public key pinning.
pub(crate) fn pin(text: &str) -> Result<[u8; 32], Fault> {
    let wrong = || {
        Fault::found("found no digest of a public key")
            .expected("`sha256/` and the 44 base64 characters of a SHA-256 digest")
            .fix(
                "take it from `openssl x509 -pubkey -noout | \
                 openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64`",
            )
    };
    let encoded = text.strip_prefix("sha256/").ok_or_else(wrong)?;
    base64(encoded)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(wrong)
}

/// RFC 4648 section 4, padded, strict: one spelling for each value.
fn base64(text: &str) -> Option<Vec<u8>> {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let (mut bits, mut held, mut bytes) = (0u32, 0u32, Vec::new());
    for symbol in data.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        let ms = |text: &str| duration(text).map(|d| d.as_millis()).ok();
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("60s"), Some(60_000));
        assert_eq!(ms("1m"), Some(60_000));
        assert_eq!(ms("2h"), Some(7_200_000));
        assert_eq!(ms("0s"), Some(0));
        assert_eq!(ms("8760h"), Some(8760 * 3_600_000));
        for bad in [
            "",
            "60",
            "s",
            "60 s",
            "1.5s",
            "-1s",
            "8761h",
            "1d",
            "99999999999999999999s",
            "60S",
        ] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_whole_numbers_with_a_binary_unit() {
        let bytes = |text: &str| size(text).ok();
        assert_eq!(bytes("512B"), Some(512));
        assert_eq!(bytes("64KiB"), Some(65536));
        assert_eq!(bytes("1MiB"), Some(1 << 20));
        assert_eq!(bytes("2GiB"), Some(2 << 30));
        for bad in ["", "64", "64kb", "64KB", "1.5MiB", "KiB", "99999999999999999GiB"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn pins_are_strict_base64_of_32_bytes() {
        let good = "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(pin(good).expect("a digest").first(), Some(&0xe3));
        for bad in [
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
            "sha256/47DEQpj8HBSa",
            "sha256/",
            "sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ] {
            assert!(pin(bad).is_err(), "{bad}");
        }
    }
}
