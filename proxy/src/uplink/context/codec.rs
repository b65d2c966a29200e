//! Fields of a context: a tag, a length, a value each, in the order of their tags, each at most once.
//!
//! One value has one encoding. What is not understood is refused, not skipped: the version says what there can be.

/// What was read is not what a parent writes; the text says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Writes fields.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Writes a field; the caller keeps tags in order and values below 64 KiB.
    pub(super) fn field(&mut self, tag: u8, value: &[u8]) {
        let length = u16::try_from(value.len()).expect("callers bound values far below this");
        self.0.push(tag);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(value);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields.
pub(super) struct Reader<'a> {
    left: &'a [u8],
    last: u8,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes, last: 0 }
    }

    /// The next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Malformed> {
        let Some((head, rest)) = self.left.split_first_chunk::<3>() else {
            return if self.left.is_empty() {
                Ok(None)
            } else {
                Err(Malformed("a field is cut off"))
            };
        };
        let [tag, high, low] = *head;
        if tag <= self.last {
            return Err(Malformed("fields are out of order"));
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest
            .split_at_checked(length)
            .ok_or(Malformed("a field is cut off"))?;
        (self.left, self.last) = (rest, tag);
        Ok(Some((tag, value)))
    }
}
