//! Middlewares, each compiled once and shared by all who name it.

use crate::middleware::{Middleware, compile};
use sallyport_config::model::Config;
use std::{collections::BTreeMap, sync::Arc};

/// By name.
pub(super) type Middlewares<'c> = BTreeMap<&'c str, Arc<Middleware>>;

/// Compiles all.
pub(super) fn middlewares(config: &Config) -> Middlewares<'_> {
    config
        .middlewares
        .iter()
        .filter_map(|(name, configured)| Some((name.as_str(), Arc::new(compile(configured)?))))
        .collect()
}

/// Those that a list names, in its order; the configuration was refused where it names another.
pub(super) fn in_order(all: &Middlewares<'_>, names: &[String]) -> Vec<Arc<Middleware>> {
    names
        .iter()
        .filter_map(|name| all.get(name.as_str()).cloned())
        .collect()
}
