//! Regular expressions and what takes their place.

use crate::{model::middleware::pattern::Pattern, reader::Value, report::Fault};

/// Longest pattern or replacement that is taken.
const TEXT_BYTES_MAX: usize = 4096;

/// What `compile` makes of the text.
pub(super) fn pattern(
    value: &Value<'_>,
    compile: impl FnOnce(&str) -> Result<Pattern, regex::Error>,
) -> Option<Pattern> {
    value.parsed(|text| {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(Fault::found(format!("found {} bytes", text.len()))
                .expected(format!("a regular expression of 1 to {TEXT_BYTES_MAX} bytes"))
                .fix("write one"));
        }
        compile(text).map_err(|error| {
            let expected = match error {
                regex::Error::CompiledTooBig(_) => "one that fits in 1 MiB once compiled",
                _ => "one as RE2 and the Rust crate `regex` read it",
            };
            Fault::found("found no regular expression that can be used")
                .expected(expected)
                .fix(format!("correct it; {}", in_short(&error)))
        })
    })
}

/// What takes the place of a match: any text that can stand in a URL.
pub(super) fn replacement(value: &Value<'_>) -> Option<String> {
    value.parsed(|text| {
        if text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(text.to_owned());
        }
        Err(Fault::found("found text that cannot stand in a URL")
            .expected(format!(
                "at most {TEXT_BYTES_MAX} printable ASCII characters without spaces"
            ))
            .fix("write other characters `%`-encoded"))
    })
}

/// The last line of the library's report is what is wrong; those before it draw the place.
fn in_short(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}
