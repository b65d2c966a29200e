//! SIGINT and SIGTERM for programs that have labs: everything is taken down, then the process ends.

use crate::lab::close_all;
use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Starts a thread that takes every lab down at SIGINT and SIGTERM, then ends the process with what `code` gives.
///
/// # Errors
/// Where the signals cannot be watched.
pub fn take_down(code: impl FnOnce() -> u8 + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(std::future::poll_fn(|context| {
            let came = signals
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready());
            if came {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        }));
        eprintln!("taking the lab down");
        close_all();
        std::process::exit(i32::from(code()));
    });
    Ok(())
}
