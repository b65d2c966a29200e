//! Middlewares, each compiled once and shared by all who name it.

use crate::middleware::{Making, Middleware, compile, follows_lists};
use sallyport_config::{diagnostic::Diagnostic, model};
use std::{collections::BTreeMap, sync::Arc};

/// By name.
pub(super) type Middlewares<'c> = BTreeMap<&'c str, Arc<Middleware>>;

/// Compiles all; what cannot be used goes to `problems`.
pub(super) fn middlewares<'c>(making: Making<'c>, problems: &mut Vec<Diagnostic>) -> Middlewares<'c> {
    some(making, |_| true, problems)
}

/// Compiles those that are made of allowlists.
///
/// # Errors
/// What cannot be used.
pub(super) fn of_lists(making: Making<'_>) -> Result<Middlewares<'_>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let made = some(making, follows_lists, &mut problems);
    if problems.is_empty() {
        Ok(made)
    } else {
        Err(problems)
    }
}

fn some<'c>(
    making: Making<'c>,
    wanted: impl Fn(&model::middleware::Middleware) -> bool,
    problems: &mut Vec<Diagnostic>,
) -> Middlewares<'c> {
    let mut made = Middlewares::new();
    for (name, configured) in &making.config.middlewares {
        if !wanted(configured) {
            continue;
        }
        match compile(name, configured, making) {
            Ok(Some(middleware)) => {
                made.insert(name, Arc::new(middleware));
            }
            Ok(None) => {}
            Err(found) => problems.extend(found),
        }
    }
    made
}

/// Those that a list names, in its order; the configuration was refused where it names another.
pub(super) fn in_order(all: &Middlewares<'_>, names: &[String]) -> Vec<Arc<Middleware>> {
    names
        .iter()
        .filter_map(|name| all.get(name.as_str()).cloned())
        .collect()
}

/// A compiled list with those of its members replaced that are in `fresh`; `names` is what it was compiled from.
pub(super) fn replaced(
    list: &[Arc<Middleware>],
    names: &[String],
    fresh: &Middlewares<'_>,
) -> Vec<Arc<Middleware>> {
    let each = list.iter().zip(names);
    each.map(|(old, name)| Arc::clone(fresh.get(name.as_str()).unwrap_or(old)))
        .collect()
}
