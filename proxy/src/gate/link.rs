//! What a pinned link is attached to now. The library that loads the programs does not say, and it matters:
//! a link outlives its interface, and goes along when the interface is renamed or moved.
#![allow(unsafe_code, reason = "opening a pin by the system call needs a raw pointer")]

use nix::libc;
use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// `BPF_OBJ_GET` of `linux/bpf.h`.
const OBJ_GET: libc::c_int = 7;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// A pin's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// There is no such pin.
    Gone,
    /// Its interface is gone.
    Dead,
    /// It filters the interface of this index.
    On(u32),
}

/// Looks at the link that is pinned at `path`.
///
/// # Errors
/// Where the kernel does not let it be opened, or it is no link of an interface.
pub(super) fn life(path: &Path) -> io::Result<Life> {
    let link = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Life::Gone),
        other => other?,
    };
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    match interface_of(&text) {
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is no link of an interface",
        )),
        Some(0) => Ok(Life::Dead),
        Some(index) => Ok(Life::On(index)),
    }
}

/// The value of the line `ifindex:` of `/proc/PID/fdinfo/FD`.
fn interface_of(fdinfo: &str) -> Option<u32> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix("ifindex:"))?;
    value.trim().parse().ok()
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjGet {
        pathname: name.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    let size = size_of::<ObjGet>();
    // SAFETY: the kernel reads `size` bytes at `attributes` and the string that it points to; both outlive
    // the call.
    let code = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, &raw const attributes, size) };
    match RawFd::try_from(code) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us alone.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        }
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::interface_of;

    #[test]
    fn the_interface_is_read_from_what_the_kernel_prints() {
        let xdp = "pos:\t0\nflags:\t02000000\nlink_type:\txdp\nlink_id:\t4\nprog_tag:\tab\nifindex:\t17\n";
        assert_eq!(interface_of(xdp), Some(17));
        assert_eq!(
            interface_of("link_type:\ttcx\nifindex:\t0\nattach_type:\t46 (tcx_ingress)\n"),
            Some(0)
        );
        for other in ["link_type:\ttracing\n", "ifindex:\n", "ifindex:\t-1\n", ""] {
            assert_eq!(interface_of(other), None, "{other:?}");
        }
    }
}
