//! A value that remembers where it was written.

use crate::diagnostic::Location;

/// A value with its place in the configuration, for errors found later. What moved to another line is still equal.
#[derive(Clone, Debug, Eq)]
pub struct Located<T> {
    /// The value itself.
    pub value: T,
    /// Where it stands.
    pub at: Location,
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
