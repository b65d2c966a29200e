//! Why the gate cannot do what it was told: each names the object, the cause and the remedy.

use std::{io, path::PathBuf};

/// `sysexits.h`: a service it needs is not there.
const UNAVAILABLE: u8 = 69;
/// `sysexits.h`: not permitted.
const NOT_PERMITTED: u8 = 77;
const FAILED: u8 = 1;
const CONFIG: u8 = 78;

/// The gate's errors.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A capability is missing.
    #[error(
        "the gate needs the capability {0}, which this process has not; run it as root or by its systemd unit"
    )]
    Capability(&'static str),
    /// Only root may.
    #[error("`{0}` is for root; run it as root")]
    NotRoot(&'static str),
    /// bpffs is not there.
    #[error("`{}` is on no bpf file system, so nothing could outlive this process; mount it: `mount -t bpf bpf /sys/fs/bpf`, or set `gate.pin_dir`", path.display())]
    NoBpffs {
        /// `gate.pin_dir`.
        path: PathBuf,
    },
    /// The pin directory cannot be used.
    #[error("cannot use `{}`", path.display())]
    Pins {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The network namespace cannot be told.
    #[error("cannot tell this process's network namespace: is /proc mounted?")]
    Namespace(#[source] io::Error),
    /// The policy does not fit the programs.
    #[error("the policy does not fit the gate: {0}")]
    Policy(String),
    /// The programs cannot be loaded.
    #[error("the kernel refused the gate's programs; Linux 5.18 or newer with BPF and BTF is needed")]
    Load(#[source] Box<aya::EbpfError>),
    /// The file with the debug object cannot be read.
    #[error("cannot read the debug object `{}`; `cargo xtask ebpf --debug` builds one", path.display())]
    DebugObject {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The debug object is none, or the kernel refuses it.
    #[error("cannot load the debug object `{}`; build it anew by `cargo xtask ebpf --debug`, or start without it", path.display())]
    LoadDebug {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing can read what a debug object's programs say.
    #[error("cannot start the thread that reads what the debug object's programs say")]
    Records(#[source] io::Error),
    /// A map or program of the object is not what this version expects.
    #[error("`{0}` is missing in the gate's object; install the package again")]
    Object(&'static str),
    /// A map refused an update.
    #[error("the kernel refused an update of the map `{name}`")]
    Map {
        /// Which.
        name: &'static str,
        /// Why.
        source: Box<aya::maps::MapError>,
    },
    /// What must outlive this process cannot be written down.
    #[error("cannot remember the policy beside the pins")]
    Memory(#[source] io::Error),
    /// The processors cannot be counted.
    #[error("cannot tell how many processors there may be")]
    Cpus(#[source] io::Error),
    /// A policy is on trial.
    #[error(
        "a policy is on trial; `sallyport gate confirm` makes it permanent, or wait until it has been taken back"
    )]
    OnTrial,
    /// The time to confirm is none.
    #[error("the time to confirm is between one second and a day")]
    ConfirmTime,
    /// Whom a policy would cut cannot be told.
    #[error(
        "established connections cannot be told, so nothing says whom the policy would cut; `--force` applies it all the same"
    )]
    Preflight(#[source] io::Error),
    /// No policy is on trial.
    #[error(
        "no policy is on trial, so there is nothing to confirm; it may have been taken back already: see `sallyport gate status`"
    )]
    NoTrial,
    /// The gate's socket cannot be opened.
    #[error("cannot listen on the gate's socket `{}`; create its directory or set `gate.socket`", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another gate keeps the pins, or answers on the socket.
    #[error("another gate runs on `{}`; stop it first, or give this one its own `gate.pin_dir` and `gate.socket`", path.display())]
    AnotherGate {
        /// What it holds.
        path: PathBuf,
    },
    /// Nobody answers on the gate's socket.
    #[error("the gate does not answer on `{}`; start `sallyport gate run`", path.display())]
    NoDaemon {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This user may not ask.
    #[error("`{}` may not be opened by this user; run it as root, or as a member of the group of its directory", path.display())]
    NotAllowed {
        /// The gate's socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The terminal cannot be used.
    #[error("cannot use the terminal; `--once` needs none")]
    Terminal(#[source] io::Error),
    /// The gate's answer is not understood.
    #[error("the gate's answer is not understood: {0}")]
    Answer(String),
    /// The gate refused.
    #[error("the gate refused: {0}")]
    Refused(String),
    /// The kernel's events cannot be had.
    #[error("cannot watch the network interfaces")]
    Watch(#[source] io::Error),
}

impl GateError {
    /// The exit code of a command that ended with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Capability(_) | Self::NotRoot(_) | Self::NotAllowed { .. } => NOT_PERMITTED,
            Self::Load(source) if not_permitted(source) => NOT_PERMITTED,
            Self::Pins { source, .. } | Self::Socket { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                NOT_PERMITTED
            }
            Self::NoBpffs { .. } | Self::NoDaemon { .. } | Self::Load(_) => UNAVAILABLE,
            Self::Policy(_) => CONFIG,
            _ => FAILED,
        }
    }

    /// Wraps an error of a map.
    pub(super) fn map(name: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |source| Self::Map {
            name,
            source: Box::new(source),
        }
    }
}

/// Whether the kernel refused for want of a right, somewhere below.
fn not_permitted(error: &aya::EbpfError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}
