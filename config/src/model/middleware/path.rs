//! The kinds that change the path of a request. Paths are those that rules see: canonical, `%`-encoded.

use super::pattern::Pattern;

/// `[middlewares.NAME.strip_prefix]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripPrefix {
    /// The first of these that the path begins with is taken off.
    pub prefixes: Vec<String>,
}

/// `[middlewares.NAME.strip_prefix_regex]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripPrefixRegex {
    /// What the first of these takes of the path's beginning is taken off.
    pub patterns: Vec<Pattern>,
}

/// `[middlewares.NAME.add_prefix]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPrefix {
    /// Goes before the path; does not end with `/`.
    pub prefix: String,
}

/// `[middlewares.NAME.replace_path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacePath {
    /// The new path.
    pub path: String,
}

/// `[middlewares.NAME.replace_path_regex]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacePathRegex {
    /// What is replaced.
    pub pattern: Pattern,
    /// By what; `$1` stands for a group.
    pub replacement: String,
}
