//! One interface's program: adopted where a pinned link is alive, else attached by the ladder native XDP →
//! TCX, with the reason for every step down. Nobody else's program is ever replaced.

use super::{
    error::GateError,
    interfaces::{Device, Interface},
    object,
    pins::{LinkName, Pins},
};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, LinkType, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
        xdp::XdpLink,
    },
};
use sallyport_config::model::GateAttach;
use std::{error::Error, io};

/// Where a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Native XDP.
    Xdp,
    /// Generic XDP.
    XdpGeneric,
    /// TCX.
    Tcx,
}

impl Hook {
    /// The word in status.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
        }
    }
}

/// A program on an interface.
pub(super) struct Attached {
    /// Where it sits.
    pub(super) hook: Hook,
    /// Why it sits there.
    pub(super) reason: String,
    /// The interface's index when it was attached.
    pub(super) index: u32,
    /// Keeps the link of this process open; the pin keeps it attached without.
    _link: FdLink,
    _object: Ebpf,
}

/// Attaches to an interface, adopting a pinned link where one is alive.
///
/// # Errors
/// Why nothing sits on it now.
pub(super) fn attach(
    pins: &Pins,
    name: &LinkName,
    interface: &Interface,
    wanted: GateAttach,
) -> Result<Attached, String> {
    let mut object = object::load(pins, name.attachment).map_err(|error| chain(&error))?;
    if let Some(adopted) = adopt(pins, name, interface, wanted, &mut object).map_err(|error| chain(&error))? {
        let (hook, reason, link) = adopted;
        return Ok(Attached {
            hook,
            reason,
            index: interface.index,
            _link: link,
            _object: object,
        });
    }
    let (hook, reason, link) = climb(&mut object, interface, wanted)?;
    let path = pins.link(name);
    let pinned = link
        .pin(&path)
        .map_err(|error| format!("cannot pin the link at `{}`: {}", path.display(), chain(&error)))?;
    Ok(Attached {
        hook,
        reason,
        index: interface.index,
        _link: pinned.into(),
        _object: object,
    })
}

type Placed = (Hook, String, FdLink);

/// Puts this version's program into a link that an earlier process pinned: one atomic replacement, no
/// moment without a filter. A link whose interface is gone is cleaned up.
fn adopt(
    pins: &Pins,
    name: &LinkName,
    interface: &Interface,
    wanted: GateAttach,
    object: &mut Ebpf,
) -> Result<Option<Placed>, GateError> {
    let Ok(pinned) = PinnedLink::from_pin(pins.link(name)) else {
        return Ok(None);
    };
    let link = FdLink::from(pinned);
    let hook = match link.info().and_then(|info| info.link_type()) {
        Ok(LinkType::Xdp) if wanted == GateAttach::XdpGeneric => Hook::XdpGeneric,
        Ok(LinkType::Xdp) => Hook::Xdp,
        Ok(LinkType::Tcx) => Hook::Tcx,
        _ => return pins.remove_link(name).map(|()| None),
    };
    // `TC` was asked for and XDP sits there, or the other way round: the new link comes first, then the old goes.
    let kept = match (hook, wanted) {
        (Hook::Tcx, GateAttach::Xdp | GateAttach::XdpGeneric) | (Hook::Xdp, GateAttach::Tc) => None,
        (Hook::Tcx, _) => replace_tcx(object, link, interface.device),
        (Hook::Xdp | Hook::XdpGeneric, _) => replace_xdp(object, link),
    };
    match kept {
        Some(link) => {
            tracing::info!(
                interface = name.interface,
                hook = hook.word(),
                "adopted the filter that was there"
            );
            Ok(Some((hook, "adopted from an earlier process".to_owned(), link)))
        }
        None => pins.remove_link(name).map(|()| None),
    }
}

fn replace_xdp(object: &mut Ebpf, link: FdLink) -> Option<FdLink> {
    let link = XdpLink::try_from(link).ok()?;
    let name = if xdp_program(object, "gate_xdp").is_ok() {
        "gate_xdp"
    } else {
        "gate_xdp_nofrags"
    };
    let program = xdp_program(object, name).ok()?;
    let id = program.attach_to_link(link).ok()?;
    program
        .take_link(id)
        .ok()
        .and_then(|link| FdLink::try_from(link).ok())
}

fn replace_tcx(object: &mut Ebpf, link: FdLink, device: Device) -> Option<FdLink> {
    let link = SchedClassifierLink::try_from(link).ok()?;
    let program = tc_program(object, device).ok()?;
    let id = program.attach_to_link(link).ok()?;
    program
        .take_link(id)
        .ok()
        .and_then(|link| FdLink::try_from(link).ok())
}

/// The ladder.
fn climb(object: &mut Ebpf, interface: &Interface, wanted: GateAttach) -> Result<Placed, String> {
    match wanted {
        GateAttach::Xdp => place_xdp(object, interface, XdpMode::Driver)
            .map(|link| (Hook::Xdp, "`gate.attach` is `xdp`".to_owned(), link)),
        GateAttach::XdpGeneric => place_xdp(object, interface, XdpMode::Skb).map(|link| {
            (
                Hook::XdpGeneric,
                "`gate.attach` is `xdp-generic`".to_owned(),
                link,
            )
        }),
        GateAttach::Tc => {
            place_tcx(object, interface).map(|link| (Hook::Tcx, "`gate.attach` is `tc`".to_owned(), link))
        }
        GateAttach::Auto => match place_xdp(object, interface, XdpMode::Driver) {
            Ok(link) => Ok((Hook::Xdp, "the driver runs XDP natively".to_owned(), link)),
            Err(refused) => match place_tcx(object, interface) {
                Ok(link) => Ok((Hook::Tcx, format!("native XDP: {refused}"), link)),
                Err(error) => Err(format!("native XDP: {refused}; TCX: {error}")),
            },
        },
    }
}

fn place_xdp(object: &mut Ebpf, interface: &Interface, mode: XdpMode) -> Result<FdLink, String> {
    if interface.device == Device::Bare {
        return Err("the device has no Ethernet header, which XDP programs here expect".to_owned());
    }
    let with_frags = place_xdp_program(object, "gate_xdp", interface.index, mode);
    let link = match with_frags {
        // A kernel or driver that knows no multi-buffer XDP may take the other program.
        Err(refused) if refused.retry_without_frags => {
            place_xdp_program(object, "gate_xdp_nofrags", interface.index, mode)
        }
        other => other,
    };
    link.map_err(|refused| refused.text)
}

struct Refused {
    text: String,
    retry_without_frags: bool,
}

fn place_xdp_program(
    object: &mut Ebpf,
    name: &'static str,
    index: u32,
    mode: XdpMode,
) -> Result<FdLink, Refused> {
    let refused = |text| Refused {
        text,
        retry_without_frags: true,
    };
    let program = xdp_program(object, name).map_err(|error| refused(chain(&error)))?;
    let id = program.attach_to_if_index(index, mode).map_err(|error| Refused {
        text: explain(&error),
        retry_without_frags: errno(&error) == Some(nix::libc::EINVAL),
    })?;
    let link = program.take_link(id).map_err(|error| refused(chain(&error)))?;
    FdLink::try_from(link)
        .map_err(|_| refused("the kernel gives no link that could outlive this process".to_owned()))
}

fn place_tcx(object: &mut Ebpf, interface: &Interface) -> Result<FdLink, String> {
    let program = tc_program(object, interface.device).map_err(|error| chain(&error))?;
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Ingress, first)
        .map_err(|error| format!("{}; TCX needs Linux 6.6", chain(&error)))?;
    let link = program.take_link(id).map_err(|error| chain(&error))?;
    FdLink::try_from(link)
        .map_err(|_| "the kernel gives no TCX link; Linux 6.6 or newer is needed".to_owned())
}

fn xdp_program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, ProgramError> {
    let program = object.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let program: &mut Xdp = program.try_into()?;
    loaded(program.load())?;
    Ok(program)
}

fn tc_program(object: &mut Ebpf, device: Device) -> Result<&mut SchedClassifier, ProgramError> {
    let name = match device {
        Device::Ethernet => "gate_tc_l2",
        Device::Bare => "gate_tc_l3",
    };
    let program = object.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let program: &mut SchedClassifier = program.try_into()?;
    loaded(program.load())?;
    Ok(program)
}

fn loaded(outcome: Result<(), ProgramError>) -> Result<(), ProgramError> {
    match outcome {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        other => other,
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return Some(code);
        }
        cause = error.source();
    }
    None
}

/// Why native XDP is refused, and what would help.
fn explain(error: &ProgramError) -> String {
    use nix::libc;
    match errno(error) {
        Some(libc::EOPNOTSUPP) => {
            "the driver has no native XDP (or virtio's host offers LRO, which must be off first)".to_owned()
        }
        Some(libc::EBUSY | libc::EEXIST) => {
            "another XDP program sits on the interface and is left alone; `ip link show` names it".to_owned()
        }
        Some(libc::ERANGE) => "the MTU is too large for XDP in this driver; lower it".to_owned(),
        Some(libc::EINVAL) => format!("the driver refused: {}; check MTU and queues", chain(error)),
        Some(libc::ENOMEM) => {
            "no memory for XDP's queues; lower the number of channels with `ethtool -L`".to_owned()
        }
        Some(libc::EPERM) => "not permitted; CAP_NET_ADMIN and CAP_BPF are needed".to_owned(),
        _ => chain(error),
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
