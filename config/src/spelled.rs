//! The words of the enums of the model: one table a type, read by the parser and by every page that names the value.
//! It must not know where a word stands or what it leads to.

use crate::model::{
    Destinations, GateAttach, GateMode, LaterFragments,
    access_log::{FieldRule, LineFormat},
    service::{InitialState, SameSite, Strategy},
};

/// The words of an enum in the configuration: what the file says, status and logs say too.
pub trait Spelled: Copy + PartialEq + 'static {
    /// Each word with its meaning.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of a value.
    fn word(self) -> &'static str {
        let mut words = Self::WORDS.iter();
        let found = words.find(|(_, value)| *value == self);
        found.map_or("", |(word, _)| word)
    }

    /// The value of a word.
    fn of_word(text: &str) -> Option<Self> {
        let mut words = Self::WORDS.iter();
        words.find(|(word, _)| *word == text).map(|(_, value)| *value)
    }
}

impl Spelled for GateMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("enforce", Self::Enforce),
        ("observe", Self::Observe),
        ("off", Self::Off),
    ];
}

impl Spelled for GateAttach {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("xdp", Self::Xdp),
        ("tc", Self::Tc),
        ("clsact", Self::Clsact),
        ("xdp-generic", Self::XdpGeneric),
    ];
}

impl Spelled for LaterFragments {
    const WORDS: &'static [(&'static str, Self)] = &[("pass", Self::Pass), ("strict", Self::Strict)];
}

impl Spelled for Destinations {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Self::Auto), ("local", Self::Local), ("any", Self::Any)];
}

impl Spelled for LineFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("json", Self::Json), ("common", Self::Common)];
}

impl Spelled for FieldRule {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("redact", Self::Redact),
    ];
}

impl Spelled for Strategy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("wrr", Self::Wrr),
        ("p2c", Self::P2c),
        ("least_time", Self::LeastTime),
        ("hrw", Self::Hrw),
    ];
}

impl Spelled for InitialState {
    const WORDS: &'static [(&'static str, Self)] = &[("up", Self::Up), ("down", Self::Down)];
}

impl Spelled for SameSite {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("lax", Self::Lax), ("strict", Self::Strict)];
}
