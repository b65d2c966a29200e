//! CRC32C (Castagnoli, RFC 3720 appendix B.4), table-driven, for the checksum of PROXY v2 headers.
//!
//! It guards against damage, never against an adversary.

/// The reflected Castagnoli polynomial.
const POLYNOMIAL: u32 = 0x82F6_3B78;

const TABLE: [u32; 256] = table();

/// A checksum under way, fed piece by piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    /// The checksum of nothing yet.
    pub(super) fn new() -> Self {
        Self(u32::MAX)
    }

    /// Takes in more bytes.
    #[must_use]
    pub(super) fn update(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |state, byte| {
            let index = usize::from(state.to_le_bytes()[0] ^ byte);
            (state >> 8) ^ TABLE.get(index).copied().unwrap_or_default()
        }))
    }

    /// The checksum of all that was taken in.
    pub(super) fn finish(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated while compiling, where an index past the end is an error"
)]
const fn table() -> [u32; 256] {
    let mut table = [0u32; 256];
    let mut index = 0usize;
    let mut seed = 0u32;
    while index < table.len() {
        let mut value = seed;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ POLYNOMIAL
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
        seed += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::Crc32c;

    fn crc(bytes: &[u8]) -> u32 {
        Crc32c::new().update(bytes).finish()
    }

    #[test]
    fn the_vectors_of_rfc_3720_come_out() {
        assert_eq!(crc(b""), 0);
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        assert_eq!(crc(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc(&[0xFF; 32]), 0x62A8_AB43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc(&rising), 0x46DD_794E);
    }

    #[test]
    fn pieces_give_the_checksum_of_the_whole() {
        let whole: Vec<u8> = (0..=255).collect();
        for cut in 0..whole.len() {
            let (left, right) = whole.split_at(cut);
            assert_eq!(Crc32c::new().update(left).update(right).finish(), crc(&whole));
        }
    }
}
