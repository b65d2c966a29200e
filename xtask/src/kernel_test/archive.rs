//! A cpio archive in the format `newc` (`Documentation/driver-api/early-userspace/buffer-format.rst` of Linux), as the
//! kernel unpacks it. Written here because device nodes need root to exist as files, and only a name in an archive.
//!
//! It writes into memory and reads no file.

/// The archive so far.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// File types of `stat(2)`.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    /// Adds a folder; its parent must have been added before.
    pub(super) fn folder(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a file that may be run.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, REGULAR | 0o755, (0, 0), content);
    }

    /// Adds a character device by its numbers.
    pub(super) fn device(&mut self, path: &str, numbers: (u32, u32)) {
        self.entry(path, CHARACTER | 0o600, numbers, &[]);
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("no file of the guest has 4 GiB");
        let name = u32::try_from(path.len() + 1).expect("paths are written in this program");
        // Number, mode, owner, group, links, time, size, device of the archive, device, length of the name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Header and content each begin at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_laid_out_as_the_kernel_reads_them() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.device("dev/console", (5, 1));
        archive.file("init", b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let starts: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 4);
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        let field = |entry: usize, number: usize| {
            let from = starts[entry] + 6 + number * 8;
            u32::from_str_radix(&text[from..from + 8], 16).expect("a number")
        };
        assert_eq!((field(0, 1), field(0, 11)), (0o040_755, 4));
        assert_eq!((field(1, 1), field(1, 9), field(1, 10)), (0o020_600, 5, 1));
        assert_eq!((field(2, 1), field(2, 6)), (0o100_755, 5));
        assert!(
            text.contains("init\0\0hello\0\0\0") || text.contains("init\0hello"),
            "{text:?}"
        );
        assert!(text.contains("TRAILER!!!\0"));
    }
}
