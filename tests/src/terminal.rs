//! A pseudo-terminal for a program that draws on one: its size, its keys, and what was drawn so far.

use crate::wait;
use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A terminal, seen from the side of the person in front of it.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// Held open, so that the end of the program is no hang-up and its settings can be looked at.
    slave: OwnedFd,
    seen: Vec<u8>,
}

impl Terminal {
    /// A terminal of this size.
    ///
    /// # Errors
    /// Where the system has none.
    pub fn new(lines: u16, columns: u16) -> Result<Terminal> {
        let size = Winsize {
            ws_row: lines,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).context("no pseudo-terminal")?;
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Terminal {
            master: pair.master,
            slave: pair.slave,
            seen: Vec::new(),
        })
    }

    /// The end that a program gets as its standard input and output.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn slave(&self) -> Result<OwnedFd> {
        Ok(self.slave.try_clone()?)
    }

    /// How it is set now.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn settings(&self) -> Result<Termios> {
        Ok(tcgetattr(&self.slave)?)
    }

    /// Presses keys.
    ///
    /// # Errors
    /// Where nobody takes them.
    pub fn press(&self, keys: &str) -> Result<()> {
        let count = nix::unistd::write(&self.master, keys.as_bytes())?;
        ensure!(count == keys.len(), "{count} keys taken");
        Ok(())
    }

    /// Gives it another size; whoever runs on it is told by `SIGWINCH`, which is the caller's to send where it is not
    /// the program's controlling terminal.
    ///
    /// # Errors
    /// Where `stty` refuses.
    pub fn resize(&self, lines: u16, columns: u16) -> Result<()> {
        let size = ["rows", &lines.to_string(), "cols", &columns.to_string()].map(str::to_owned);
        let status = Command::new("stty")
            .args(size)
            .stdin(Stdio::from(self.slave()?))
            .status()?;
        ensure!(status.success(), "stty: {status}");
        Ok(())
    }

    /// Everything that was drawn so far.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn seen(&mut self) -> Result<String> {
        let mut buffer = [0u8; 4096];
        loop {
            match nix::unistd::read(&self.master, &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => self.seen.extend(buffer.iter().take(count)),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(String::from_utf8_lossy(&self.seen).into_owned())
    }

    /// Forgets what was drawn, for the next program.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub fn forget(&mut self) -> Result<()> {
        self.seen()?;
        self.seen.clear();
        Ok(())
    }

    /// Waits until a screen was drawn that `fits`. A screen is what stands after the last move to its first line.
    ///
    /// # Errors
    /// Where none is within `limit`; the last one is in the error.
    pub fn wait_for_screen(
        &mut self,
        what: &str,
        limit: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let found = wait::until(limit, what, || {
            let screen = last_screen(&self.seen()?);
            Ok(fits(&screen).then_some(screen))
        });
        found.with_context(|| format!("drawn: {:?}", last_screen(&String::from_utf8_lossy(&self.seen))))
    }
}

fn last_screen(seen: &str) -> String {
    seen.rsplit_once("\x1b[H")
        .map_or(seen, |(_, screen)| screen)
        .to_owned()
}
