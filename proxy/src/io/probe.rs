//! Which driver this kernel allows, and why.
//!
//! io_uring is off on many hosts (the `kernel.io_uring_disabled` sysctl, seccomp, containers), so `auto`
//! tries a ring with the flags that the driver wants and says what it found.

use io_uring::{IoUring, Probe, opcode};
use sallyport_config::model::IoDriver;
use std::{fmt, fs, io};

/// A driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// tokio-uring.
    Uring,
    /// tokio on epoll.
    Epoll,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
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
/// Where `uring` was demanded and the kernel refuses it: one line with the cause and the remedy.
pub fn choose(wanted: IoDriver) -> Result<Choice, String> {
    let choice = |kind, reason: String| Ok(Choice { kind, reason });
    match (wanted, wanted_ring()) {
        (IoDriver::Epoll, _) => choice(DriverKind::Epoll, "`proxy.io` is `epoll`".into()),
        (IoDriver::Uring, Ok(())) => choice(DriverKind::Uring, "`proxy.io` is `uring`".into()),
        (IoDriver::Uring, Err(cause)) => Err(format!(
            "`proxy.io` is `uring`, but {cause}; or set `proxy.io = \"auto\"`"
        )),
        (IoDriver::Auto, Ok(())) => choice(
            DriverKind::Uring,
            "the kernel offers io_uring with all that the driver uses".into(),
        ),
        (IoDriver::Auto, Err(cause)) => choice(DriverKind::Epoll, cause),
    }
}

/// The ring flags of the `uring` driver. Deferred task running is not among them: tokio-uring blocks in
/// epoll and never enters the ring to wait, so completions would not be delivered.
pub(super) fn ring_builder() -> io_uring::Builder {
    let mut builder = IoUring::builder();
    builder
        .setup_coop_taskrun()
        .setup_single_issuer()
        .setup_cqsize(16_384);
    builder
}

fn wanted_ring() -> Result<(), String> {
    let ring: IoUring = ring_builder().build(64).map_err(|error| explain(&error))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(&error))?;
    let needed = [("recv", opcode::Recv::CODE), ("send", opcode::Send::CODE)];
    match needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        Some((name, _)) => Err(format!(
            "the kernel's io_uring lacks `{name}`; use Linux 6.0 or newer"
        )),
        None => Ok(()),
    }
}

fn explain(error: &io::Error) -> String {
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
            "the kernel's io_uring lacks the flags used here; use Linux 6.0 or newer".into()
        }
        (Some(libc::ENOMEM), _) => "io_uring found no locked memory; raise `LimitMEMLOCK`".into(),
        _ => format!("io_uring_setup failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_is_taken_when_asked_for_and_auto_always_finds_one() {
        assert_eq!(choose(IoDriver::Epoll).map(|c| c.kind), Ok(DriverKind::Epoll));
        assert!(choose(IoDriver::Auto).is_ok_and(|c| !c.reason.is_empty()));
    }

    #[test]
    fn a_refusal_names_its_cause_and_remedy() {
        for (code, word) in [
            (libc::ENOSYS, "without io_uring"),
            (libc::EINVAL, "6.0"),
            (libc::ENOMEM, "LimitMEMLOCK"),
        ] {
            assert!(
                explain(&io::Error::from_raw_os_error(code)).contains(word),
                "{code}"
            );
        }
    }
}
