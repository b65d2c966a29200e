//! State of middlewares that outlives snapshots: counts, tables and breakers, shared by the workers.
//!
//! A state belongs to a middleware's name and to a type. It lives as long as a snapshot holds it, and is found again by the
//! next one; it must not know what a state is for.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

type AnyState = dyn Any + Send + Sync;

/// States by the name of their middleware. Locked while a snapshot is compiled, never by a request.
#[derive(Debug, Default)]
pub struct Kept {
    states: Mutex<BTreeMap<String, Vec<Weak<AnyState>>>>,
}

impl Kept {
    /// The state of a middleware that is still held and fits its settings, or else a new one.
    ///
    /// A configuration that is refused after this leaves the states of the running one alone: both are known until the
    /// last holder is gone.
    pub fn state<S: Any + Send + Sync>(
        &self,
        name: &str,
        fits: impl Fn(&S) -> bool,
        make: impl FnOnce() -> S,
    ) -> Arc<S> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|_, known| {
            known.retain(|state| state.strong_count() > 0);
            !known.is_empty()
        });
        let known = states.entry(name.to_owned()).or_default();
        let held = known.iter().filter_map(Weak::upgrade);
        let found = held
            .filter_map(|state| state.downcast::<S>().ok())
            .find(|state| fits(state));
        found.unwrap_or_else(|| {
            let made = Arc::new(make());
            let state: Arc<AnyState> = Arc::clone(&made) as Arc<AnyState>;
            known.push(Arc::downgrade(&state));
            made
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(kept: &Kept, name: &str, limit: u32) -> Arc<(u32, Mutex<u32>)> {
        kept.state(name, |(known, _)| *known == limit, || (limit, Mutex::new(0)))
    }

    #[test]
    fn a_state_is_found_again_while_somebody_holds_it_and_it_fits() {
        let kept = Kept::default();
        let first = state(&kept, "a", 5);
        assert!(Arc::ptr_eq(&first, &state(&kept, "a", 5)));
        assert!(!Arc::ptr_eq(&first, &state(&kept, "b", 5)));
        let other = state(&kept, "a", 6);
        assert!(!Arc::ptr_eq(&first, &other));
        // A refused configuration does not push out the running one's.
        drop(other);
        assert!(Arc::ptr_eq(&first, &state(&kept, "a", 5)));
    }

    #[test]
    fn a_state_that_nobody_holds_is_forgotten_and_another_type_is_another_state() {
        let kept = Kept::default();
        let first = state(&kept, "a", 5);
        *first.1.lock().expect("not poisoned") = 7;
        let of_another_type: Arc<String> = kept.state("a", |_| true, || "x".to_owned());
        assert_eq!(*of_another_type, "x");
        drop(first);
        assert_eq!(*state(&kept, "a", 5).1.lock().expect("not poisoned"), 0);
        assert_eq!(kept.states.lock().expect("not poisoned").len(), 1);
    }
}
