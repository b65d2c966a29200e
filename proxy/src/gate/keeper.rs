//! Keeps a program on every interface that is to have one, as far as the host lets it.
//!
//! Every look is at the whole state, so that an event that was lost or came twice does no harm. It takes nothing
//! away: an interface that no policy gates any more keeps its program, which finds nothing to judge, until
//! `gate off`.

use super::{
    attach::{Attached, absence, attach},
    error::GateError,
    interfaces::Interface,
    link::{Life, life},
    object::Object,
    off,
    pins::{LinkName, Pins},
};
use sallyport_config::model::GateAttach;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// The interfaces.
pub(super) struct Keeper {
    pins: Pins,
    programs: Object,
    places: BTreeMap<String, Place>,
    gaps: BTreeMap<String, Gaps>,
}

/// How often an interface had no filter while the gate was there: it was made anew, or somebody took the filter away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gaps {
    /// How often.
    pub(super) count: u64,
    /// How long the last one went on after the gate had heard of it.
    pub(super) last: Duration,
}

/// What became of one interface.
pub(super) enum Place {
    /// A program sits on it.
    Attached(Attached),
    /// Why nothing is attached.
    Not(String),
    /// Root said so; it stays off until the gate is started again.
    Off,
}

impl Place {
    /// What sits there, and why.
    pub(super) fn shown(&self) -> (&'static str, String) {
        match self {
            Self::Attached(attached) => (attached.name.hook.word(), attached.reason.clone()),
            Self::Not(reason) => ("none", reason.clone()),
            Self::Off => (
                "none",
                "taken away by `gate off`; start the gate again to filter".to_owned(),
            ),
        }
    }
}

impl Keeper {
    /// Keeps nothing yet.
    pub(super) fn new(pins: Pins, programs: Object) -> Self {
        Self {
            pins,
            programs,
            places: BTreeMap::new(),
            gaps: BTreeMap::new(),
        }
    }

    /// What became of an interface; nothing before the first look.
    pub(super) fn place(&self, interface: &str) -> Option<&Place> {
        self.places.get(interface)
    }

    /// A line for each interface that should be filtered and is not.
    pub(super) fn unfiltered(&self) -> Vec<String> {
        let shown = self.places.iter().map(|(name, place)| (name, place.shown()));
        let without = shown.filter(|(_, (actual, _))| *actual == "none");
        without
            .map(|(name, (_, why))| {
                format!("`{name}` is not filtered: {why}; only the check at accept stands")
            })
            .collect()
    }

    /// How often an interface had no filter.
    pub(super) fn gaps(&self, interface: &str) -> Gaps {
        self.gaps.get(interface).copied().unwrap_or_default()
    }

    /// The programs of ours that sit somewhere, whoever wanted them.
    pub(super) fn sitting(&self) -> Vec<LinkName> {
        let mut links = self.pins.links().unwrap_or_default();
        links.retain(|name| matches!(life(&self.pins.link(name)), Ok(Life::On(_))));
        links
    }

    /// Makes what is attached what is wanted.
    pub(super) fn reconcile(
        &mut self,
        wanted: &BTreeSet<String>,
        numbers: &BTreeMap<String, u32>,
        hook: GateAttach,
    ) {
        self.places.retain(|name, _| wanted.contains(name));
        if !self.pins.exist() {
            tracing::warn!("the pins are gone, as after `gate off --offline`: nothing is attached again");
            self.places = wanted.iter().map(|name| (name.clone(), Place::Off)).collect();
            return;
        }
        let heard = Instant::now();
        for name in wanted {
            if let Some(number) = numbers.get(name) {
                self.reconcile_one(name, *number, hook, heard);
            }
        }
    }

    fn reconcile_one(&mut self, name: &str, number: u32, hook: GateAttach, heard: Instant) {
        let now = Interface::look_up(name);
        let place = match (self.places.get(name), now) {
            (Some(Place::Off), _) => return,
            (_, None) => Place::Not(absence(&self.pins, name).to_owned()),
            // Two attachments of one interface would take the place of each other.
            (_, Some(now)) if now.name != *name => Place::Not(format!(
                "`{name}` is only another name of `{0}`; write `{0}` in `interfaces`",
                now.name
            )),
            (Some(Place::Attached(there)), Some(now)) if there.index == now.index => {
                match life(&self.pins.link(&there.name)) {
                    Ok(Life::On(index)) if index == now.index => return,
                    Ok(Life::Gone) => Place::Off,
                    _ => self.attach(number, &now, hook),
                }
            }
            (_, Some(now)) => self.attach(number, &now, hook),
        };
        let before = self.places.get(name).map(Place::shown);
        // What the first look finds without a filter had no gate either.
        if let (Place::Attached(Attached { adopted: false, .. }), Some(_)) = (&place, &before) {
            let gaps = self.gaps.entry(name.to_owned()).or_default();
            gaps.count += 1;
            gaps.last = heard.elapsed();
            tracing::warn!(interface = name, after = ?gaps.last, gaps = gaps.count, "filtered anew");
        }
        if before != Some(place.shown()) {
            tell(name, &place);
        }
        self.places.insert(name.to_owned(), place);
    }

    fn attach(&self, number: u32, interface: &Interface, hook: GateAttach) -> Place {
        match attach(&self.pins, &self.programs, number, interface, hook) {
            Ok(attached) => Place::Attached(attached),
            Err(reason) => Place::Not(reason),
        }
    }

    /// Looks at everything anew, also at what root took away: a reload that wants another hook.
    pub(super) fn forget(&mut self) {
        self.places.retain(|_, place| matches!(place, Place::Off));
    }

    /// Takes the filter off one interface, or off all.
    ///
    /// # Errors
    /// Where the pins cannot be removed.
    pub(super) fn off(&mut self, interface: Option<&str>) -> Result<(), GateError> {
        off::take_away(&self.pins, interface)?;
        for (name, place) in &mut self.places {
            if interface.is_none_or(|wanted| wanted == name) {
                *place = Place::Off;
                tracing::warn!(interface = name, "the filter was taken away by `gate off`");
            }
        }
        Ok(())
    }
}

fn tell(interface: &str, place: &Place) {
    match place {
        Place::Attached(attached) => tracing::info!(
            interface,
            hook = attached.name.hook.word(),
            why = attached.reason,
            "filtered"
        ),
        Place::Not(why) => {
            tracing::error!(interface, why, "not filtered; only the check at accept stands");
        }
        Place::Off => tracing::warn!(interface, "the pin is gone, as after `gate off --offline`"),
    }
}
