//! Where links and maps are pinned: `PIN_DIR/vLAYOUT/NETNS/`, closed to everybody but root.
//!
//! The network namespace is in the path because interface indices repeat across namespaces that share one
//! bpffs; the layout is, so that maps are never used by programs that read them otherwise.

use super::error::GateError;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use sallyport_ebpf::LAYOUT;
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The pins of one network namespace.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    directory: PathBuf,
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
}

impl Hook {
    /// The word in status and in the names of pins.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Tcx => "tcx",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Xdp, Self::XdpGeneric, Self::Tcx]
            .into_iter()
            .find(|hook| hook.word() == word)
    }
}

/// A pinned link: which attachment it is, where it sits and of which interface. The kernel does not tell a
/// native XDP link from a generic one, so the name does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkName {
    /// The number that is a constant of its program.
    pub(super) attachment: u32,
    /// Where its program sits.
    pub(super) hook: Hook,
    /// The interface.
    pub(super) interface: String,
}

impl LinkName {
    /// A file name: bpffs allows no dot, and interfaces have some.
    fn encode(&self) -> String {
        let name: String = self.interface.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("link_{}_{}_{name}", self.attachment, self.hook.word())
    }

    fn decode(file: &str) -> Option<Self> {
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
            directory: pin_dir.join(format!("v{LAYOUT}")).join(namespace.to_string()),
        })
    }

    /// Creates the directory.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn create(&self) -> Result<(), GateError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory);
        made.map_err(|source| self.failed(&self.directory, source))
    }

    /// Whether the directory is there: `gate off --offline` may have taken it away under a running gate.
    pub(super) fn exist(&self) -> bool {
        self.directory.is_dir()
    }

    /// The pin of a map.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The pin of a link.
    pub(super) fn link(&self, name: &LinkName) -> PathBuf {
        self.directory.join(name.encode())
    }

    /// The links that are pinned; none where the directory is not there.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn links(&self) -> Result<Vec<LinkName>, GateError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|source| self.failed(&self.directory, source))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| LinkName::decode(&name)).collect())
    }

    /// Removes the pin of a link, which detaches it: nobody holds one open.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn remove_link(&self, name: &LinkName) -> Result<(), GateError> {
        let path = self.link(name);
        fs::remove_file(&path).map_err(|source| self.failed(&path, source))
    }

    /// Removes every pin and the directory.
    ///
    /// # Errors
    /// Where that is refused.
    pub(super) fn remove_all(&self) -> Result<(), GateError> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|source| self.failed(&self.directory, source))?,
        }
        // The directories above go with the last namespace's; others may still need them.
        for above in self.directory.ancestors().skip(1).take(2) {
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
            for hook in [Hook::Xdp, Hook::XdpGeneric, Hook::Tcx] {
                let name = LinkName {
                    attachment: 7,
                    hook,
                    interface: interface.to_owned(),
                };
                assert!(!name.encode().contains('.'));
                assert_eq!(LinkName::decode(&name.encode()), Some(name));
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
            assert_eq!(LinkName::decode(file), None, "{file}");
        }
    }
}
