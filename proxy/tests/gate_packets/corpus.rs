//! Vectors as text files: a packet in hexadecimal, and the world that it comes into.
//!
//! `cargo xtask fuzz gate` writes them and the tests replay them. Lines that start with `#` say why a vector is
//! there.

use crate::{generate::Case, oracle::Segments, world::Switches};
use sallyport_ebpf::{Fragments, Mode};
use std::{fmt::Write as _, fs, path::PathBuf};

/// A packet in its world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) world: u64,
    pub(crate) switches: Switches,
    pub(crate) case: Case,
}

/// The folder of the vectors.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/gate_packets/corpus")
}

impl Vector {
    /// One that a run of the generator found.
    pub(crate) fn found(world: u64, switches: Switches, case: Case) -> Self {
        Self {
            world,
            switches,
            case,
        }
    }

    /// As a file.
    pub(crate) fn text(&self) -> String {
        let Switches {
            slot,
            mode,
            fragments,
        } = self.switches;
        let mut text = format!(
            "world {}\nslot {slot}\nmode {mode:?}\nfragments {fragments:?}\nsegments {:?}\nfirst_buffer {}\nnetwork {}\n",
            self.world,
            self.case.segments,
            self.case.first_buffer.unwrap_or(0),
            self.case.network,
        );
        for line in self.case.frame.chunks(32) {
            text.push_str("frame ");
            for byte in line {
                write!(text, "{byte:02x}").expect("a string takes all");
            }
            text.push('\n');
        }
        text
    }

    /// From a file.
    pub(crate) fn parse(text: &str) -> Self {
        let mut vector = Self {
            world: 0,
            switches: Switches {
                slot: 0,
                mode: Mode::Enforce,
                fragments: Fragments::Pass,
            },
            case: Case::plain(Vec::new(), 14),
        };
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            let (key, value) = line.split_once(' ').expect("a key and a value");
            vector.take(key, value.trim());
        }
        vector
    }

    fn take(&mut self, key: &str, value: &str) {
        let number = || {
            value
                .parse::<u64>()
                .unwrap_or_else(|_| panic!("`{key} {value}`: no number"))
        };
        match key {
            "world" => self.world = number(),
            "slot" => self.switches.slot = number() as u32,
            "mode" => {
                self.switches.mode = [Mode::Off, Mode::Observe, Mode::Enforce]
                    .into_iter()
                    .find(|mode| format!("{mode:?}") == value)
                    .expect("a mode");
            }
            "fragments" => {
                self.switches.fragments = [Fragments::Pass, Fragments::Strict]
                    .into_iter()
                    .find(|fragments| format!("{fragments:?}") == value)
                    .expect("what becomes of fragments");
            }
            "segments" => {
                self.case.segments = [Segments::One, Segments::Joined]
                    .into_iter()
                    .find(|segments| format!("{segments:?}") == value)
                    .expect("what segments");
            }
            "first_buffer" => self.case.first_buffer = Some(number() as u32).filter(|bytes| *bytes > 0),
            "network" => self.case.network = number() as usize,
            "frame" => {
                let byte = |pair: &str| u8::from_str_radix(pair, 16).expect("hexadecimal");
                let pairs = (0..value.len() / 2).map(|index| &value[index * 2..index * 2 + 2]);
                self.case.frame.extend(pairs.map(byte));
            }
            other => panic!("`{other}` is no key of a vector"),
        }
    }
}

/// All vectors of the folder with their names.
pub(crate) fn vectors() -> Vec<(String, Vector)> {
    let mut all: Vec<(String, Vector)> = fs::read_dir(folder())
        .expect("the folder of vectors")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a vector");
            (path.display().to_string(), Vector::parse(&text))
        })
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}
