//! `compress`: answers in fewer bytes.

/// `compress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    /// The codings that are offered, the best first.
    pub encodings: Vec<Encoding>,
    /// The coding for a client that says nothing, or `*`; `None`: none for the one, the best for the other.
    pub default_encoding: Option<Encoding>,
    /// Shorter answers stay as they are, where the length is known.
    pub body_bytes_min: u64,
    /// Which kinds of content.
    pub content: Content,
}

/// Which kinds of content are compressed; types are lower case, without parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All but those that are compressed by their nature.
    Usual,
    /// These.
    Only(Vec<String>),
    /// What is usual but these.
    AllBut(Vec<String>),
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `gzip`.
    Gzip,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

impl Encoding {
    /// Its word in the configuration and in header fields.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}
