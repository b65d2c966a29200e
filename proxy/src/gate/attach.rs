//! One interface's program: taken over where a pinned link is alive, else attached by the ladder native XDP →
//! TCX, with the reason for every step down. Nobody else's program is ever replaced, and a filter of ours goes
//! only after the one that comes in its place is there.
//!
//! No link is held open: the pin alone keeps it, so that removing the pin takes the filter away.

use super::{
    error::GateError,
    interfaces::{Device, Interface},
    link::{Life, life},
    object::Object,
    pins::{Hook, LinkName, Pins},
};
use crate::fault::with_causes;
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
        xdp::XdpLink,
    },
};
use sallyport_config::model::GateAttach;
use std::{error::Error, io, path::Path};

/// A program on an interface.
pub(super) struct Attached {
    /// Its pin.
    pub(super) name: LinkName,
    /// Why it sits there.
    pub(super) reason: String,
    /// The interface's index when it was attached.
    pub(super) index: u32,
}

/// The rungs, best first.
fn ladder(wanted: GateAttach) -> &'static [Hook] {
    match wanted {
        GateAttach::Auto => &[Hook::Xdp, Hook::Tcx],
        GateAttach::Xdp => &[Hook::Xdp],
        GateAttach::Tc => &[Hook::Tcx],
        GateAttach::XdpGeneric => &[Hook::XdpGeneric],
    }
}

/// Attaches a program of `source` to an interface, taking over what an earlier process left there.
///
/// # Errors
/// Why nothing sits on it now.
pub(super) fn attach(
    pins: &Pins,
    source: &Object,
    attachment: u32,
    interface: &Interface,
    wanted: GateAttach,
) -> Result<Attached, String> {
    let mut object = source
        .load(pins, attachment)
        .map_err(|error| with_causes(&error))?;
    let records = source.records(&mut object).map_err(|error| with_causes(&error))?;
    let attached = descend(&mut object, pins, attachment, interface, wanted)?;
    source.follow(attachment, records);
    Ok(attached)
}

/// Goes down the ladder to the first rung that holds.
fn descend(
    object: &mut Ebpf,
    pins: &Pins,
    attachment: u32,
    interface: &Interface,
    wanted: GateAttach,
) -> Result<Attached, String> {
    let mut earlier = earlier(pins, attachment, interface).map_err(|error| with_causes(&error))?;
    let mut refused = Vec::new();
    for hook in ladder(wanted) {
        let name = LinkName {
            attachment,
            hook: *hook,
            interface: interface.name.clone(),
        };
        let outcome = if earlier.contains(&name) {
            Ok(take_over(object, &pins.link(&name), &name, interface.device))
        } else {
            make_room(pins, &mut earlier, *hook).map_err(|error| with_causes(&error))?;
            place(object, pins, &name, interface).map(|()| first_reason(*hook, wanted))
        };
        match outcome {
            Ok(why) => {
                refused.push(why);
                retire(pins, earlier.iter().filter(|old| **old != name));
                return Ok(Attached {
                    name,
                    reason: refused.join("; "),
                    index: interface.index,
                });
            }
            Err(why) => refused.push(format!("{}: {why}", hook.word())),
        }
    }
    let Some(name) = earlier.into_iter().next() else {
        return Err(refused.join("; "));
    };
    refused.push("the filter of an earlier process goes on".to_owned());
    Ok(Attached {
        name,
        reason: refused.join("; "),
        index: interface.index,
    })
}

fn first_reason(hook: Hook, wanted: GateAttach) -> String {
    match (hook, wanted) {
        (Hook::Xdp, GateAttach::Auto) => "the driver runs XDP natively".to_owned(),
        (Hook::Tcx, GateAttach::Auto) => "TCX filters in its place".to_owned(),
        _ => "as `gate.attach` says".to_owned(),
    }
}

/// The links of ours that filter this interface. Pins of links whose interface is gone, or that went along with
/// one that has another name now, are removed.
fn earlier(pins: &Pins, attachment: u32, interface: &Interface) -> Result<Vec<LinkName>, GateError> {
    let mut alive = Vec::new();
    for name in pins.links()? {
        if name.attachment != attachment || name.interface != interface.name {
            continue;
        }
        match life(&pins.link(&name)) {
            Ok(Life::On(index)) if index == interface.index => alive.push(name),
            Ok(Life::Gone) => {}
            found => {
                tracing::warn!(
                    interface = name.interface,
                    ?found,
                    "a link that filters this interface no more is removed"
                );
                pins.remove_link(&name)?;
            }
        }
    }
    Ok(alive)
}

/// Native and generic XDP exclude each other, so the one of an earlier process must go first.
fn make_room(pins: &Pins, earlier: &mut Vec<LinkName>, hook: Hook) -> Result<(), GateError> {
    let in_the_way = match hook {
        Hook::Xdp => Hook::XdpGeneric,
        Hook::XdpGeneric => Hook::Xdp,
        Hook::Tcx => return Ok(()),
    };
    while let Some(at) = earlier.iter().position(|old| old.hook == in_the_way) {
        let old = earlier.swap_remove(at);
        pins.remove_link(&old)?;
    }
    Ok(())
}

fn retire<'a>(pins: &Pins, olds: impl Iterator<Item = &'a LinkName>) {
    for old in olds {
        if let Err(error) = pins.remove_link(old) {
            tracing::error!(
                error = with_causes(&error),
                "an earlier link of ours stays beside the new one"
            );
        }
    }
}

/// Puts this version's program into a link that an earlier process pinned: one atomic replacement. Where that is
/// refused, the earlier program goes on; it reads the same maps.
fn take_over(object: &mut Ebpf, path: &Path, name: &LinkName, device: Device) -> String {
    let replaced = PinnedLink::from_pin(path)
        .map_err(|error| with_causes(&error))
        .and_then(|pinned| match name.hook {
            Hook::Xdp | Hook::XdpGeneric => replace_xdp(object, pinned.into()),
            Hook::Tcx => replace_tcx(object, pinned.into(), device),
        });
    match replaced {
        Ok(()) => "taken over from an earlier process".to_owned(),
        Err(why) => {
            tracing::error!(
                interface = name.interface,
                why,
                "the program of an earlier process cannot be replaced"
            );
            format!("the program of an earlier process goes on, replacing it was refused: {why}")
        }
    }
}

fn replace_xdp(object: &mut Ebpf, link: FdLink) -> Result<(), String> {
    let link = XdpLink::try_from(link).map_err(|error| with_causes(&error))?;
    let name = if xdp_program(object, "gate_xdp").is_ok() {
        "gate_xdp"
    } else {
        "gate_xdp_nofrags"
    };
    let program = xdp_program(object, name).map_err(|error| with_causes(&error))?;
    let id = program
        .attach_to_link(link)
        .map_err(|error| with_causes(&error))?;
    program
        .take_link(id)
        .map(drop)
        .map_err(|error| with_causes(&error))
}

fn replace_tcx(object: &mut Ebpf, link: FdLink, device: Device) -> Result<(), String> {
    let link = SchedClassifierLink::try_from(link).map_err(|error| with_causes(&error))?;
    let program = tc_program(object, device).map_err(|error| with_causes(&error))?;
    let id = program
        .attach_to_link(link)
        .map_err(|error| with_causes(&error))?;
    program
        .take_link(id)
        .map(drop)
        .map_err(|error| with_causes(&error))
}

/// Attaches and pins.
fn place(object: &mut Ebpf, pins: &Pins, name: &LinkName, interface: &Interface) -> Result<(), String> {
    let link = match name.hook {
        Hook::Xdp => place_xdp(object, interface, XdpMode::Driver),
        Hook::XdpGeneric => place_xdp(object, interface, XdpMode::Skb),
        Hook::Tcx => place_tcx(object, interface),
    }?;
    let path = pins.link(name);
    let pinned = link.pin(&path);
    pinned.map(drop).map_err(|error| {
        format!(
            "cannot pin the link at `{}`: {}",
            path.display(),
            with_causes(&error)
        )
    })
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
    let program = xdp_program(object, name).map_err(|error| refused(with_causes(&error)))?;
    let id = program.attach_to_if_index(index, mode).map_err(|error| Refused {
        text: explain(&error),
        retry_without_frags: errno(&error) == Some(nix::libc::EINVAL),
    })?;
    let link = program
        .take_link(id)
        .map_err(|error| refused(with_causes(&error)))?;
    FdLink::try_from(link)
        .map_err(|_| refused("the kernel gives no link that could outlive this process".to_owned()))
}

fn place_tcx(object: &mut Ebpf, interface: &Interface) -> Result<FdLink, String> {
    let program = tc_program(object, interface.device).map_err(|error| with_causes(&error))?;
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Ingress, first)
        .map_err(|error| format!("{}; TCX needs Linux 6.6", with_causes(&error)))?;
    let link = program.take_link(id).map_err(|error| with_causes(&error))?;
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
        Some(libc::EINVAL) => format!("the driver refused: {}; check MTU and queues", with_causes(error)),
        Some(libc::ENOMEM) => {
            "no memory for XDP's queues; lower the number of channels with `ethtool -L`".to_owned()
        }
        Some(libc::EPERM) => "not permitted; CAP_NET_ADMIN and CAP_BPF are needed".to_owned(),
        _ => with_causes(error),
    }
}
