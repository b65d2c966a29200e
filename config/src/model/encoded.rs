//! Characters that a path may say by triplets (`%2F`), which some servers read as if they stood there plainly.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodedCharacter {
    /// `/`, `%2F`.
    Slash,
    /// `\`, `%5C`.
    BackSlash,
    /// NUL, `%00`.
    NullCharacter,
    /// `;`, `%3B`.
    Semicolon,
    /// `%`, `%25`.
    Percent,
    /// `?`, `%3F`.
    QuestionMark,
    /// `#`, `%23`.
    Hash,
}

impl EncodedCharacter {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Slash,
        Self::BackSlash,
        Self::NullCharacter,
        Self::Semicolon,
        Self::Percent,
        Self::QuestionMark,
        Self::Hash,
    ];

    /// Its key in `routers.NAME.encoded_characters`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Slash => "allow_encoded_slash",
            Self::BackSlash => "allow_encoded_back_slash",
            Self::NullCharacter => "allow_encoded_null_character",
            Self::Semicolon => "allow_encoded_semicolon",
            Self::Percent => "allow_encoded_percent",
            Self::QuestionMark => "allow_encoded_question_mark",
            Self::Hash => "allow_encoded_hash",
        }
    }

    /// The one that a triplet of this value says.
    pub fn of(value: u8) -> Option<Self> {
        match value {
            b'/' => Some(Self::Slash),
            b'\\' => Some(Self::BackSlash),
            0 => Some(Self::NullCharacter),
            b';' => Some(Self::Semicolon),
            b'%' => Some(Self::Percent),
            b'?' => Some(Self::QuestionMark),
            b'#' => Some(Self::Hash),
            _ => None,
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodedCharacters(u8);

impl EncodedCharacters {
    /// What a router refuses that says nothing of them.
    pub const REFUSED: Self = Self(1 << EncodedCharacter::NullCharacter as u8);

    /// Puts one in.
    pub fn insert(&mut self, character: EncodedCharacter) {
        self.0 |= character.bit();
    }

    /// Takes one out.
    pub fn remove(&mut self, character: EncodedCharacter) {
        self.0 &= !character.bit();
    }

    /// Whether one is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether one is in it.
    pub fn contains(self, character: EncodedCharacter) -> bool {
        self.0 & character.bit() != 0
    }
}
