//! Values by number, where a number that was given back is told from the one that has its place now.
//!
//! It must not know what the values are.

/// Bits of a generation: what fits beside an index and a few bits more into 64.
const GENERATION_MASK: u32 = 0x0fff_ffff;

/// Where a value is. One that was removed is found by nobody, whoever has its place now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The place.
    pub(super) index: u32,
    /// How often the place was given back before, in 28 bits.
    pub(super) generation: u32,
}

impl Key {
    /// Both in the low 60 bits.
    pub(super) fn pack(self) -> u64 {
        u64::from(self.generation & GENERATION_MASK) << 32 | u64::from(self.index)
    }

    /// What [`Key::pack`] made; bits above are not looked at.
    #[expect(clippy::cast_possible_truncation, reason = "the halves of the number")]
    pub(super) fn unpack(packed: u64) -> Self {
        Self {
            index: packed as u32,
            generation: (packed >> 32) as u32 & GENERATION_MASK,
        }
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// The values.
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds a value, unless there are `limit` already; then it comes back.
    pub(super) fn insert(&mut self, value: T, limit: u32) -> Result<Key, T> {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.value = Some(value);
            let generation = slot.generation;
            return Ok(Key { index, generation });
        }
        match u32::try_from(self.slots.len()) {
            Ok(index) if index < limit => {
                self.slots.push(Slot {
                    generation: 0,
                    value: Some(value),
                });
                Ok(Key { index, generation: 0 })
            }
            _ => Err(value),
        }
    }

    /// The value, unless it was removed.
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.value.as_ref().filter(|_| slot.generation == key.generation)
    }

    /// The value, to change.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        let (generation, value) = (slot.generation, &mut slot.value);
        value.as_mut().filter(|_| generation == key.generation)
    }

    /// Takes the value out; its place is free then.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1) & GENERATION_MASK;
        self.free.push(key.index);
        Some(value)
    }

    /// Where the values are now.
    pub(super) fn keys(&self) -> Vec<Key> {
        let taken = self.slots.iter().zip(0..);
        taken
            .filter(|(slot, _)| slot.value.is_some())
            .map(|(slot, index)| Key {
                index,
                generation: slot.generation,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_value_finds_nothing_and_a_full_table_gives_the_value_back() {
        let mut slots = Slots::new();
        let first = slots.insert('a', 2).expect("there is room");
        let second = slots.insert('b', 2).expect("there is room");
        assert_eq!(slots.insert('c', 2), Err('c'));
        assert_eq!(slots.remove(first), Some('a'));
        assert_eq!(slots.remove(first), None);
        let third = slots.insert('d', 2).expect("there is room");
        assert_eq!(third.index, first.index);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!((slots.get(third), slots.get(second)), (Some(&'d'), Some(&'b')));
        assert_eq!((slots.len(), slots.keys()), (2, vec![third, second]));
        assert_eq!(Key::unpack(third.pack() | 7 << 60), third);
    }
}
