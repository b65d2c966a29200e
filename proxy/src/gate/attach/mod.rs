//! One interface's program: taken over where an earlier one of ours is alive, else attached by the ladder native XDP →
//! TCX → clsact, with the reason for every step down. Nobody else's program is ever replaced, and a filter of ours goes
//! only after the one that comes in its place is there.
//!
//! No link is held open: the pin alone keeps it, so that removing the pin takes the filter away.

pub(super) mod clsact;
mod earlier;
mod place;
#[cfg(test)]
mod tests;

use super::{
    fallback::{Fallback, Refused},
    interfaces::Interface,
    object::Object,
    pins::{Hook, LinkName, Pins},
};
use crate::fault::with_causes;
use aya::Ebpf;
use sallyport_config::model::GateAttach;

/// A program on an interface.
pub(super) struct Attached {
    /// Its pin.
    pub(super) name: LinkName,
    /// Why it sits there.
    pub(super) reason: String,
    /// Whether an earlier filter of ours was there without a gap.
    pub(super) adopted: bool,
    /// The interface's index when it was attached.
    pub(super) index: u32,
}

/// The rungs, best first.
fn ladder(wanted: GateAttach) -> &'static [Hook] {
    match wanted {
        GateAttach::Auto => &[Hook::Xdp, Hook::Tcx, Hook::Clsact],
        GateAttach::Xdp => &[Hook::Xdp],
        GateAttach::Tc => &[Hook::Tcx, Hook::Clsact],
        GateAttach::Clsact => &[Hook::Clsact],
        GateAttach::XdpGeneric => &[Hook::XdpGeneric],
    }
}

/// Attaches a program of `source` to an interface, taking over what an earlier process left there, of whatever layout
/// its maps were. The maps must be filled.
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
    // What an older layout left goes with its last link.
    if let Err(error) = pins.sweep() {
        let error = with_causes(&error);
        tracing::warn!(error, "the maps of another version stay pinned");
    }
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
    let earlier = earlier::of(pins, interface).map_err(|error| with_causes(&error))?;
    let adopts = !earlier.is_empty();
    let mut descent = Descent {
        object,
        pins,
        interface,
        earlier,
        adopts,
        cover: None,
    };
    let mut told = Vec::new();
    for hook in ladder(wanted) {
        let name = pins.name(attachment, *hook, &interface.name);
        match descent.step(&name, wanted) {
            Ok(why) => {
                told.push(why);
                descent.retire();
                return Ok(Attached {
                    name,
                    reason: told.join("; "),
                    adopted: descent.adopts,
                    index: interface.index,
                });
            }
            Err(why) => told.push(Refused { hook: *hook, why }.to_string()),
        }
    }
    let Some(name) = descent.earlier.into_iter().next() else {
        return Err(told.join("; "));
    };
    told.push("the filter of an earlier process goes on".to_owned());
    Ok(Attached {
        name,
        reason: told.join("; "),
        adopted: true,
        index: interface.index,
    })
}

/// The way down for one interface.
struct Descent<'a> {
    object: &'a mut Ebpf,
    pins: &'a Pins,
    interface: &'a Interface,
    /// Filters of ours that are on the interface and not taken over yet.
    earlier: Vec<LinkName>,
    /// Whether there were any.
    adopts: bool,
    /// Among them: what filters while one that is in the way goes and until another has come. Like every filter it is
    /// pinned, so that it outlives whoever is killed meanwhile.
    cover: Option<LinkName>,
}

impl Descent<'_> {
    /// Tries one rung.
    fn step(&mut self, name: &LinkName, wanted: GateAttach) -> Result<String, Fallback> {
        let same = self.earlier.iter().position(|old| old == name);
        let found = same.or_else(|| self.earlier.iter().position(|old| old.hook == name.hook));
        match found {
            Some(at) if self.earlier.get(at) == self.cover.as_ref() => {
                self.earlier.swap_remove(at);
            }
            Some(at) => return self.take_over(at, name),
            None => {
                self.make_room(name)?;
                place::place(self.object, self.pins, name, self.interface)?;
            }
        }
        Ok(first_reason(name.hook, wanted).to_owned())
    }

    /// Puts this version's program in the place of an earlier one: one atomic replacement. Where that is refused, the
    /// earlier program goes on if it means the same by its maps and its number.
    fn take_over(&mut self, at: usize, name: &LinkName) -> Result<String, Fallback> {
        let old = self.earlier.swap_remove(at);
        let replaced = place::replace(self.object, self.pins, &old, name, self.interface);
        let Err(why) = replaced else {
            return Ok("taken over from an earlier process".to_owned());
        };
        let interface = &self.interface.name;
        tracing::error!(interface, %why, "the program of an earlier process cannot be replaced");
        if old == *name {
            return Ok(format!("the program of an earlier process goes on: {why}"));
        }
        self.earlier.push(old);
        Err(why)
    }

    /// Native and generic XDP exclude each other, so the one of an earlier process must go first; TCX or clsact stands
    /// in meanwhile.
    fn make_room(&mut self, name: &LinkName) -> Result<(), Fallback> {
        let in_the_way = match name.hook {
            Hook::Xdp => Hook::XdpGeneric,
            Hook::XdpGeneric => Hook::Xdp,
            Hook::Tcx | Hook::Clsact => return Ok(()),
        };
        while let Some(at) = self.earlier.iter().position(|old| old.hook == in_the_way) {
            let old = self.earlier.swap_remove(at);
            if self.earlier.is_empty() {
                self.cover(name.attachment);
            }
            self.pins.remove_link(&old).map_err(|error| Fallback::Other {
                cause: with_causes(&error),
            })?;
        }
        Ok(())
    }

    /// Puts something beside the one filter that is about to go, where the kernel lets it.
    fn cover(&mut self, attachment: u32) {
        for hook in [Hook::Tcx, Hook::Clsact] {
            let name = self.pins.name(attachment, hook, &self.interface.name);
            match place::place(self.object, self.pins, &name, self.interface) {
                Ok(()) => {
                    self.cover = Some(name.clone());
                    self.earlier.push(name);
                    return;
                }
                Err(why) => tracing::debug!(%why, "nothing stands in by this hook"),
            }
        }
    }

    /// Takes the earlier filters away that nothing came in the place of.
    fn retire(&self) {
        for old in &self.earlier {
            if let Err(error) = self.pins.remove_link(old) {
                let error = with_causes(&error);
                tracing::error!(error, "an earlier filter of ours stays beside the new one");
            }
        }
    }
}

fn first_reason(hook: Hook, wanted: GateAttach) -> &'static str {
    match (hook, wanted) {
        (Hook::Xdp, GateAttach::Auto) => "the driver runs XDP natively",
        (Hook::Tcx, GateAttach::Auto) => "TCX filters in its place",
        (Hook::Clsact, GateAttach::Auto | GateAttach::Tc) => "a clsact filter stands in its place",
        _ => "as `gate.attach` says",
    }
}

/// Why an interface that is wanted is not there, as far as it can be told.
pub(super) fn absence(pins: &Pins, interface: &str) -> &'static str {
    if earlier::is_elsewhere(pins, interface) {
        "the interface was moved to another network namespace and its filter went along; \
         it is taken over as soon as it comes back"
    } else {
        "the interface is not there; it is filtered as soon as it appears"
    }
}
