//! Which driver this kernel allows, and why.
//!
//! io_uring is off on many hosts (the `kernel.io_uring_disabled` sysctl, seccomp, containers), so `auto`
//! tries a ring with the flags that the driver wants and says what it found.

use super::ring;
use io_uring::{IoUring, Probe, opcode};
use sallyport_config::model::IoDriver;
use std::{fmt, fs, io};

/// A driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// The ring of our own: multishot operations, deferred task running.
    Multishot,
    /// tokio-uring.
    Uring,
    /// tokio on epoll.
    Epoll,
}

impl DriverKind {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Multishot, Self::Uring, Self::Epoll];
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Multishot => "uring-multishot",
            Self::Uring => "tokio-uring",
            Self::Epoll => "epoll",
        })
    }
}

/// The driver that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub kind: DriverKind,
    /// Why, for the log and `status`.
    pub reason: String,
}

/// Decides for a driver.
///
/// # Errors
/// Where a ring was demanded and the kernel refuses it: one line with the cause and the remedy.
pub fn choose(wanted: IoDriver) -> Result<Choice, String> {
    decide(wanted, &multishot_ring, &tokio_ring)
}

/// [`choose`], by what the kernel says to the two kinds of ring; each is tried only where it matters.
fn decide(
    wanted: IoDriver,
    multishot: &dyn Fn() -> Result<(), String>,
    tokio: &dyn Fn() -> Result<(), String>,
) -> Result<Choice, String> {
    let choice = |kind, reason: String| Ok(Choice { kind, reason });
    let demanded = |kind, word: &str, found: Result<(), String>| match found {
        Ok(()) => choice(kind, format!("`proxy.io` is `{word}`")),
        Err(cause) => Err(format!(
            "`proxy.io` is `{word}`, but {cause}; or set `proxy.io = \"auto\"`"
        )),
    };
    match wanted {
        IoDriver::Epoll => choice(DriverKind::Epoll, "`proxy.io` is `epoll`".into()),
        IoDriver::UringMultishot => demanded(DriverKind::Multishot, "uring-multishot", multishot()),
        IoDriver::TokioUring => demanded(DriverKind::Uring, "tokio-uring", tokio()),
        IoDriver::Uring => match multishot() {
            Ok(()) => choice(DriverKind::Multishot, "`proxy.io` is `uring`".into()),
            Err(newer) => demanded(DriverKind::Uring, "uring", tokio()).map(|choice| because(choice, &newer)),
        },
        IoDriver::Auto => match multishot() {
            Ok(()) => choice(
                DriverKind::Multishot,
                "the kernel offers io_uring with all that the driver uses".into(),
            ),
            Err(cause) => match tokio() {
                Ok(()) => choice(DriverKind::Uring, cause),
                Err(cause) => choice(DriverKind::Epoll, cause),
            },
        },
    }
}

/// Says also why it is not the best one.
fn because(choice: Choice, cause: &str) -> Choice {
    let reason = format!("{}; not multishot, because {cause}", choice.reason);
    Choice { reason, ..choice }
}

/// Whether the kernel has all that the multishot driver uses.
fn multishot_ring() -> Result<(), String> {
    ring::probe().map_err(|error| explain(&error, "6.1"))
}

/// The ring flags of tokio-uring. Deferred task running is not among them: tokio-uring blocks in
/// epoll and never enters the ring to wait, so completions would not be delivered.
pub(super) fn ring_builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_coop_taskrun()
        .setup_single_issuer()
        .setup_cqsize(16_384);
    builder
}

/// Whether the kernel has all that the driver on tokio-uring uses.
fn tokio_ring() -> Result<(), String> {
    let ring: IoUring = ring_builder().build(64).map_err(|error| explain(&error, "6.0"))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(&error, "6.0"))?;
    let needed = [("recv", opcode::Recv::CODE), ("send", opcode::Send::CODE)];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(format!(
            "the kernel's io_uring lacks `{name}`; use Linux 6.0 or newer"
        )),
        None => Ok(()),
    }
}

/// `since` is the kernel that has what was refused.
fn explain(error: &io::Error, since: &str) -> String {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match (error.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM), "1" | "2") => format!(
            "the sysctl `kernel.io_uring_disabled` is {}; set it to 0 to use io_uring",
            disabled.trim()
        ),
        (Some(libc::EPERM | libc::EACCES), _) => format!(
            "io_uring_setup is not permitted ({error}), as under a container's seccomp profile; allow the io_uring calls"
        ),
        (Some(libc::ENOSYS), _) => "the kernel was built without io_uring".into(),
        (Some(libc::EINVAL), _) => {
            format!("the kernel's io_uring lacks what is used here; use Linux {since} or newer")
        }
        (Some(libc::ENOMEM), _) => "io_uring found no locked memory; raise `LimitMEMLOCK`".into(),
        _ => format!("io_uring_setup failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_the_kernel_has_is_taken_and_a_demand_is_met_or_refused() {
        use DriverKind::{Epoll, Multishot, Uring};
        use IoDriver::{Auto, TokioUring, UringMultishot};
        let taken = |wanted, multishot: bool, tokio: bool| {
            let offers = |has: bool| move || if has { Ok(()) } else { Err("cause".to_owned()) };
            let choice = decide(wanted, &offers(multishot), &offers(tokio));
            choice.map(|choice| choice.kind).ok()
        };
        for (wanted, newest, older, none) in [
            (Auto, Some(Multishot), Some(Uring), Some(Epoll)),
            (IoDriver::Uring, Some(Multishot), Some(Uring), None),
            (UringMultishot, Some(Multishot), None, None),
            (TokioUring, Some(Uring), Some(Uring), None),
            (IoDriver::Epoll, Some(Epoll), Some(Epoll), Some(Epoll)),
        ] {
            assert_eq!(taken(wanted, true, true), newest, "{wanted:?}");
            assert_eq!(taken(wanted, false, true), older, "{wanted:?}");
            assert_eq!(taken(wanted, false, false), none, "{wanted:?}");
        }
    }

    #[test]
    fn this_kernel_has_some_driver() {
        assert!(choose(IoDriver::Auto).is_ok_and(|choice| !choice.reason.is_empty()));
    }

    #[test]
    fn a_refusal_names_its_cause_and_remedy() {
        for (code, word) in [
            (libc::ENOSYS, "without io_uring"),
            (libc::EINVAL, "6.1"),
            (libc::ENOMEM, "LimitMEMLOCK"),
        ] {
            assert!(
                explain(&io::Error::from_raw_os_error(code), "6.1").contains(word),
                "{code}"
            );
        }
    }
}
