//! The gate's object in the kernel: one load an attachment, all on the same pinned maps.
//!
//! It is the embedded one, or one of a file for debugging whose programs say what they let in. It must not know where
//! programs are attached.

use super::{
    error::GateError,
    pins::Pins,
    records::{Lines, Reader, Records},
    rights,
};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use aya_log::{EbpfLogger, Level};
use sallyport_ebpf::ATTACHMENTS_MAX;
use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// The programs, built by `cargo xtask ebpf`.
static EMBEDDED: &[u8] = include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/prebuilt/sallyport-gate.o"
));

/// The same for a process without CAP_PERFMON.
static EMBEDDED_BY_HELPER: &[u8] = include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/prebuilt/sallyport-gate-by-helper.o"
));

/// The maps that all attachments share, by their names in the object.
const SHARED: [&str; 14] = [
    "CFG",
    "PORTS",
    "POLICY",
    "ALLOWED",
    "COUNTERS",
    "BUDGET",
    "TOP",
    "EVENTS",
    "EVENTS_LOST",
    "SIEVE",
    "NEAR",
    "LOCAL",
    "SRC4",
    "SRC6",
];

/// What debug programs say at most; theirs is all at this level.
const LOG_LEVEL: u8 = Level::Debug as u8;

/// The numbers of attachments, as constants of loaded programs.
static NUMBERS: LazyLock<Vec<u32>> = LazyLock::new(|| (0..ATTACHMENTS_MAX).collect());

/// The programs that this gate loads.
pub(super) struct Object {
    /// One for all loads: making it reads the kernel's whole type information, which takes longer than all else that
    /// stands between an interface's appearance and its filter.
    loader: RefCell<EbpfLoader<'static>>,
    embedded: &'static [u8],
    /// Those of a file, in the place of those that this binary brings.
    debug: Option<DebugObject>,
}

/// What `cargo xtask ebpf --debug` built.
struct DebugObject {
    path: PathBuf,
    bytes: Vec<u8>,
    reader: Reader,
}

impl Object {
    /// The embedded programs, or those of the file.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(super) fn choose(debug: Option<&Path>) -> Result<Self, GateError> {
        let in_place = rights::has_perfmon();
        if !in_place {
            tracing::info!(
                "CAP_PERFMON is not there: the programs read packets by helpers, which takes longer, and kernels \
                 before 6.18 refuse them"
            );
        }
        let mut loader = EbpfLoader::new();
        // No program here is relocated by the kernel's types.
        loader.btf(None);
        let embedded = if in_place { EMBEDDED } else { EMBEDDED_BY_HELPER };
        let debug = debug.map(DebugObject::read).transpose()?;
        if debug.is_some() {
            loader.override_global("AYA_LOG_LEVEL", &LOG_LEVEL, true);
        }
        let loader = RefCell::new(loader);
        Ok(Self {
            loader,
            embedded,
            debug,
        })
    }

    /// Loads the object with `attachment` as its number. Maps that are not pinned yet are created and pinned.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn load(&self, pins: &Pins, attachment: u32) -> Result<Ebpf, GateError> {
        let number = NUMBERS
            .get(attachment as usize)
            .ok_or(GateError::Object("ATTACHMENT"))?;
        let mut loader = self.loader.borrow_mut();
        loader.override_global("ATTACHMENT", number, true);
        for name in SHARED {
            loader.map_pin_path(name, pins.map(name));
        }
        match &self.debug {
            None => loader
                .load(self.embedded)
                .map_err(|error| GateError::Load(Box::new(error))),
            Some(object) => loader
                .load(&object.bytes)
                .map_err(|error| object.refused(error.into())),
        }
    }

    /// The ring into which the object's programs write, `None` where they write nothing. It must be held until a
    /// program is loaded into the kernel: the loading needs its descriptor.
    ///
    /// # Errors
    /// Where the programs of a debug object have no ring.
    pub(super) fn records(&self, loaded: &mut Ebpf) -> Result<Option<Records>, GateError> {
        match &self.debug {
            None => Ok(None),
            Some(object) => EbpfLogger::init_with_logger(loaded, Lines::default())
                .map(Some)
                .map_err(|error| object.refused(error.into())),
        }
    }

    /// Logs what comes out of an attachment's ring from now on.
    pub(super) fn follow(&self, attachment: u32, records: Option<Records>) {
        if let (Some(object), Some(records)) = (&self.debug, records) {
            object.reader.follow(attachment, records);
        }
    }
}

impl DebugObject {
    fn read(path: &Path) -> Result<Self, GateError> {
        let unreadable = |source| GateError::DebugObject {
            path: path.to_owned(),
            source,
        };
        let bytes = fs::read(path).map_err(unreadable)?;
        let reader = Reader::start().map_err(GateError::Records)?;
        tracing::warn!(
            object = %path.display(),
            "a debug object is loaded: each packet that passes costs a record, told at the level `debug`; \
             the next start without it puts the programs of this version in its place"
        );
        Ok(Self {
            path: path.to_owned(),
            bytes,
            reader,
        })
    }

    fn refused(&self, source: Box<dyn std::error::Error + Send + Sync>) -> GateError {
        GateError::LoadDebug {
            path: self.path.clone(),
            source,
        }
    }
}
