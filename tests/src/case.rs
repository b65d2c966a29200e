//! One whole-program test: what it needs, its lab, its driver, and the logs where it fails.

use crate::gateway::{Driver, Gateway, Setup, binary};
use crate::lab::{Lab, Ns};
use anyhow::Result;
use std::io::Write;
use std::path::PathBuf;

/// Lines of each log in the report of a failure.
const LOG_LINES: usize = 60;

/// What a case works with.
#[derive(Debug)]
pub struct Case {
    /// Its lab.
    pub lab: Lab,
    /// The driver under test.
    pub driver: Driver,
    /// A namespace for cases that need only loopback: the gateway and all its peers.
    pub ns: Ns,
}

impl Case {
    /// A gateway in the case's namespace, up and listening.
    ///
    /// # Errors
    /// Where it does not come up.
    pub fn gateway(&self, body: &str) -> Result<Gateway> {
        self.setup()?.start(body)
    }

    /// The configuration of a gateway in the case's namespace.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn setup(&self) -> Result<Setup> {
        Setup::new(&self.ns, "gateway", self.driver)
    }

    /// The scratch directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.lab.dir().to_owned()
    }
}

/// Whether a test can run here.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Run,
    /// No, and why.
    Skip(String),
}

/// What every whole-program test needs: root, the peers' programs.
#[must_use]
pub fn can_run() -> Verdict {
    if !nix::unistd::geteuid().is_root() {
        return Verdict::Skip("needs root for network namespaces".to_owned());
    }
    for tool in ["ip", "nginx", "haproxy", "curl", "openssl", "h2load", "timeout"] {
        if !is_installed(tool) {
            return Verdict::Skip(format!("needs `{tool}`, which is not installed"));
        }
    }
    Verdict::Run
}

/// Whether a program is on the path, or where system programs are.
#[must_use]
pub fn is_installed(tool: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|dir| PathBuf::from(dir).join(tool).is_file())
}

/// Says loudly that a test did not run, past the capture of the test harness; fails where `CI` is set.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn skip(name: &str, why: &str) {
    let line = format!("SKIPPED: {name}: {why}\n");
    // The macros' output is captured; a skip must be seen. Without a standard error nobody looks.
    let _nobody = std::io::stderr().write_all(line.as_bytes());
    if std::env::var_os("CI").is_some() {
        panic!("{name} was skipped in CI: {why}");
    }
}

/// Runs a case with one driver, and panics with its error and the logs where it fails.
#[expect(clippy::panic, reason = "this is how a test fails")]
pub fn run(name: &str, driver: Driver, case: fn(&Case) -> Result<()>) {
    if let Verdict::Skip(why) = can_run() {
        return skip(name, &why);
    }
    if let Err(error) = binary() {
        return skip(name, &format!("{error:#}"));
    }
    let lab = Lab::new().and_then(|lab| Ok((lab.namespace("box")?, lab)));
    let (ns, lab) = match lab {
        Ok(made) => made,
        Err(error) => return skip(name, &format!("no network namespaces here: {error:#}")),
    };
    let ready = Case { lab, driver, ns };
    // Caught so that the logs of a failed assertion are shown too, and before the lab is gone.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&ready)));
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!(
            "{name} with {}: {error:#}\n{}",
            driver.word(),
            ready.lab.logs(LOG_LINES)
        ),
        Err(panic) => {
            eprintln!("{}", ready.lab.logs(LOG_LINES));
            std::panic::resume_unwind(panic)
        }
    }
}

/// Makes `name::uring` and `name::epoll` of each function `fn(&Case) -> Result<()>` in scope: the drivers that
/// installations get by themselves.
#[macro_export]
macro_rules! on_both_drivers {
    ($($case:ident),+ $(,)?) => {
        $(mod $case {
            #[test]
            fn uring() {
                $crate::case::run(stringify!($case), $crate::gateway::Driver::Uring, super::$case);
            }

            #[test]
            fn epoll() {
                $crate::case::run(stringify!($case), $crate::gateway::Driver::Epoll, super::$case);
            }
        })+
    };
}

/// Makes these of each, and `name::tokio_uring`: for what is about reading, writing and ending connections.
#[macro_export]
macro_rules! on_every_driver {
    ($($case:ident),+ $(,)?) => {
        $crate::on_both_drivers!($($case),+);

        mod tokio_uring {
            $(#[test]
            fn $case() {
                $crate::case::run(stringify!($case), $crate::gateway::Driver::TokioUring, super::$case);
            })+
        }
    };
}
