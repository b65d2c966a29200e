//! Whole files through [`crate::parse`].

mod examples;
mod layout;
mod middleware_heads;
mod middlewares;
mod middlewares_around;
mod properties;
mod reference_doc;
mod refused;
mod routing;
mod semantics;
mod services;
mod tcp;
mod uplinks;

use crate::{Source, diagnostic::Diagnostic, model::Config, parse};

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn one(text: &str) -> Result<Config, Vec<Diagnostic>> {
    parse(&[source("s.toml", text)])
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// The configuration that `text` is.
fn accepted(text: &str) -> Config {
    match one(text) {
        Ok(config) => config,
        Err(errors) => panic!("refused:\n{}{text}", lines(&errors)),
    }
}

/// `text` has exactly the errors `expected`: each a place and fragments of its message.
fn refused(text: &str, expected: &[(&str, &[&str])]) {
    let errors = match one(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors,
    };
    let all = lines(&errors);
    assert_eq!(errors.len(), expected.len(), "{all}\n{text}");
    for (error, (place, fragments)) in errors.iter().zip(expected) {
        let at = format!("{}:{}", error.at.line, error.at.column);
        assert_eq!(at, *place, "{all}\n{text}");
        for fragment in *fragments {
            assert!(
                error.message.contains(fragment),
                "`{fragment}` is not in\n{all}\n{text}"
            );
        }
    }
}

/// One error with these fragments, wherever.
fn refused_with(text: &str, fragments: &[&str]) {
    let Err(errors) = one(text) else {
        panic!("accepted:\n{text}")
    };
    let hit = |error: &&Diagnostic| fragments.iter().all(|fragment| error.message.contains(fragment));
    assert_eq!(
        errors.iter().filter(hit).count(),
        1,
        "{fragments:?} in\n{}\n{text}",
        lines(&errors)
    );
}

/// The warnings of a configuration that is accepted.
fn warned(text: &str) -> String {
    lines(&accepted(text).warnings)
}
