//! The type-length-value fields of a version 2 header: structure, checksum, and what is kept of them.
//!
//! A field that breaks the rules of its type refuses the header, whether or not anybody asks for that field.

use super::{PreambleError, UNIQUE_ID_BYTES_MAX, V2_FIXED_BYTES};
use crate::preamble::{
    asserted::{Asserted, AssertedTls, ClientBits, Told},
    crc32c::Crc32c,
};

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CRC32C: u8 = 0x03;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;
const SSL_SIG_ALG: u8 = 0x24;
const SSL_KEY_ALG: u8 = 0x25;
const SSL_GROUP: u8 = 0x26;
const SSL_SIG_SCHEME: u8 = 0x27;
const SSL_CLIENT_CERT: u8 = 0x28;
const NETNS: u8 = 0x30;

/// Reads the fields behind the fixed part and `block` bytes of addresses; `None` where none is kept.
///
/// # Errors
/// Where the addresses do not fit, a field runs past the end, breaks its type's rules or stands twice, or the
/// checksum does not agree.
pub(super) fn fields(header: &[u8], block: usize) -> Result<Option<Box<Asserted>>, PreambleError> {
    let mut rest = header
        .get(V2_FIXED_BYTES + block..)
        .ok_or(PreambleError::AddressBlockTooShort {
            needed: block,
            got: header.len().saturating_sub(V2_FIXED_BYTES),
        })?;
    let mut kept: Option<Box<Asserted>> = None;
    let mut seen = Seen::default();
    let mut checksum = Ok(());
    while let Some(Field { kind, value, after }) = next(rest)? {
        rest = after;
        match kind {
            ALPN | AUTHORITY | UNIQUE_ID | SSL | NETNS => {
                seen.note(kind)?;
                keep(kept.get_or_insert_default(), kind, value)?;
            }
            CRC32C => {
                seen.note(kind)?;
                checksum = check_crc(header, value, after.len());
            }
            // NOOP is padding; types that are unknown or a sender's own are skipped (section 2.2).
            _ => {}
        }
    }
    // Judged last: a header that is damaged in its structure is reported as that.
    checksum.map(|()| kept)
}

fn keep(asserted: &mut Asserted, kind: u8, value: &[u8]) -> Result<(), PreambleError> {
    let good = match kind {
        AUTHORITY => std::str::from_utf8(value).is_ok_and(|text| !text.contains('\0')),
        UNIQUE_ID => value.len() <= UNIQUE_ID_BYTES_MAX,
        NETNS => value.is_ascii(),
        _ => true,
    };
    if !good {
        return Err(PreambleError::BadField { kind });
    }
    match kind {
        ALPN => asserted.alpn = Some(Told::new(value)),
        AUTHORITY => asserted.authority = Some(Told::new(value)),
        UNIQUE_ID => asserted.unique_id = Some(Told::new(value)),
        NETNS => asserted.netns = Some(Told::new(value)),
        SSL => asserted.tls = Some(tls(value)?),
        _ => {}
    }
    Ok(())
}

/// `PP2_TYPE_SSL`: one byte of bits, four of the verifier's result, fields of its own (section 2.2.6).
fn tls(value: &[u8]) -> Result<AssertedTls, PreambleError> {
    let (fixed, mut rest) = value
        .split_first_chunk::<5>()
        .ok_or(PreambleError::BadField { kind: SSL })?;
    let [client, verify @ ..] = *fixed;
    let mut tls = AssertedTls {
        client: ClientBits(client),
        verify: u32::from_be_bytes(verify),
        ..AssertedTls::default()
    };
    let mut seen = Seen::default();
    while let Some(Field { kind, value, after }) = next(rest)? {
        rest = after;
        let place = match kind {
            SSL_VERSION => &mut tls.version,
            SSL_CN => &mut tls.common_name,
            SSL_CIPHER => &mut tls.cipher,
            SSL_SIG_ALG => &mut tls.signature_algorithm,
            SSL_KEY_ALG => &mut tls.key_algorithm,
            SSL_GROUP => &mut tls.group,
            SSL_SIG_SCHEME => &mut tls.signature_scheme,
            // Nobody asks for it here, and it may be most of the header.
            SSL_CLIENT_CERT => {
                seen.note(kind)?;
                continue;
            }
            _ => continue,
        };
        seen.note(kind)?;
        // A common name is the client's and should be UTF-8; haproxy passes on what the certificate holds, which may
        // be older than that, and `Told` escapes it. The others are names of algorithms.
        if kind != SSL_CN && !value.is_ascii() {
            return Err(PreambleError::BadField { kind });
        }
        *place = Some(Told::new(value));
    }
    Ok(tls)
}

/// Which of the types that may stand once were there.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn note(&mut self, kind: u8) -> Result<(), PreambleError> {
        let bit = 1u64.checked_shl(kind.into()).unwrap_or_default();
        if self.0 & bit != 0 {
            return Err(PreambleError::DuplicateField { kind });
        }
        self.0 |= bit;
        Ok(())
    }
}

/// One field, and what follows it.
struct Field<'a> {
    kind: u8,
    value: &'a [u8],
    after: &'a [u8],
}

/// The first field of `bytes`; `None` at the end.
fn next(bytes: &[u8]) -> Result<Option<Field<'_>>, PreambleError> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let overrun = PreambleError::FieldOverrun;
    let (length, rest) = rest.split_first_chunk::<2>().ok_or(overrun)?;
    let length = usize::from(u16::from_be_bytes(*length));
    let (value, after) = rest.split_at_checked(length).ok_or(overrun)?;
    Ok(Some(Field { kind, value, after }))
}

/// The checksum covers the whole header with its own four bytes as zeros (section 2.2.3); `after` bytes
/// follow them.
fn check_crc(header: &[u8], value: &[u8], after: usize) -> Result<(), PreambleError> {
    let told: [u8; 4] = value
        .try_into()
        .map_err(|_| PreambleError::BadField { kind: CRC32C })?;
    let end = header.len().saturating_sub(after);
    let front = header.get(..end.saturating_sub(told.len())).unwrap_or_default();
    let back = header.get(end..).unwrap_or_default();
    let found = Crc32c::new().update(front).update(&[0; 4]).update(back).finish();
    if found == u32::from_be_bytes(told) {
        Ok(())
    } else {
        Err(PreambleError::BadChecksum)
    }
}
