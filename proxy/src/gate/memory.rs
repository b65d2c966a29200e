//! What a gate must know of the one before it: which policies the words in the kernel mean, and which numbers
//! interfaces and rows of counters have.
//!
//! It is kept in a map of its own, pinned beside the others, so that it lives exactly as long as what it is about.
//! Programs do not know it. It is replaced whole, by the rename of a pin.

use super::{error::GateError, inputs::Inputs, pins::Pins, policy::Digest, tally::Tally};
use aya::maps::{Array, Map, MapData};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io, path::Path};

/// Bytes of an entry.
const CHUNK: usize = 4096;
/// The pin.
const NAME: &str = "MEMORY";
/// The pin of the one that is about to take its place.
const NEXT: &str = "MEMORY_NEXT";

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// The number of each interface that was ever gated here.
    pub(super) attachments: BTreeMap<String, u32>,
    /// Rows of counters.
    pub(super) rows: Vec<Row>,
    /// The policies that words may mean.
    pub(super) policies: Vec<Known>,
    /// The generation of the policy that counts for good.
    pub(super) confirmed: Option<u32>,
    /// The generation of the policy that is on trial, or about to be.
    pub(super) trial: Option<u32>,
    /// The policy that was, or was to be, on trial and is not confirmed.
    pub(super) rejected: Option<Digest>,
    /// What rows counted that were given to other policies, by interface.
    pub(super) retired: BTreeMap<String, Tally>,
}

/// A row of counters and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    /// Its number.
    pub(super) row: u32,
    /// The interface.
    pub(super) interface: String,
    /// The policy's name.
    pub(super) policy: String,
}

/// A policy and the generation of its word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    /// Of the word.
    pub(super) generation: u32,
    /// What it was made from.
    pub(super) inputs: Inputs,
}

impl Memory {
    /// The policy of a generation.
    pub(super) fn policy(&self, generation: u32) -> Option<&Inputs> {
        let known = self.policies.iter().find(|known| known.generation == generation);
        known.map(|known| &known.inputs)
    }

    /// The policy that must count on, and the one that nobody confirmed.
    pub(super) fn unconfirmed(&self) -> Option<(&Inputs, Digest)> {
        let tried = self.trial.and_then(|generation| self.policy(generation));
        let rejected = tried.map(|inputs| inputs.digest).or(self.rejected)?;
        Some((self.policy(self.confirmed?)?, rejected))
    }

    /// What a gate of another layout remembered: it reads alike whatever the other maps are.
    pub(super) fn of_other_layouts(pins: &Pins) -> Option<Self> {
        let paths = pins.earlier_maps(NAME);
        paths.iter().find_map(|path| Self::read(path).ok())
    }

    /// Reads what an earlier process left; nothing where there is nothing, or nothing that can be understood.
    pub(super) fn load(pins: &Pins) -> Self {
        let path = pins.map(NAME);
        if !path.exists() {
            return Self::default();
        }
        Self::read(&path).unwrap_or_else(|why| {
            tracing::warn!(
                pin = %path.display(),
                why,
                "what an earlier gate remembered cannot be read; its counters begin anew"
            );
            Self::default()
        })
    }

    fn read(path: &Path) -> Result<Self, String> {
        let data = MapData::from_pin(path).map_err(|error| error.to_string())?;
        let entries = data.info().map_err(|error| error.to_string())?.max_entries();
        let map: Array<_, [u8; CHUNK]> =
            Array::try_from(Map::Array(data)).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        for index in 0..entries {
            bytes.extend(map.get(&index, 0).map_err(|error| error.to_string())?);
        }
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        serde_json::from_slice(bytes.get(..end).unwrap_or_default()).map_err(|error| error.to_string())
    }

    /// Puts this in the place of what was remembered.
    ///
    /// # Errors
    /// Where the kernel refuses; what was remembered stays then.
    pub(super) fn save(&self, pins: &Pins) -> Result<(), GateError> {
        // After `gate off` there is nothing that could outlive this process, and nothing to remember it beside.
        if !pins.exist() {
            return Ok(());
        }
        let bytes = serde_json::to_vec(self).map_err(|error| GateError::Memory(io::Error::other(error)))?;
        let chunks = bytes.chunks(CHUNK);
        let entries = u32::try_from(chunks.len()).unwrap_or(u32::MAX).max(1);
        let mut map: Array<_, [u8; CHUNK]> = Array::create(entries, 0).map_err(GateError::map(NAME))?;
        for (index, part) in (0..).zip(chunks) {
            let mut chunk = [0; CHUNK];
            chunk
                .get_mut(..part.len())
                .expect("no chunk is longer than one")
                .copy_from_slice(part);
            map.set(index, chunk, 0).map_err(GateError::map(NAME))?;
        }
        let next = pins.map(NEXT);
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(GateError::Memory(error)),
            _ => {}
        }
        map.pin(&next)
            .map_err(|error| GateError::Memory(io::Error::other(error)))?;
        fs::rename(&next, pins.map(NAME)).map_err(GateError::Memory)
    }
}
