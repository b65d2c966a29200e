//! The gate's object in the kernel: one load an attachment, all on the same pinned maps.

use super::{error::GateError, pins::Pins};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

/// The programs, built by `cargo xtask ebpf`.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/prebuilt/sallyport-gate.o"
));

/// The maps that all attachments share, by their names in the object.
const SHARED: [&str; 8] = [
    "CFG", "PORTS", "POLICY", "ALLOWED", "LOCAL", "COUNTERS", "SRC4", "SRC6",
];

/// Loads the object with `attachment` as its number. Maps that are not pinned yet are created and pinned.
///
/// # Errors
/// Where the kernel refuses.
pub(super) fn load(pins: &Pins, attachment: u32) -> Result<Ebpf, GateError> {
    let mut loader = EbpfLoader::new();
    loader.override_global("ATTACHMENT", &attachment, true);
    for name in SHARED {
        loader.map_pin_path(name, pins.map(name));
    }
    loader
        .load(OBJECT)
        .map_err(|error| GateError::Load(Box::new(error)))
}
