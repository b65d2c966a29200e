//! Where links and maps are pinned: `PIN_DIR/vLAYOUT/NETNS/`, closed to everybody but root.
//!
//! The network namespace is in the path because interface indices repeat across namespaces that share one
//! bpffs; the layout is, so that maps are never used by programs that read them otherwise.

use super::{attach::clsact, error::GateError, link};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use sallyport_ebpf::LAYOUT;
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The pins of one network namespace.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    /// `gate.pin_dir`.
    root: PathBuf,
    layout: u32,
    namespace: String,
}

/// Where a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// Native XDP.
    Xdp,
    /// Generic XDP.
    XdpGeneric,
    /// TCX.
    Tcx,
    /// A filter of clsact: its program is pinned, for it has no link.
    Clsact,
}

impl Hook {
    /// The word in status and in the names of pins.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Xdp, Self::XdpGeneric, Self::Tcx, Self::Clsact]
            .into_iter()
            .find(|hook| hook.word() == word)
    }
}

/// A pinned link: which attachment it is, where it sits and of which interface. The kernel does not tell a
/// native XDP link from a generic one, so the name does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkName {
    /// The layout of the maps that its program reads.
    pub(super) layout: u32,
    /// The number that is a constant of its program.
    pub(super) attachment: u32,
    /// Where its program sits.
    pub(super) hook: Hook,
    /// The interface.
    pub(super) interface: String,
}

impl LinkName {
    /// The same link without the name of an interface: what had the name is out of sight, and something else has it
    /// now. `mark` tells two such apart.
    pub(super) fn parked(&self, mark: u32) -> Self {
        let mut parked = self.clone();
        // No interface can be called so.
        parked.interface = format!("{}/{mark}", self.interface);
        parked
    }

    fn is_parked(&self) -> bool {
        self.interface.contains('/')
    }

    /// A file name: bpffs allows no dot, and interfaces have some.
    fn encode(&self) -> String {
        let name: String = self.interface.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("link_{}_{}_{name}", self.attachment, self.hook.word())
    }

    fn decode(layout: u32, file: &str) -> Option<Self> {
        let (attachment, rest) = file.strip_prefix("link_")?.split_once('_')?;
        let (hook, name) = rest.split_once('_')?;
        let pairs = name.as_bytes().chunks(2).map(|pair| {
            std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2)
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        });
        let interface = String::from_utf8(pairs.collect::<Option<_>>()?).ok()?;
        Some(Self {
            layout,
            attachment: attachment.parse().ok()?,
            hook: Hook::of(hook)?,
            interface,
        })
    }
}

impl Pins {
    /// The pins of this process's network namespace below `pin_dir`. Nothing is created.
    ///
    /// # Errors
    /// Where `pin_dir` is on no bpffs.
    pub(super) fn locate(pin_dir: &Path) -> Result<Self, GateError> {
        let there = pin_dir.ancestors().find(|path| path.exists());
        let on_bpffs = there
            .and_then(|path| statfs(path).ok())
            .is_some_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
        if !on_bpffs {
            return Err(GateError::NoBpffs {
                path: pin_dir.to_owned(),
            });
        }
        let namespace = fs::metadata("/proc/self/ns/net")
            .map_err(GateError::Namespace)?
            .ino();
        Ok(Self {
            root: pin_dir.to_owned(),
            layout: LAYOUT,
            namespace: namespace.to_string(),
        })
    }

    /// The same for programs of another layout.
    #[cfg(test)]
    pub(super) fn of_layout(mut self, layout: u32) -> Self {
        self.layout = layout;
        self
    }

    /// The name of a link whose program is of this version.
    pub(super) fn name(&self, attachment: u32, hook: Hook, interface: &str) -> LinkName {
        LinkName {
            layout: self.layout,
            attachment,
            hook,
            interface: interface.to_owned(),
        }
    }

    /// Where programs of a layout have their pins.
    fn directory(&self, layout: u32) -> PathBuf {
        self.root.join(format!("v{layout}")).join(&self.namespace)
    }

    fn own(&self) -> PathBuf {
        self.directory(self.layout)
    }

    /// Creates the directory.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn create(&self) -> Result<(), GateError> {
        let own = self.own();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&own);
        made.map_err(|source| self.failed(&own, source))
    }

    /// Keeps every other gate from these pins as long as the lock lives: two would edit each other's slots. The kernel
    /// drops it with the process, however that ends.
    ///
    /// # Errors
    /// Where another gate has it.
    pub(super) fn lock(&self) -> Result<Flock<fs::File>, GateError> {
        let own = self.own();
        let directory = fs::File::open(&own).map_err(|source| self.failed(&own, source))?;
        Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => GateError::AnotherGate { path: own },
            other => self.failed(&own, other.into()),
        })
    }

    /// Whether the directory is there: `gate off --offline` may have taken it away under a running gate.
    pub(super) fn exist(&self) -> bool {
        self.own().is_dir()
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.own().join(name)
    }

    /// The pins of a map that versions of other layouts left in this namespace, the highest layout first.
    pub(super) fn earlier_maps(&self, name: &str) -> Vec<PathBuf> {
        let mut layouts = self.other_layouts().unwrap_or_default();
        layouts.sort_unstable_by(|one, other| other.cmp(one));
        let paths = layouts
            .into_iter()
            .map(|layout| self.directory(layout).join(name));
        paths.filter(|path| path.exists()).collect()
    }

    /// The pin of a link.
    pub(super) fn link(&self, name: &LinkName) -> PathBuf {
        self.directory(name.layout).join(name.encode())
    }

    /// The pin of what is about to come into a link's place.
    pub(super) fn next(&self, name: &LinkName) -> PathBuf {
        self.directory(name.layout)
            .join(format!("next_{}", name.encode()))
    }

    /// The links that are pinned and have the name of an interface, those of this version's layout first, then those
    /// that versions of other layouts left in this namespace.
    ///
    /// # Errors
    /// Where a directory cannot be read.
    pub(super) fn links(&self) -> Result<Vec<LinkName>, GateError> {
        let mut links = self.all_links()?;
        links.retain(|link| !link.is_parked());
        Ok(links)
    }

    /// The same, also those whose interface is out of sight.
    ///
    /// # Errors
    /// Where a directory cannot be read.
    pub(super) fn all_links(&self) -> Result<Vec<LinkName>, GateError> {
        let mut links = self.links_of(self.layout)?;
        for layout in self.other_layouts()? {
            links.extend(self.links_of(layout)?);
        }
        Ok(links)
    }

    fn links_of(&self, layout: u32) -> Result<Vec<LinkName>, GateError> {
        let files = self.files(&self.directory(layout))?;
        let links = files.iter().filter_map(|file| LinkName::decode(layout, file));
        Ok(links.collect())
    }

    fn other_layouts(&self) -> Result<Vec<u32>, GateError> {
        let versions = self.files(&self.root)?;
        let layouts = versions
            .iter()
            .filter_map(|name| name.strip_prefix('v')?.parse().ok());
        Ok(layouts.filter(|layout| *layout != self.layout).collect())
    }

    /// The names in a directory; none where it is not there.
    fn files(&self, directory: &Path) -> Result<Vec<String>, GateError> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| self.failed(directory, source))?,
        };
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect())
    }

    /// The links whose next program is pinned beside them.
    pub(super) fn coming(&self) -> Vec<LinkName> {
        let files = self.files(&self.own()).unwrap_or_default();
        let coming = files.iter().filter_map(|file| file.strip_prefix("next_"));
        coming
            .filter_map(|file| LinkName::decode(self.layout, file))
            .collect()
    }

    /// Gives a pin another name. What was pinned there goes.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn rename(&self, from: &LinkName, to: &LinkName) -> Result<(), GateError> {
        let path = self.link(from);
        fs::rename(&path, self.link(to)).map_err(|source| self.failed(&path, source))
    }

    /// Detaches a link, or deletes a clsact filter, and removes the pin. A pin that is not there any more is as good as
    /// removed: `gate off --offline` and a running gate, which clears away a filter that it finds deleted, may both
    /// be at it.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn remove_link(&self, name: &LinkName) -> Result<(), GateError> {
        let path = self.link(name);
        let detached = match name.hook {
            Hook::Clsact => clsact::take_away(&path),
            Hook::Xdp | Hook::XdpGeneric | Hook::Tcx => {
                link::detach(&path);
                Ok(())
            }
        };
        match detached.and_then(|()| fs::remove_file(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| self.failed(&path, source)),
        }
    }

    /// Removes what other layouts left once no link of theirs is in this namespace any more.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn sweep(&self) -> Result<(), GateError> {
        for layout in self.other_layouts()? {
            if self.links_of(layout)?.is_empty() {
                self.remove_layout(layout)?;
            }
        }
        Ok(())
    }

    /// Removes every pin of this namespace and the directories. A link that cannot be removed keeps no other one.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn remove_all(&self) -> Result<(), GateError> {
        let links = self.all_links()?;
        let removed: Vec<_> = links.iter().map(|link| self.remove_link(link)).collect();
        removed.into_iter().collect::<Result<(), _>>()?;
        for layout in self.other_layouts()?.into_iter().chain([self.layout]) {
            self.remove_layout(layout)?;
        }
        Ok(())
    }

    fn remove_layout(&self, layout: u32) -> Result<(), GateError> {
        let directory = self.directory(layout);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|source| self.failed(&directory, source))?,
        }
        // The directories above go with the last namespace's; others may still need them.
        for above in directory.ancestors().skip(1).take(2) {
            if fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn failed(&self, path: &Path, source: io::Error) -> GateError {
        GateError::Pins {
            path: path.to_owned(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_name_survives_its_file_name() {
        for interface in ["eth0", "eth0.100", "wg-a_b", "x"] {
            for hook in [Hook::Xdp, Hook::XdpGeneric, Hook::Tcx, Hook::Clsact] {
                let name = LinkName {
                    layout: 3,
                    attachment: 7,
                    hook,
                    interface: interface.to_owned(),
                };
                assert!(!name.encode().contains('.'));
                assert_eq!(LinkName::decode(3, &name.encode()), Some(name));
            }
        }
        for file in [
            "CFG",
            "link_",
            "link_x_xdp_65",
            "link_1_xdp_6",
            "link_1_xdp_zz",
            "link_1_tc_65",
        ] {
            assert_eq!(LinkName::decode(3, file), None, "{file}");
        }
    }
}
