//! What a gateway is called towards other gateways: sixteen random bytes, the same over restarts.

use std::fmt;

/// A gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatewayId(pub [u8; Self::BYTES]);

impl GatewayId {
    /// How long it is.
    pub const BYTES: usize = 16;

    /// Reads what [`fmt::Display`] writes; `None` for anything else.
    pub fn read(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return None;
        }
        let mut id = [0; Self::BYTES];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let mut value = 0;
            for digit in pair {
                value = value * 16 + char::from(*digit).to_digit(16)?;
            }
            *byte = u8::try_from(value).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
