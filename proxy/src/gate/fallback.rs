//! Why a program does not sit where it was wanted: one table of causes, each with a code and a text that stay the
//! same, and what the operator may do.
//!
//! Told from what the kernel answered; it asks nothing itself.

use super::pins::Hook;
use nix::libc;
use std::fmt;

/// A cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fallback {
    /// The frames of this MTU do not fit into one buffer, and the program or driver takes no more.
    MtuTooLarge,
    /// The driver has no native XDP.
    NoNativeXdp,
    /// Somebody else's XDP program is there.
    ForeignXdp {
        /// Its number, where the kernel says it.
        program: Option<u32>,
    },
    /// The driver said no for a reason of its own.
    DriverRefused {
        /// Its words.
        cause: String,
    },
    /// XDP's queues found no memory.
    NoMemory,
    /// A device without an Ethernet header.
    LayerThree,
    /// The kernel is older than XDP links.
    NoXdpLink,
    /// The kernel is older than TCX.
    NoTcx,
    /// The kernel has no clsact or no classifier for programs.
    NoClsact,
    /// Another filter holds the first place of clsact and takes none beside it.
    ForeignFilter,
    /// A right is missing.
    NotPermitted,
    /// The verifier refused the program, and takes more from a process with CAP_PERFMON.
    NoPerfmon,
    /// What is attached could not be pinned.
    NotPinned {
        /// Where and why.
        cause: String,
    },
    /// The kernel refused the program.
    NotLoaded {
        /// Its words.
        cause: String,
    },
    /// An earlier process's program cannot be replaced.
    NotReplaced {
        /// Why.
        cause: String,
    },
    /// The interface went while it was being worked on.
    Gone,
    /// Anything else.
    Other {
        /// What the kernel said.
        cause: String,
    },
}

/// What the kernel answered to an attempt.
pub(super) struct Answer {
    /// The error number, where there is one.
    pub(super) errno: Option<i32>,
    /// The whole error in words.
    pub(super) cause: String,
}

impl Fallback {
    /// Tells why a program cannot be attached at `hook`. `foreign` is the XDP program that is there; `tcx` says whether
    /// this kernel's version has TCX.
    pub(super) fn of(hook: Hook, answer: Answer, foreign: Option<u32>, tcx: bool) -> Self {
        let Answer { errno, cause } = answer;
        let Some(errno) = errno else {
            return Self::Other { cause };
        };
        match (hook, errno) {
            (_, libc::EPERM | libc::EACCES) => Self::NotPermitted,
            (_, libc::ENODEV | libc::ENXIO) => Self::Gone,
            (Hook::Xdp | Hook::XdpGeneric, _) => Self::of_xdp(errno, cause, foreign),
            (Hook::Tcx, libc::EINVAL | libc::EOPNOTSUPP) if !tcx => Self::NoTcx,
            // Built without it.
            (Hook::Tcx, libc::EOPNOTSUPP) => Self::NoTcx,
            (Hook::Clsact, libc::ENOENT | libc::EOPNOTSUPP) => Self::NoClsact,
            (Hook::Clsact, libc::EEXIST | libc::EINVAL | libc::EBUSY) => Self::ForeignFilter,
            (Hook::Tcx | Hook::Clsact, _) => Self::Other { cause },
        }
    }

    fn of_xdp(errno: i32, cause: String, foreign: Option<u32>) -> Self {
        match errno {
            libc::EOPNOTSUPP => Self::NoNativeXdp,
            libc::EBUSY | libc::EEXIST => Self::ForeignXdp { program: foreign },
            libc::ERANGE => Self::MtuTooLarge,
            libc::EINVAL => Self::DriverRefused { cause },
            libc::ENOMEM => Self::NoMemory,
            _ => Self::Other { cause },
        }
    }

    /// The word that programs read; it never changes.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::MtuTooLarge => "mtu_too_large",
            Self::NoNativeXdp => "no_native_xdp",
            Self::ForeignXdp { .. } => "foreign_xdp",
            Self::DriverRefused { .. } => "driver_refused",
            Self::NoMemory => "no_memory",
            Self::LayerThree => "layer_three",
            Self::NoXdpLink => "no_xdp_link",
            Self::NoTcx => "no_tcx",
            Self::NoClsact => "no_clsact",
            Self::ForeignFilter => "foreign_filter",
            Self::NotPermitted => "not_permitted",
            Self::NoPerfmon => "no_perfmon",
            Self::NotPinned { .. } => "not_pinned",
            Self::NotLoaded { .. } => "not_loaded",
            Self::NotReplaced { .. } => "not_replaced",
            Self::Gone => "gone",
            Self::Other { .. } => "other",
        }
    }

    /// What the operator may do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::MtuTooLarge => "lower it by `ip link set dev IF mtu N`",
            Self::NoNativeXdp => {
                "TC filters as well at a lower rate; on virtio the host's LRO must be off first"
            }
            Self::ForeignXdp { .. } => {
                "look at it by `bpftool prog show`; the gate takes its place once it is gone and the gate restarted"
            }
            Self::DriverRefused { .. } => {
                "look at the MTU, the number of queues (`ethtool -l IF`) and LRO (`ethtool -k IF`)"
            }
            Self::NoMemory => "lower the number of channels by `ethtool -L IF combined N`",
            Self::LayerThree => "nothing is to be done: TC filters it as well",
            Self::NoXdpLink => "run Linux 5.9 or newer",
            Self::NoTcx => "run Linux 6.6 or newer for it",
            Self::NoClsact => "load the kernel modules `sch_ingress` and `cls_bpf`",
            Self::ForeignFilter => "move it to another priority; `tc filter show dev IF ingress` shows it",
            Self::NotPermitted => "give the gate CAP_NET_ADMIN and CAP_BPF, as its systemd unit does",
            Self::NoPerfmon => {
                "give the gate CAP_PERFMON too, as its systemd unit does, or run Linux 6.18 or newer"
            }
            Self::NotPinned { .. } => {
                "mount bpffs again by `mount -t bpf bpf /sys/fs/bpf`, or set `gate.pin_dir`"
            }
            Self::NotLoaded { .. } => "run Linux 5.18 or newer with BPF and BTF",
            Self::NotReplaced { .. } => "restart the gate after the cause is mended",
            Self::Gone => "nothing is to be done: it is filtered as soon as it appears",
            Self::Other { .. } => "look at the kernel's log",
        }
    }
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MtuTooLarge => f.write_str("the MTU is too large for XDP in this driver"),
            Self::NoNativeXdp => f.write_str("the driver has no native XDP"),
            Self::ForeignXdp { program: None } => f.write_str(
                "another XDP program sits on the interface, or on the bond that it belongs to, and is left alone",
            ),
            Self::ForeignXdp { program: Some(id) } => {
                write!(
                    f,
                    "another XDP program, number {id}, sits on the interface and is left alone"
                )
            }
            Self::DriverRefused { cause } => write!(f, "the driver refused: {cause}"),
            Self::NoMemory => f.write_str("the kernel has no memory for XDP's queues"),
            Self::LayerThree => {
                f.write_str("the device has no Ethernet header, which XDP programs here expect")
            }
            Self::NoXdpLink => f.write_str("the kernel gives no XDP link that could outlive this process"),
            Self::NoTcx => f.write_str("the kernel has no TCX"),
            Self::NoClsact => f.write_str("the kernel has no clsact queueing discipline or no BPF classifier"),
            Self::ForeignFilter => {
                f.write_str("another filter holds the first place of clsact and is left alone")
            }
            Self::NotPermitted => f.write_str("not permitted"),
            Self::NoPerfmon => f.write_str(
                "this kernel's verifier refuses the program to a process without CAP_PERFMON",
            ),
            Self::NotPinned { cause } => write!(f, "what is attached cannot be pinned: {cause}"),
            Self::NotLoaded { cause } => write!(f, "the kernel refused the program: {cause}"),
            Self::NotReplaced { cause } => {
                write!(f, "the program of an earlier process cannot be replaced: {cause}")
            }
            Self::Gone => f.write_str("the interface is gone"),
            Self::Other { cause } => f.write_str(cause),
        }
    }
}

/// A rung that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// Which.
    pub(super) hook: Hook,
    /// Why.
    pub(super) why: Fallback,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hook, why } = self;
        write!(f, "{}: {why} ({}); {}", hook.word(), why.code(), why.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn told(hook: Hook, errno: i32, foreign: Option<u32>, tcx: bool) -> Fallback {
        let cause = "the kernel's words".to_owned();
        Fallback::of(
            hook,
            Answer {
                errno: Some(errno),
                cause,
            },
            foreign,
            tcx,
        )
    }

    #[test]
    fn each_answer_of_the_kernel_has_its_own_cause() {
        let cause = || "the kernel's words".to_owned();
        for (errno, expected) in [
            (libc::ERANGE, Fallback::MtuTooLarge),
            (libc::EOPNOTSUPP, Fallback::NoNativeXdp),
            (libc::EBUSY, Fallback::ForeignXdp { program: Some(7) }),
            (libc::EEXIST, Fallback::ForeignXdp { program: Some(7) }),
            (libc::EINVAL, Fallback::DriverRefused { cause: cause() }),
            (libc::ENOMEM, Fallback::NoMemory),
            (libc::EPERM, Fallback::NotPermitted),
            (libc::EACCES, Fallback::NotPermitted),
            (libc::ENODEV, Fallback::Gone),
            (libc::EIO, Fallback::Other { cause: cause() }),
        ] {
            assert_eq!(told(Hook::Xdp, errno, Some(7), true), expected, "errno {errno}");
        }
        for (errno, kernel_has_it, expected) in [
            (libc::EINVAL, false, Fallback::NoTcx),
            (libc::EINVAL, true, Fallback::Other { cause: cause() }),
            (libc::EOPNOTSUPP, true, Fallback::NoTcx),
            (libc::EPERM, true, Fallback::NotPermitted),
        ] {
            assert_eq!(
                told(Hook::Tcx, errno, None, kernel_has_it),
                expected,
                "errno {errno}"
            );
        }
        for (errno, expected) in [
            (libc::ENOENT, Fallback::NoClsact),
            (libc::EOPNOTSUPP, Fallback::NoClsact),
            (libc::EEXIST, Fallback::ForeignFilter),
            (libc::EINVAL, Fallback::ForeignFilter),
            (libc::EPERM, Fallback::NotPermitted),
            (libc::EIO, Fallback::Other { cause: cause() }),
        ] {
            assert_eq!(told(Hook::Clsact, errno, None, true), expected, "errno {errno}");
        }
    }

    #[test]
    fn every_cause_has_its_own_code_and_text_and_some_remedy() {
        let cause = String::new;
        let all = [
            Fallback::MtuTooLarge,
            Fallback::NoNativeXdp,
            Fallback::ForeignXdp { program: None },
            Fallback::DriverRefused { cause: cause() },
            Fallback::NoMemory,
            Fallback::LayerThree,
            Fallback::NoXdpLink,
            Fallback::NoTcx,
            Fallback::NoClsact,
            Fallback::ForeignFilter,
            Fallback::NotPermitted,
            Fallback::NoPerfmon,
            Fallback::NotPinned { cause: cause() },
            Fallback::NotLoaded { cause: cause() },
            Fallback::NotReplaced { cause: cause() },
            Fallback::Gone,
            Fallback::Other { cause: cause() },
        ];
        let codes: BTreeSet<_> = all.iter().map(Fallback::code).collect();
        let texts: BTreeSet<_> = all.iter().map(ToString::to_string).collect();
        assert_eq!((codes.len(), texts.len()), (all.len(), all.len()));
        assert!(all.iter().all(|cause| !cause.remedy().is_empty()));
        let shown = Refused {
            hook: Hook::Xdp,
            why: Fallback::ForeignXdp { program: Some(9) },
        };
        let shown = shown.to_string();
        assert!(
            shown.starts_with("xdp: another XDP program, number 9") && shown.contains("(foreign_xdp); "),
            "{shown}"
        );
    }
}
