//! What earlier processes left on an interface, by any name and of any layout. A pin is named after the interface as it
//! was; where its filter is now, the kernel says.

use crate::{
    fault::with_causes,
    gate::{
        attach::clsact,
        error::GateError,
        interfaces::Interface,
        link::{Life, life, program},
        pins::{LinkName, Pins},
    },
};

/// The filters of ours that are on this interface now, this layout's first. Pins that have its name and filter
/// something else are given another one; those that filter nothing any more are removed.
pub(super) fn of(pins: &Pins, interface: &Interface) -> Result<Vec<LinkName>, GateError> {
    settle(pins);
    let mut alive = Vec::new();
    for name in pins.all_links()? {
        let named_so = name.interface == interface.name;
        match life(&pins.link(&name)) {
            Ok(Life::On(index)) if index == interface.index => alive.push(name),
            Ok(Life::On(index)) if named_so => set_aside(pins, &name, Interface::name_of(index))?,
            Ok(Life::Elsewhere) if named_so => set_aside(pins, &name, None)?,
            Ok(Life::On(_) | Life::Elsewhere | Life::Gone) => {}
            Ok(Life::Dead) => remove(pins, &name, "its interface is gone")?,
            Err(error) if named_so => remove(pins, &name, &with_causes(&error))?,
            Err(_) => {}
        }
    }
    Ok(alive)
}

/// Ends what an earlier process was about when it ended.
fn settle(pins: &Pins) {
    for name in pins.coming() {
        if let Err(error) = clsact::settle(&pins.link(&name), &pins.next(&name)) {
            let (interface, error) = (&name.interface, with_causes(&error));
            tracing::error!(interface, error, "a program that was to come stays pinned");
        }
    }
}

/// Whether a filter that was on the interface of this name is in another network namespace now.
pub(super) fn is_elsewhere(pins: &Pins, interface: &str) -> bool {
    let links = pins.links().unwrap_or_default();
    links
        .iter()
        .filter(|name| name.interface == interface)
        .any(|name| matches!(life(&pins.link(name)), Ok(Life::Elsewhere)))
}

/// Names a pin after what its filter is on now. It goes on there: only `gate off` takes filters away.
fn set_aside(pins: &Pins, name: &LinkName, now: Option<String>) -> Result<(), GateError> {
    let number = program(&pins.link(name)).ok().flatten().unwrap_or(0);
    let parked = name.parked(number);
    let other = match now {
        Some(now) if now != name.interface => LinkName {
            interface: now,
            ..name.clone()
        },
        _ => parked.clone(),
    };
    let other = if pins.link(&other).exists() { parked } else { other };
    tracing::warn!(
        interface = name.interface,
        now = other.interface,
        "what had this name is filtered on, and something else has its name now"
    );
    pins.rename(name, &other)
}

fn remove(pins: &Pins, name: &LinkName, why: &str) -> Result<(), GateError> {
    let interface = &name.interface;
    tracing::info!(interface, why, "a pin that filters nothing any more is removed");
    pins.remove_link(name)
}
