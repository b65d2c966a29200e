//! Taking the filter away: the one thing that does, and it works without a running gate.

use super::{
    client::{ask, must_be_root},
    error::GateError,
    pins::Pins,
};
use sallyport_config::GatePaths;

/// How `gate off` goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Through the running gate, which then leaves the interfaces alone.
    Daemon,
    /// On the pins alone.
    Pins,
}

/// Takes the filter off one interface, or off all of them.
///
/// # Errors
/// Where this is not root's, or the running gate cannot be told.
pub fn off(paths: &GatePaths, interface: Option<&str>, reach: Reach) -> Result<(), GateError> {
    must_be_root("gate off")?;
    match reach {
        Reach::Pins => take_away(&Pins::locate(&paths.pin_dir)?, interface),
        Reach::Daemon => {
            let request = interface.map_or_else(|| "off\n".to_owned(), |name| format!("off {name}\n"));
            match ask(&paths.socket, &request) {
                // A gate that is not there cannot put the filter back.
                Err(GateError::NoDaemon { .. }) => take_away(&Pins::locate(&paths.pin_dir)?, interface),
                other => other.map(drop),
            }
        }
    }
}

/// Removes pins of every layout, which detaches their links: no process of ours holds one open. The maps stay where
/// only one interface was named, because the running gate may have others to attach.
pub(super) fn take_away(pins: &Pins, interface: Option<&str>) -> Result<(), GateError> {
    let Some(interface) = interface else {
        return pins.remove_all();
    };
    for link in pins.links()? {
        if link.interface == interface {
            pins.remove_link(&link)?;
        }
    }
    Ok(())
}
