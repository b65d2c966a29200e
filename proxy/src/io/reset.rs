//! Breaking a connection off: the peer gets a reset, whatever waits to be sent.
//!
//! Closing a descriptor is not enough: an operation of the ring keeps it open, and shutting it down first would tell the
//! peer of an end in order.

#![allow(unsafe_code, reason = "an address that is no address")]

use socket2::{SockAddr, SockAddrStorage, SockRef};

/// Disconnects (`connect` to `AF_UNSPEC`, connect(2)), which sends the reset and completes what is in flight. An error
/// means that the peer was faster.
pub(super) fn disconnect(socket: SockRef<'_>) {
    let nowhere = SockAddrStorage::zeroed();
    let length = nowhere.size_of();
    // SAFETY: a zeroed storage is a valid address of the family `AF_UNSPEC`, which is 0, of its whole length; held by
    // `a_reset_reaches_the_peer`.
    let nowhere = unsafe { SockAddr::new(nowhere, length) };
    let _ = socket.connect(&nowhere);
}
