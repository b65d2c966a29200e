//! The guest's file system: busybox, the tools that it lacks, what is under test, the libraries of all of them, the
//! modules, and `init.sh` as the first process.
//!
//! It chooses files and packs them; what they do in the guest is said in `init.sh`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernel_test::archive::Archive;
use crate::kernel_test::image::Image;
use crate::tasks;

/// How many packets a test that makes up its own runs there, where a packet takes a hundred times as long.
pub(super) const FUZZ_PACKETS: (&str, &str) = ("SALLYPORT_FUZZ_PACKETS", "2000");

/// Modules in the order in which they are loaded.
const MODULES: [&str; 4] = ["veth", "tun", "sch_ingress", "cls_bpf"];

/// The kept vectors.
const CORPUS: &str = "proxy/tests/gate_packets/corpus";

const INIT: &str = include_str!("init.sh");
const CONFIG: &str = include_str!("gate.toml");

/// Writes the archive into the image's folder and returns where it is.
///
/// # Errors
/// A tool, library or module that is not there.
pub(super) fn build(image: &Image, packets: &Path, sallyport: &Path) -> Result<PathBuf> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for (folder, name) in [("bin", "busybox"), ("tools", "ip"), ("tools", "setpriv")] {
        let tool = tasks::find_tool(name).with_context(|| format!("`{name}` is not there"))?;
        files.push((format!("{folder}/{name}"), tool));
    }
    for (name, program) in [("gate_packets", packets), ("sallyport", sallyport)] {
        files.push((
            format!("bin/{name}"),
            stripped(program, &image.folder.join(name))?,
        ));
    }
    let libraries = libraries(files.iter().map(|(_, file)| file))?;
    files.extend(libraries.into_iter().map(|path| {
        let inside = path.to_string_lossy().trim_start_matches('/').to_owned();
        (inside, path)
    }));
    for module in MODULES {
        let file = image.module(module)?;
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        files.push((format!("modules/{name}"), file));
    }
    // Where the test program looks for them: at the path that they had when it was built.
    for vector in tasks::files_under(&tasks::root().join(CORPUS), ".txt")? {
        files.push((
            vector.to_string_lossy().trim_start_matches('/').to_owned(),
            vector,
        ));
    }
    let archive = image.folder.join("initramfs.cpio");
    fs::write(&archive, packed(&files)?).with_context(|| format!("cannot write `{}`", archive.display()))?;
    Ok(archive)
}

fn packed(files: &[(String, PathBuf)]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let fixed = ["dev", "etc", "proc", "run", "sys", "tmp", "var", "var/run"].map(str::to_owned);
    let parents = files.iter().flat_map(|(inside, _)| folders_above(inside));
    let folders: BTreeSet<String> = fixed.into_iter().chain(parents).collect();
    for folder in &folders {
        archive.folder(folder);
    }
    // Without it the first process has no standard streams.
    archive.device("dev/console", (5, 1));
    for (inside, file) in files {
        let content = fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))?;
        archive.file(inside, &content);
    }
    let init = INIT.replace("@FUZZ@", &format!("{}={}", FUZZ_PACKETS.0, FUZZ_PACKETS.1));
    archive.file("init", init.as_bytes());
    archive.file("gate.toml", CONFIG.as_bytes());
    archive.file("modules.order", (MODULES.join("\n") + "\n").as_bytes());
    Ok(archive.finish())
}

/// `a/b` and `a` for `a/b/c`.
fn folders_above(path: &str) -> Vec<String> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    ends.filter_map(|end| path.get(..end))
        .map(str::to_owned)
        .collect()
}

/// A copy without debug information, which would be most of what the guest unpacks.
fn stripped(program: &Path, copy: &Path) -> Result<PathBuf> {
    let strip = tasks::find_tool("strip").context("`strip` is not there")?;
    tasks::capture(Command::new(strip).arg("-o").arg(copy).arg(program))?;
    Ok(copy.to_owned())
}

/// The shared libraries and the loader of all programs, by the paths under which the loader looks for them.
fn libraries<'a>(programs: impl Iterator<Item = &'a PathBuf>) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for program in programs {
        // A static program is no error, and `ldd` ends with 1 for it.
        let output = Command::new("ldd")
            .arg(program)
            .output()
            .context("`ldd` does not start")?;
        found.extend(paths_of(&String::from_utf8_lossy(&output.stdout)));
    }
    Ok(found)
}

/// The paths in what `ldd` prints: `name => /path (0x..)` and `/path (0x..)`.
fn paths_of(listing: &str) -> Vec<PathBuf> {
    let words = listing
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::{CONFIG, INIT, folders_above, paths_of};
    use std::path::PathBuf;

    #[test]
    fn libraries_and_loader_are_read_from_what_ldd_prints() {
        let listing = "\tlinux-vdso.so.1 (0x00007f)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths_of(listing), expected);
        assert_eq!(paths_of("\tnot a dynamic executable\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn folders_come_before_what_lies_in_them() {
        assert_eq!(folders_above("lib/x/y.so"), ["lib", "lib/x"]);
        assert!(folders_above("init").is_empty());
    }

    #[test]
    fn the_guest_fills_in_all_that_its_configuration_leaves_open() {
        let open: Vec<&str> = CONFIG
            .split('@')
            .skip(1)
            .step_by(2)
            .filter(|word| word.chars().all(|c| c.is_ascii_uppercase()))
            .collect();
        assert!(open.len() >= 4, "{open:?}");
        for word in open {
            assert!(INIT.contains(&format!("s,@{word}@,")), "{word}");
        }
        assert!(INIT.contains("@FUZZ@"));
    }
}
