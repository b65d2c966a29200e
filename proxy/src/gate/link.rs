//! What a pin keeps attached, and where that is now. The library that loads the programs does not say, and it
//! matters: a link outlives its interface, and goes along when the interface is renamed or moved.
#![allow(unsafe_code, reason = "these system calls need raw pointers")]

use super::{attach::clsact, interfaces::Interface};
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

/// `BPF_OBJ_GET`, `BPF_PROG_QUERY` and `BPF_LINK_DETACH` of `linux/bpf.h`.
const OBJ_GET: libc::c_int = 7;
const PROG_QUERY: libc::c_int = 16;
const LINK_DETACH: libc::c_int = 34;
/// `BPF_TCX_INGRESS`.
const TCX_INGRESS: u32 = 46;
/// `BPF_MPROG_MAX`: the kernel attaches no more programs at one place.
const PROGRAMS_MAX: usize = 64;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
#[derive(Default)]
struct Query {
    index: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// What a pin keeps attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// There is no such pin.
    Gone,
    /// Its interface is gone.
    Dead,
    /// Its interface is in another network namespace.
    Elsewhere,
    /// It filters the interface of this index.
    On(u32),
}

/// Looks at what is pinned at `path`: a link, or the program of a clsact filter.
///
/// # Errors
/// Where the kernel does not let it be opened, or it is none of them.
pub(super) fn life(path: &Path) -> io::Result<Life> {
    let Some(text) = described(path)? else {
        return Ok(Life::Gone);
    };
    let field = |name| number(&text, name);
    let is_link = text.lines().any(|line| line.starts_with("link_type:"));
    match (is_link, field("ifindex:"), field("prog_id:")) {
        (false, None, Some(program)) => clsact::life(program),
        (true, Some(0), _) => Ok(Life::Dead),
        // An index names another interface in another namespace.
        (true, Some(index), Some(program)) if !is_here(&text, index, program) => Ok(Life::Elsewhere),
        (true, Some(index), _) => Ok(Life::On(index)),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is neither a link of an interface nor a program",
        )),
    }
}

/// The number of the program that is pinned at `path`, or whose link is. `None` where nothing is pinned there.
///
/// # Errors
/// Where the kernel does not let it be opened.
pub(super) fn program(path: &Path) -> io::Result<Option<u32>> {
    Ok(described(path)?.and_then(|text| number(&text, "prog_id:")))
}

/// Detaches the link that is pinned at `path`, now: the end of its last pin would do so some time later. Where that is
/// refused, nothing was attached any more.
pub(super) fn detach(path: &Path) {
    let Ok(link) = open(path) else {
        return;
    };
    let number = link.as_raw_fd();
    let size = size_of::<RawFd>();
    // SAFETY: the kernel reads `size` bytes at `number`, the number of a descriptor that is open; it outlives the call.
    let code = unsafe { libc::syscall(libc::SYS_bpf, LINK_DETACH, &raw const number, size) };
    tracing::debug!(path = %path.display(), code, "detached");
}

/// What the kernel prints of a pinned object, `None` where there is no such pin.
fn described(path: &Path) -> io::Result<Option<String>> {
    let object = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd())).map(Some)
}

/// Whether the interface of this index in this namespace has the program. Where the kernel does not say, it has: a
/// filter that is there must not be taken for lost.
fn is_here(fdinfo: &str, index: u32, program: u32) -> bool {
    let found = match fdinfo.lines().find_map(|line| line.strip_prefix("link_type:")) {
        Some(kind) if kind.trim() == "tcx" => tcx_programs(index),
        _ => Interface::xdp_programs(index),
    };
    match found {
        Ok(programs) => programs.contains(&program),
        Err(error) => error.raw_os_error() != Some(libc::ENODEV),
    }
}

/// The value of a line of `/proc/PID/fdinfo/FD`.
fn number(fdinfo: &str, field: &str) -> Option<u32> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix(field))?;
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

/// The numbers of the TCX programs at an interface's ingress.
fn tcx_programs(index: u32) -> io::Result<Vec<u32>> {
    let mut programs = vec![0u32; PROGRAMS_MAX];
    let mut query = Query {
        index,
        attach_type: TCX_INGRESS,
        programs: programs.as_mut_ptr() as u64,
        count: PROGRAMS_MAX as u32,
        ..Query::default()
    };
    let size = size_of::<Query>();
    // SAFETY: the kernel reads and writes `size` bytes at `query` and at most `count` numbers at `programs`; both
    // outlive the call and nothing else refers to them meanwhile.
    let code = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    programs.truncate(query.count as usize);
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_from_what_the_kernel_prints() {
        let xdp = "pos:\t0\nlink_type:\txdp\nlink_id:\t4\nprog_tag:\tab\nprog_id:\t33\nifindex:\t17\n";
        assert_eq!(
            (number(xdp, "ifindex:"), number(xdp, "prog_id:")),
            (Some(17), Some(33))
        );
        let dead = "link_type:\ttcx\nifindex:\t0\nattach_type:\t46 (tcx_ingress)\n";
        assert_eq!(number(dead, "ifindex:"), Some(0));
        for other in ["link_type:\ttracing\n", "ifindex:\n", "ifindex:\t-1\n", ""] {
            assert_eq!(number(other, "ifindex:"), None, "{other:?}");
        }
    }
}
