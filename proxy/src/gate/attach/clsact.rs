//! A filter of the clsact queueing discipline, for kernels without TCX. No link stands for it: the pin is of the
//! program, and the filter is found by the program's number. It must touch no filter of any other program.
//!
//! Nothing here detaches when a process ends. The queueing discipline stays when the filter goes: somebody else may
//! count on it, and it costs nothing.

use crate::gate::{
    interfaces::Interface,
    link::{Life, program},
    netlink::{CREATE, EXCLUSIVE, Message, Netlink, attribute},
};
use nix::libc;
use std::{
    fs, io,
    os::fd::{AsRawFd, BorrowedFd},
    path::Path,
};

/// `TC_H_CLSACT`, the handle of the queueing discipline, and the parent of what filters ingress.
const CLSACT: u32 = 0xffff_fff1;
const HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
/// Of `linux/rtnetlink.h`.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// Of `linux/pkt_cls.h`.
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;
const DIRECT_ACTION: u32 = 1;
/// The first place.
const PRIORITY: u32 = 1;
/// `ETH_P_ALL` as the wire has it.
const ALL_PROTOCOLS: u32 = 0x0003u16.to_be() as u32;

/// A filter of ours: where it is, and its name there.
#[derive(Clone, Copy)]
struct Filter {
    index: u32,
    handle: u32,
    info: u32,
}

/// Where the filter of this program is.
///
/// # Errors
/// Where the kernel does not say.
pub(in crate::gate) fn life(number: u32) -> io::Result<Life> {
    let found = find(&Netlink::open()?, number)?;
    Ok(found.map_or(Life::Dead, |filter| Life::On(filter.index)))
}

/// Adds a filter with a pinned program.
///
/// # Errors
/// What the kernel answered.
pub(super) fn add(program: BorrowedFd<'_>, name: &str, index: u32) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let mut body = header(index, HANDLE, CLSACT, 0);
    body.extend(attribute(TCA_KIND, b"clsact\0"));
    match netlink.request(libc::RTM_NEWQDISC, CREATE | EXCLUSIVE, &body) {
        // Somebody's, and as good as ours.
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => drop(other?),
    }
    let body = with_program(
        header(index, 0, INGRESS, PRIORITY << 16 | ALL_PROTOCOLS),
        program,
        name,
    );
    netlink
        .request(libc::RTM_NEWTFILTER, CREATE | EXCLUSIVE, &body)
        .map(drop)
}

/// Puts a program into the filter of another, in one step: no packet comes between them.
///
/// # Errors
/// What the kernel answered.
pub(super) fn replace(old: u32, new: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let netlink = Netlink::open()?;
    let filter = find(&netlink, old)?.ok_or(io::ErrorKind::NotFound)?;
    let body = with_program(
        header(filter.index, filter.handle, INGRESS, filter.info),
        new,
        name,
    );
    netlink.request(libc::RTM_NEWTFILTER, 0, &body).map(drop)
}

/// Deletes the filter of the program that is pinned at `path`.
///
/// # Errors
/// What the kernel answered.
pub(in crate::gate) fn take_away(path: &Path) -> io::Result<()> {
    let Some(number) = program(path)? else {
        return Ok(());
    };
    let netlink = Netlink::open()?;
    // More than one where an earlier process ended in the wrong moment.
    while let Some(filter) = find(&netlink, number)? {
        let body = header(filter.index, filter.handle, INGRESS, filter.info);
        netlink.request(libc::RTM_DELTFILTER, 0, &body)?;
    }
    Ok(())
}

/// Ends a replacement in whose middle an earlier process ended: the program that was to come is pinned at `next`.
///
/// # Errors
/// Where pins or filters cannot be looked at.
pub(super) fn settle(path: &Path, next: &Path) -> io::Result<()> {
    let Some(number) = program(next)? else {
        return Ok(());
    };
    match find(&Netlink::open()?, number)? {
        Some(_) => fs::rename(next, path),
        None => fs::remove_file(next),
    }
}

/// Looks for a filter with this program on every interface: the kernel has no index of them.
fn find(netlink: &Netlink, number: u32) -> io::Result<Option<Filter>> {
    for index in Interface::indices(netlink)? {
        let filters = match netlink.list(libc::RTM_GETTFILTER, &header(index, 0, INGRESS, 0)) {
            // Gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
            other => other?,
        };
        let ours = filters
            .iter()
            .filter_map(read)
            .find(|(_, found)| *found == number);
        if let Some((filter, _)) = ours {
            return Ok(Some(filter));
        }
    }
    Ok(None)
}

/// A filter and the number of its program.
fn read(message: &Message) -> Option<(Filter, u32)> {
    let (header, attributes) = message.split::<20>()?;
    let word = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        Some(u32::from_ne_bytes(*bytes.first_chunk()?))
    };
    let number = attributes.nested(TCA_OPTIONS)?.number(BPF_ID)?;
    let filter = Filter {
        index: word(4)?,
        handle: word(8)?,
        info: word(16)?,
    };
    (attributes.text(TCA_KIND) == Some("bpf")).then_some((filter, number))
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    [0, index, handle, parent, info]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}

fn with_program(mut body: Vec<u8>, program: BorrowedFd<'_>, name: &str) -> Vec<u8> {
    let named = [name.as_bytes(), &[0]].concat();
    let options = [
        attribute(BPF_FD, &program.as_raw_fd().to_ne_bytes()),
        attribute(BPF_NAME, &named),
        attribute(BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
    ];
    body.extend(attribute(TCA_KIND, b"bpf\0"));
    body.extend(attribute(TCA_OPTIONS, &options.concat()));
    body
}
