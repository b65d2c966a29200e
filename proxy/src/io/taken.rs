//! What the other end of a connection has acknowledged.

#![allow(unsafe_code, reason = "an option whose structure grows with the kernel")]

use socket2::SockRef;
use std::os::fd::AsRawFd;

/// Where `tcpi_bytes_acked` is in `struct tcp_info` of linux/tcp.h (since Linux 4.1).
const AT: usize = 120;
const LENGTH: usize = AT + size_of::<u64>();

/// Bytes that the peer has acknowledged in all; 0 where the kernel does not say.
pub(super) fn acknowledged(socket: SockRef<'_>) -> u64 {
    let mut info = [0u8; LENGTH];
    let mut length = libc::socklen_t::try_from(LENGTH).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `info`, and both outlive the call; held by
    // `what_a_peer_reads_is_acknowledged`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let whole = usize::try_from(length).is_ok_and(|length| length >= LENGTH);
    let acked = info.get(AT..).and_then(|bytes| bytes.try_into().ok());
    match acked {
        Some(bytes) if outcome == 0 && whole => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    #[test]
    fn what_a_peer_reads_is_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (mut far, _) = listener.accept().expect("accepted");
        near.write_all(&[1; 5000]).expect("room");
        far.read_exact(&mut [0; 5000]).expect("they come");
        let deadline = Instant::now() + Duration::from_secs(10);
        // The SYN counts as one on some kernels.
        while !(5000..=5001).contains(&acknowledged(SockRef::from(&near))) {
            assert!(
                Instant::now() < deadline,
                "{}",
                acknowledged(SockRef::from(&near))
            );
            std::thread::yield_now();
        }
    }
}
