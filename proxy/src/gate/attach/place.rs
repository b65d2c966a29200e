//! One program at one place: put there and pinned, or put in the place of an earlier one. Which place is tried when, it
//! must not know.

use crate::{
    fault::with_causes,
    gate::{
        attach::clsact,
        fallback::{Answer, Fallback},
        interfaces::{Device, Interface},
        link,
        pins::{Hook, LinkName, Pins},
        rights,
    },
};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
        xdp::XdpLink,
    },
    util::KernelVersion,
};
use std::{error::Error, fs, io, os::fd::AsFd, path::Path};

/// The XDP programs, best first: an older kernel or a driver without several buffers takes the other one alone.
const XDP_PROGRAMS: [&str; 2] = ["gate_xdp", "gate_xdp_nofrags"];

const TCX_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);

/// Attaches and pins.
pub(super) fn place(
    object: &mut Ebpf,
    pins: &Pins,
    name: &LinkName,
    interface: &Interface,
) -> Result<(), Fallback> {
    let path = pins.link(name);
    let link = match name.hook {
        Hook::Xdp => xdp(object, interface, XdpMode::Driver)?,
        Hook::XdpGeneric => xdp(object, interface, XdpMode::Skb)?,
        Hook::Tcx => tcx(object, interface)?,
        Hook::Clsact => return filter(object, interface, &path),
    };
    link.pin(&path)
        .map(drop)
        .map_err(|error| not_pinned(&path, &error))
}

fn not_pinned(path: &Path, error: &dyn Error) -> Fallback {
    let cause = format!("`{}`: {}", path.display(), with_causes(error));
    Fallback::NotPinned { cause }
}

/// Where nothing was attached, why.
fn told(hook: Hook, index: u32, error: &(dyn Error + 'static)) -> Fallback {
    let answer = Answer {
        errno: errno(error),
        cause: with_causes(error),
    };
    let theirs = Interface::xdp_programs(index).ok();
    let foreign = theirs.and_then(|programs| programs.first().copied());
    let tcx = KernelVersion::current().is_ok_and(|kernel| kernel >= TCX_SINCE);
    Fallback::of(hook, answer, foreign, tcx)
}

fn xdp(object: &mut Ebpf, interface: &Interface, mode: XdpMode) -> Result<FdLink, Fallback> {
    if interface.device == Device::Bare {
        return Err(Fallback::LayerThree);
    }
    let mut refused = Fallback::NoNativeXdp;
    for name in XDP_PROGRAMS {
        match xdp_link(object, name, interface.index, mode) {
            Ok(link) => return Ok(link),
            // Another answer to another program is not to be expected.
            Err(why @ (Fallback::ForeignXdp { .. } | Fallback::NotPermitted | Fallback::Gone)) => {
                return Err(why);
            }
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

/// Attaches one of the XDP programs.
pub(super) fn xdp_link(
    object: &mut Ebpf,
    name: &'static str,
    index: u32,
    mode: XdpMode,
) -> Result<FdLink, Fallback> {
    let program = xdp_program(object, name)?;
    let id = program
        .attach_to_if_index(index, mode)
        .map_err(|error| told(Hook::Xdp, index, &error))?;
    let link = program
        .take_link(id)
        .map_err(|error| told(Hook::Xdp, index, &error))?;
    FdLink::try_from(link).map_err(|_| Fallback::NoXdpLink)
}

/// Attaches the TC program by TCX.
fn tcx(object: &mut Ebpf, interface: &Interface) -> Result<FdLink, Fallback> {
    let told = |error: &ProgramError| told(Hook::Tcx, interface.index, error);
    let (program, _) = tc_program(object, interface.device)?;
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Ingress, first)
        .map_err(|error| told(&error))?;
    let link = program.take_link(id).map_err(|error| told(&error))?;
    FdLink::try_from(link).map_err(|_| Fallback::NoTcx)
}

/// Adds a clsact filter. Its program is pinned before, so that no filter of ours is without a pin.
fn filter(object: &mut Ebpf, interface: &Interface, path: &Path) -> Result<(), Fallback> {
    let (program, name) = tc_program(object, interface.device)?;
    program.pin(path).map_err(|error| not_pinned(path, &error))?;
    let program = program.fd().map_err(|error| not_loaded(&error))?;
    clsact::add(program.as_fd(), name, interface.index).map_err(|error| {
        let _not_there = fs::remove_file(path);
        told(Hook::Clsact, interface.index, &error)
    })
}

/// Puts a program in the place of an earlier one, whose pin gets the new name.
pub(super) fn replace(
    object: &mut Ebpf,
    pins: &Pins,
    old: &LinkName,
    new: &LinkName,
    interface: &Interface,
) -> Result<(), Fallback> {
    let path = pins.link(old);
    match old.hook {
        Hook::Xdp | Hook::XdpGeneric => replace_xdp(object, &path)?,
        Hook::Tcx => replace_tcx(object, &path, interface.device)?,
        Hook::Clsact => return replace_filter(object, pins, old, new, interface.device),
    }
    if old == new {
        return Ok(());
    }
    pins.rename(old, new).map_err(|error| not_replaced(&error))
}

fn not_replaced(error: &dyn Error) -> Fallback {
    Fallback::NotReplaced {
        cause: with_causes(error),
    }
}

fn replace_xdp(object: &mut Ebpf, path: &Path) -> Result<(), Fallback> {
    let mut refused = Fallback::NoXdpLink;
    for name in XDP_PROGRAMS {
        let program = match xdp_program(object, name) {
            Ok(program) => program,
            Err(why) => {
                refused = why;
                continue;
            }
        };
        let link = XdpLink::try_from(pinned(path)?).map_err(|error| not_replaced(&error))?;
        let replaced = program.attach_to_link(link).and_then(|id| program.take_link(id));
        match replaced {
            Ok(_) => return Ok(()),
            Err(error) => refused = not_replaced(&error),
        }
    }
    Err(refused)
}

fn replace_tcx(object: &mut Ebpf, path: &Path, device: Device) -> Result<(), Fallback> {
    let link = SchedClassifierLink::try_from(pinned(path)?).map_err(|error| not_replaced(&error))?;
    let (program, _) = tc_program(object, device)?;
    let replaced = program.attach_to_link(link).and_then(|id| program.take_link(id));
    replaced.map(drop).map_err(|error| not_replaced(&error))
}

fn pinned(path: &Path) -> Result<FdLink, Fallback> {
    let link = PinnedLink::from_pin(path).map_err(|error: LinkError| not_replaced(&error))?;
    Ok(link.into())
}

/// The new program is pinned beside the old one until it filters, so that whoever comes after a crash finds both.
fn replace_filter(
    object: &mut Ebpf,
    pins: &Pins,
    old: &LinkName,
    new: &LinkName,
    device: Device,
) -> Result<(), Fallback> {
    let (program, name) = tc_program(object, device)?;
    let next = pins.next(new);
    program.pin(&next).map_err(|error| not_pinned(&next, &error))?;
    let program = program.fd().map_err(|error| not_loaded(&error))?;
    let swapped = link::program(&pins.link(old)).and_then(|number| {
        let number = number.ok_or(io::ErrorKind::NotFound)?;
        clsact::replace(number, program.as_fd(), name)
    });
    if let Err(error) = swapped {
        let _not_there = fs::remove_file(&next);
        return Err(not_replaced(&error));
    }
    fs::rename(&next, pins.link(new)).map_err(|error| not_replaced(&error))?;
    if old != new {
        fs::remove_file(pins.link(old)).map_err(|error| not_replaced(&error))?;
    }
    Ok(())
}

fn xdp_program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, Fallback> {
    let found = object.program_mut(name).ok_or(ProgramError::NotLoaded);
    let program: Result<&mut Xdp, _> = found.and_then(TryInto::try_into);
    let program = program.map_err(|error| not_loaded(&error))?;
    loaded(program.load())?;
    Ok(program)
}

/// The TC program for a device, and its name.
fn tc_program(object: &mut Ebpf, device: Device) -> Result<(&mut SchedClassifier, &'static str), Fallback> {
    let name = match device {
        Device::Ethernet => "gate_tc_l2",
        Device::Bare => "gate_tc_l3",
    };
    let found = object.program_mut(name).ok_or(ProgramError::NotLoaded);
    let program: Result<&mut SchedClassifier, _> = found.and_then(TryInto::try_into);
    let program = program.map_err(|error| not_loaded(&error))?;
    loaded(program.load())?;
    Ok((program, name))
}

fn loaded(outcome: Result<(), ProgramError>) -> Result<(), Fallback> {
    match outcome {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(error) => Err(not_loaded(&error)),
    }
}

fn not_loaded(error: &(dyn Error + 'static)) -> Fallback {
    match errno(error) {
        Some(nix::libc::EPERM) => Fallback::NotPermitted,
        // The verifier's refusal.
        Some(nix::libc::EACCES) if !rights::has_perfmon() => Fallback::NoPerfmon,
        _ => Fallback::NotLoaded {
            cause: with_causes(error),
        },
    }
}

/// The kernel's error number somewhere below.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let code = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        if code.is_some() {
            return code;
        }
        cause = error.source();
    }
    None
}
