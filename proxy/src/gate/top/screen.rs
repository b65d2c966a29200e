//! The terminal of `gate top`: its own screen while it lasts, and what it was before however it ends.
//!
//! It draws lines and tells of keys and signals. It knows nothing of what is drawn.

use super::text::Size;
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr},
    },
    unistd::read,
};
use std::{
    io::{self, Write},
    os::fd::{AsFd, AsRawFd},
    time::Instant,
};

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first column of the first line, and nothing from there on. Erasing after a line that is as wide as the
/// screen would take its last character.
const AFRESH: &str = "\x1b[H\x1b[J";

/// `q`, and what Ctrl-C and Ctrl-D send.
const END_KEYS: [u8; 4] = [b'q', b'Q', 3, 4];

/// What a terminal that does not say its size has.
const USUAL: Size = Size {
    columns: 80,
    lines: 24,
};

#[allow(unsafe_code, reason = "no safe wrapper of this request is at hand")]
mod window {
    nix::ioctl_read_bad!(
        /// Asks a terminal for its size.
        window_size,
        nix::libc::TIOCGWINSZ,
        nix::libc::winsize
    );
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Its time was up.
    Nothing,
    /// The terminal has another size.
    Redraw,
    /// Somebody wants it to end.
    End,
}

/// A terminal that is ours until this is dropped.
pub(super) struct Screen {
    signals: SignalFd,
    keys: Keys,
}

/// Where keys come from.
enum Keys {
    /// A terminal, and how it was set before.
    Terminal(Box<Termios>),
    /// Nowhere: standard input is something else.
    None,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Where it refuses.
    pub(super) fn enter() -> io::Result<Self> {
        // Before anything is changed, so that no signal ends the process in between.
        let signals = signals()?;
        let keys = match tcgetattr(io::stdin()) {
            Ok(before) => Keys::Terminal(Box::new(before)),
            Err(_) => Keys::None,
        };
        let screen = Self { signals, keys };
        if let Keys::Terminal(before) = &screen.keys {
            let mut raw = Termios::clone(before);
            // Signals too: Ctrl-C comes as a key, and Ctrl-Z would leave a terminal that is ours to a shell.
            raw.local_flags
                .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
            tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        }
        put(ENTER)?;
        Ok(screen)
    }

    /// Its size now.
    pub(super) fn size(&self) -> Size {
        let mut size = libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        #[allow(unsafe_code, reason = "as above")]
        // SAFETY: TIOCGWINSZ writes one `winsize` through the pointer, which is to one that lives here; the descriptor
        // is open as long as the process. `gate_operator` runs it on a pseudo-terminal.
        let asked = unsafe { window::window_size(io::stdout().as_raw_fd(), &raw mut size) };
        match asked {
            Ok(_) if size.ws_row > 0 && size.ws_col > 0 => Size {
                columns: size.ws_col.into(),
                lines: size.ws_row.into(),
            },
            _ => USUAL,
        }
    }

    /// Draws lines over what is there, in one write so that nothing flickers.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        // No line end after the last one: it would scroll a full screen.
        put(&format!("{AFRESH}{}", lines.join("\r\n")))
    }

    /// Waits for a key, a signal or the time.
    ///
    /// # Errors
    /// Where the kernel refuses to wait.
    pub(super) fn wait(&mut self, until: Instant) -> io::Result<Told> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let stdin = io::stdin();
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if matches!(self.keys, Keys::Terminal(_)) {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            // Rounded up, or the last millisecond would be spent turning round.
            let limit = PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, limit) {
                Ok(0) if until <= Instant::now() => return Ok(Told::Nothing),
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
            let (signalled, typed) = (ready(0), ready(1));
            if typed && ends() {
                return Ok(Told::End);
            }
            if signalled {
                return self.signal();
            }
        }
    }

    fn signal(&mut self) -> io::Result<Told> {
        let resized = i64::from(Signal::SIGWINCH as i32);
        match self.signals.read_signal()? {
            Some(signal) if i64::from(signal.ssi_signo) == resized => Ok(Told::Redraw),
            _ => Ok(Told::End),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = put(LEAVE);
        if let Keys::Terminal(before) = &self.keys {
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?)
}

/// Whether what was typed ends it; so does a terminal that hung up.
fn ends() -> bool {
    let mut buffer = [0u8; 64];
    match read(io::stdin(), &mut buffer) {
        Ok(0) => true,
        Ok(count) => buffer.iter().take(count).any(|key| END_KEYS.contains(key)),
        Err(nix::Error::EINTR | nix::Error::EAGAIN) => false,
        Err(_) => true,
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
