//! Every repeated job of the project, one file a verb: `cargo xtask VERB`.
//!
//! This file only reads the command line. It must not do any of the jobs, and the crate keeps to the
//! standard library and `anyhow`, because everybody waits for it to compile first.

mod bench;
mod ci;
mod demo;
mod deny;
mod dist;
mod docs;
mod ebpf;
mod fuzz;
mod kernel_test;
mod layers;
mod limits;
mod setup;
mod source;
mod tasks;
mod test;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask VERB

  setup [--minimal]     install what is missing to build, test and package (--minimal: what the demo needs)
  demo [--keep]         show the whole gateway at work in network namespaces (root)
  test [FILTER]         all tests; the last line says how many passed, failed and were skipped
  ci                    what a change must pass: format, clippy, limits, layers, deny, ebpf, tests, docs
  ebpf [--check|--debug]
                        build the BPF object and refresh ebpf/prebuilt (--check: fail if it is stale;
                        --debug: build the one that logs what passes, and print its path)
  kernel-test [SERIES…] the committed BPF programs on Debian's kernels 6.1 and 6.12 in qemu and on this one,
                        recorded in ebpf/prebuilt/verified-instructions.txt
  layers                check the rules about who may import whom
  limits                check the lengths of functions and files
  deny                  check licences and doubled dependencies against deny.toml
  docs                  build the documentation, warnings denied
  dist [deb|rpm] [--check] [--profile NAME]
                        packages under target/dist (--check: and judge the deb)
  fuzz gate [--packets N] [--seed S] [--threads N]
                        the gate's programs beside their oracle on generated packets (root)
  bench [--requests N] [--rounds N]
                        CPU per request beside nginx
  bench tls [--quick] [--rounds N]
                        CPU of handshakes and requests over TLS and memory of idle connections beside nginx and
                        HAProxy (root)
  bench gate [--quick] [--part LETTERS]
                        cost of the gate beside its bars (root; A: programs, B: live frames beside nft and
                        xdp-filter, C: handshakes under flood, D: swap of a big policy)
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Walks from the words of the command line to the verb; 64 is the exit code for bad usage.
fn dispatch(words: &[&str]) -> Result<ExitCode> {
    let Some((verb, rest)) = words.split_first() else {
        eprint!("{USAGE}");
        return Ok(ExitCode::from(64));
    };
    match (*verb, rest) {
        ("setup", []) => setup::run(setup::Scope::Everything)?,
        ("setup", ["--minimal"]) => setup::run(setup::Scope::Minimal)?,
        ("demo", []) => demo::run(demo::Afterwards::CleanUp)?,
        ("demo", ["--keep"]) => demo::run(demo::Afterwards::Keep)?,
        ("test", []) => test::run(None, test::Skips::from_env())?,
        ("test", [filter]) if !filter.starts_with('-') => test::run(Some(filter), test::Skips::from_env())?,
        ("ci", []) => ci::run()?,
        ("ebpf", []) => ebpf::run(ebpf::Mode::Build)?,
        ("ebpf", ["--check"]) => ebpf::run(ebpf::Mode::Check)?,
        ("ebpf", ["--debug"]) => ebpf::run(ebpf::Mode::Debug)?,
        ("kernel-test", series) => kernel_test::run(&kernel_test::Options::parse(series)?)?,
        ("layers", []) => layers::run()?,
        ("limits", []) => limits::run()?,
        ("deny", []) => deny::run()?,
        ("docs", []) => docs::run()?,
        ("dist", options) => dist::run(&dist::Options::parse(options)?)?,
        ("bench", ["tls", options @ ..]) => bench::tls::run(&bench::tls::Options::parse(options)?)?,
        ("bench", ["gate", options @ ..]) => bench::gate::run(&bench::gate::Options::parse(options)?)?,
        ("fuzz", ["gate", options @ ..]) => fuzz::gate(&fuzz::Options::parse(options)?)?,
        ("bench", options) => bench::run(&bench::Options::parse(options)?)?,
        ("help" | "-h" | "--help", _) => print!("{USAGE}"),
        _ => {
            eprint!(
                "xtask: `{}` is not a verb with these arguments\n\n{USAGE}",
                words.join(" ")
            );
            return Ok(ExitCode::from(64));
        }
    }
    Ok(ExitCode::SUCCESS)
}
