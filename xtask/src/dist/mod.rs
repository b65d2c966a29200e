//! `cargo xtask dist`: a deb and an rpm under `target/dist/`, from the release binary and `packaging/`.
//!
//! Both are made of one staged tree, so they cannot differ in what they hold. Building them changes nothing on the
//! machine; `--check` installs the deb only when it is told to.

mod check;
mod deb;
mod rpm;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::dist::stage::Stage;
use crate::guided;
use crate::tasks;

/// Which packages to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Deb,
    Rpm,
}

/// Whether the deb is judged after it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Judging {
    Skip,
    Check,
}

/// What the command line asks for.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Options {
    formats: Vec<Format>,
    judging: Judging,
    program: Program,
}

/// How the program is built that goes into the packages.
#[derive(PartialEq, Eq, Debug)]
enum Program {
    /// The release, by a profile of itself at work.
    Guided,
    /// The release.
    Plain,
    /// Another profile of cargo's.
    Profile(String),
}

impl Options {
    /// Reads the words after `dist`.
    ///
    /// # Errors
    /// Names the first word that it does not know.
    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let mut options = Self {
            formats: Vec::new(),
            judging: Judging::Skip,
            program: Program::Guided,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "deb" => options.formats.push(Format::Deb),
                "rpm" => options.formats.push(Format::Rpm),
                "--check" => options.judging = Judging::Check,
                "--plain" => options.program = Program::Plain,
                "--profile" => {
                    let name = *words.next().context("`--profile` lacks its name")?;
                    options.program = Program::Profile(name.to_owned());
                }
                other => bail!(
                    "`{other}` is no option of `dist`; expected deb, rpm, --check, --plain or --profile NAME"
                ),
            }
        }
        if options.formats.is_empty() {
            options.formats = vec![Format::Deb, Format::Rpm];
        }
        if options.judging == Judging::Check && !options.formats.contains(&Format::Deb) {
            bail!("`--check` judges the deb, which is not among what is built");
        }
        Ok(options)
    }
}

/// Builds the packages, and judges the deb where that is asked for.
///
/// # Errors
/// A tool is missing, a build fails, or the check finds something.
pub(crate) fn run(options: &Options) -> Result<()> {
    let binary = options.program.build()?;
    let folder = tasks::target_dir()?.join("dist");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let stage = Stage::lay_out(&folder.join("stage"), &binary)?;
    let mut package = None;
    for format in &options.formats {
        match format {
            Format::Deb => package = Some(deb::build(&stage, &folder)?),
            Format::Rpm => report(&rpm::build(&stage, &folder)?)?,
        }
    }
    if let Some(deb) = &package {
        report(deb)?;
        if options.judging == Judging::Check {
            check::run(deb, &stage)?;
        }
    }
    Ok(())
}

impl Program {
    /// Builds it and says where it is.
    fn build(&self) -> Result<PathBuf> {
        let profile = match self {
            Self::Guided => return guided::build(),
            Self::Plain => return guided::plain(),
            Self::Profile(name) => name,
        };
        tasks::run(tasks::cargo().args(["build", "--locked", "-p", "sallyport", "--profile", profile]))?;
        Ok(tasks::target_dir()?
            .join(profile_folder(profile))
            .join("sallyport"))
    }
}

/// Cargo puts the profile `dev` into the folder `debug`, and every other one into a folder of its name.
fn profile_folder(profile: &str) -> PathBuf {
    PathBuf::from(if profile == "dev" { "debug" } else { profile })
}

fn report(package: &Path) -> Result<()> {
    let size = fs::metadata(package)
        .with_context(|| format!("`{}` was not made", package.display()))?
        .len();
    println!("dist: {} ({} KiB)", package.display(), size / 1024);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Format, Options, Program};

    #[test]
    fn both_packages_are_made_unless_one_is_named() {
        let formats = |words: &[&str]| Options::parse(words).expect("these words are right").formats;
        assert_eq!(formats(&[]), [Format::Deb, Format::Rpm]);
        assert_eq!(formats(&["rpm"]), [Format::Rpm]);
        assert_eq!(
            formats(&["--profile", "test-release", "deb", "--check"]),
            [Format::Deb]
        );
        let program = |words: &[&str]| Options::parse(words).expect("these words are right").program;
        assert_eq!(program(&[]), Program::Guided);
        assert_eq!(program(&["--plain"]), Program::Plain);
        let other = Program::Profile("dev".to_owned());
        assert_eq!(program(&["--profile", "dev"]), other);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [&["--chekc"][..], &["--profile"], &["rpm", "--check"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}
