//! The servers that one request was sent to already.

/// Servers that one request is tried with at most.
pub const ATTEMPTS_MAX: usize = 3;

/// Their places.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    places: [usize; ATTEMPTS_MAX],
    count: usize,
}

impl Tried {
    /// Notes one; returns whether another may be tried.
    pub fn note(&mut self, place: usize) -> bool {
        if let Some(free) = self.places.get_mut(self.count) {
            *free = place;
            self.count += 1;
        }
        self.count < ATTEMPTS_MAX
    }

    /// Whether it was tried.
    pub fn contains(&self, place: usize) -> bool {
        self.places.iter().take(self.count).any(|tried| *tried == place)
    }

    /// Whether none was tried.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}
