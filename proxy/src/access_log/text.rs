//! Text that stays where it is put: JSON strings and quoted parts of a common line, times, and lengths.
//!
//! Everything but printable ASCII is escaped, not only what would break the syntax: some readers end a line at U+2028
//! or at a form feed, and a terminal obeys control characters of either set. Pure.

use std::{
    borrow::Cow,
    fmt::Write,
    time::{Duration, SystemTime},
};

/// Longest value that is written, in bytes before escaping; the rest is cut off.
pub(super) const VALUE_BYTES_MAX: usize = 4096;

/// The start of a value that is too long.
pub(super) fn cut(value: &str) -> Cut<'_> {
    Cut {
        text: value
            .get(..value.floor_char_boundary(VALUE_BYTES_MAX))
            .unwrap_or(value),
        short: value.len() <= VALUE_BYTES_MAX,
    }
}

/// A value, perhaps without its end.
pub(super) struct Cut<'a> {
    /// What is left.
    pub text: &'a str,
    /// Whether that is all.
    pub short: bool,
}

/// Bytes as text; what is none is replaced.
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// One JSON object, written field by field. Keys are ours.
pub(super) struct Object<'s> {
    into: &'s mut String,
    first: bool,
    /// Whether no value was cut.
    pub whole: bool,
}

impl<'s> Object<'s> {
    /// Opens an object.
    pub(super) fn open(into: &'s mut String) -> Self {
        into.push('{');
        Self {
            into,
            first: true,
            whole: true,
        }
    }

    /// Closes it.
    pub(super) fn close(self) {
        self.into.push('}');
    }

    fn key(&mut self, key: &str) {
        if !self.first {
            self.into.push(',');
        }
        self.first = false;
        json_string(self.into, key);
        self.into.push(':');
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let value = cut(value);
        self.whole &= value.short;
        json_string(self.into, value.text);
    }

    /// A string, where there is one.
    pub(super) fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// A number.
    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        let _ = write!(self.into, "{value}");
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.into.push_str(if value { "true" } else { "false" });
    }

    /// A list of strings; one alone is a string.
    pub(super) fn list(&mut self, key: &str, values: &[Cow<'_, str>]) {
        if let [only] = values {
            return self.text(key, only);
        }
        self.key(key);
        self.into.push('[');
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                self.into.push(',');
            }
            let value = cut(value);
            self.whole &= value.short;
            json_string(self.into, value.text);
        }
        self.into.push(']');
    }

    /// An object inside.
    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        let mut inner = Object::open(self.into);
        fill(&mut inner);
        let whole = inner.whole;
        inner.close();
        self.whole &= whole;
    }
}

fn json_string(into: &mut String, value: &str) {
    into.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => {
                into.push('\\');
                into.push(character);
            }
            ' '..='~' => into.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    let _ = write!(into, "\\u{unit:04x}");
                }
            }
        }
    }
    into.push('"');
}

/// A quoted part of a common line; `-` where there is nothing. Escapes are nginx's.
pub(super) fn quoted(into: &mut String, value: Option<&str>) {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return into.push_str("\"-\"");
    };
    into.push('"');
    unquoted(into, cut(value).text);
    into.push('"');
}

/// The same without its quotes.
pub(super) fn unquoted(into: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' | ..b' ' | 0x7f.. => {
                let _ = write!(into, "\\x{byte:02X}");
            }
            _ => into.push(char::from(byte)),
        }
    }
}

/// The same as a field of its own between spaces; `-` where there is nothing.
pub(super) fn word(into: &mut String, value: Option<&str>) {
    match value.map(|value| cut(value).text) {
        None | Some("") => into.push('-'),
        Some("-") => into.push_str("\\x2D"),
        Some(value) => {
            let mut plain = String::with_capacity(value.len());
            unquoted(&mut plain, value);
            into.push_str(&plain.replace(' ', "\\x20"));
        }
    }
}

/// A moment as a calendar has it, in UTC.
pub(super) struct Moment {
    year: u64,
    month: usize,
    day: u64,
    second: u64,
    millisecond: u32,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

impl Moment {
    /// A time since 1970; an earlier one is 1970.
    pub(super) fn of(time: SystemTime) -> Self {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        // Days since 1 March of the year 0, in eras of 400 years (H. Hinnant, "chrono-compatible low-level date
        // algorithms"): a year that begins in March has its leap day last.
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Self {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month: usize::try_from(month).unwrap_or(1),
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            second,
            millisecond: since.subsec_millis(),
        }
    }

    fn clock(&self) -> (u64, u64, u64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }

    /// As RFC 3339 writes it, with milliseconds.
    pub(super) fn rfc3339(&self) -> String {
        let (hour, minute, second) = self.clock();
        let Self {
            year,
            month,
            day,
            millisecond,
            ..
        } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
    }

    /// As the common log format writes it.
    pub(super) fn common(&self) -> String {
        let (hour, minute, second) = self.clock();
        let month = MONTHS.get(self.month.wrapping_sub(1)).copied().unwrap_or("Jan");
        let Self { year, day, .. } = self;
        format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, expected, common) in [
            (0, "1970-01-01T00:00:00.007Z", "01/Jan/1970:00:00:00 +0000"),
            (
                951_782_399,
                "2000-02-28T23:59:59.007Z",
                "28/Feb/2000:23:59:59 +0000",
            ),
            (
                951_868_799,
                "2000-02-29T23:59:59.007Z",
                "29/Feb/2000:23:59:59 +0000",
            ),
            (
                1_709_251_200,
                "2024-03-01T00:00:00.007Z",
                "01/Mar/2024:00:00:00 +0000",
            ),
            (
                1_798_761_599,
                "2026-12-31T23:59:59.007Z",
                "31/Dec/2026:23:59:59 +0000",
            ),
            (
                4_107_542_400,
                "2100-03-01T00:00:00.007Z",
                "01/Mar/2100:00:00:00 +0000",
            ),
        ] {
            let moment = Moment::of(SystemTime::UNIX_EPOCH + Duration::new(seconds, 7_000_000));
            assert_eq!(moment.rfc3339(), expected);
            assert_eq!(moment.common(), common);
        }
    }

    #[test]
    fn a_value_is_whole_at_its_limit_and_cut_past_it() {
        let check = |value: &str, length: usize, short: bool| {
            let cut = cut(value);
            assert_eq!((cut.text.len(), cut.short), (length, short));
        };
        check(&"x".repeat(VALUE_BYTES_MAX), VALUE_BYTES_MAX, true);
        check(&"x".repeat(VALUE_BYTES_MAX + 1), VALUE_BYTES_MAX, false);
        // No character is halved.
        check(
            &format!("x{}", "ë".repeat(VALUE_BYTES_MAX)),
            VALUE_BYTES_MAX - 1,
            false,
        );
    }

    proptest! {
        #[test]
        fn any_text_is_one_json_string_of_printable_ascii(value in any::<String>()) {
            let mut text = String::new();
            json_string(&mut text, &value);
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
            prop_assert_eq!(serde_json::from_str::<String>(&text).ok(), Some(value));
        }

        #[test]
        fn any_text_stays_inside_its_quotes(value in any::<String>()) {
            let mut text = String::new();
            quoted(&mut text, Some(&value));
            let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            prop_assert!(inside.is_some_and(|inside| !inside.contains('"')), "{text}");
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{text}");
        }
    }
}
