//! Printing: reports to standard output, everything else to standard error.

use super::{FAILED, OK};
use crate::fault::with_causes;
use sallyport_config::diagnostic::Diagnostic;
use std::{error::Error, io::Write};

/// Prints to standard output; a closed pipe is the reader's choice.
pub(super) fn say(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    OK
}

/// Prints a document.
pub(super) fn say_json(document: &impl serde::Serialize) -> u8 {
    match serde_json::to_string_pretty(document) {
        Ok(text) => say(&format!("{text}\n")),
        Err(error) => {
            say_failure(&error);
            FAILED
        }
    }
}

/// Prints a line to standard error.
pub(super) fn say_error(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints what is wrong with a configuration.
pub(super) fn say_problems(problems: &[Diagnostic]) {
    for problem in problems {
        say_error(&problem.to_string());
    }
}

/// Prints a failure with its causes.
pub(super) fn say_failure(error: &dyn Error) {
    say_error(&format!("sallyport: {}", with_causes(error)));
}
