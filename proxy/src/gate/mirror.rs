//! An array map with a copy of what it holds, so that only what differs is written: a system call an entry would make
//! every policy cost what the largest does.
//!
//! This process must be the map's only writer.

use super::error::GateError;
use aya::{
    Ebpf, Pod,
    maps::{Array, MapData},
};

/// An array map and what it holds.
pub(super) struct Mirror<T> {
    name: &'static str,
    held: Vec<T>,
}

impl<T: Pod + PartialEq + Default> Mirror<T> {
    /// The map called `name`, read whole.
    ///
    /// # Errors
    /// Where it cannot be read, or has fewer entries.
    pub(super) fn of(object: &Ebpf, name: &'static str, entries: u32) -> Result<Self, GateError> {
        let map = object.map(name).ok_or(GateError::Object(name))?;
        let map: Array<&MapData, T> = Array::try_from(map).map_err(GateError::map(name))?;
        let held: Result<Vec<T>, GateError> = (0..entries)
            .map(|index| map.get(&index, 0).map_err(GateError::map(name)))
            .collect();
        Ok(Self { name, held: held? })
    }

    /// What an entry holds; nothing beyond the last.
    pub(super) fn get(&self, index: u32) -> T {
        self.held.get(index as usize).copied().unwrap_or_default()
    }

    /// Writes those of `entries` that hold something else.
    ///
    /// # Errors
    /// Where the map refuses; what was written before counts.
    pub(super) fn write(
        &mut self,
        object: &mut Ebpf,
        entries: impl IntoIterator<Item = (u32, T)>,
    ) -> Result<(), GateError> {
        let name = self.name;
        let map = object.map_mut(name).ok_or(GateError::Object(name))?;
        let mut map: Array<&mut MapData, T> = Array::try_from(map).map_err(GateError::map(name))?;
        for (index, wanted) in entries {
            let held = self.held.get_mut(index as usize);
            if held.as_deref() == Some(&wanted) {
                continue;
            }
            map.set(index, wanted, 0).map_err(GateError::map(name))?;
            if let Some(held) = held {
                *held = wanted;
            }
        }
        Ok(())
    }
}
