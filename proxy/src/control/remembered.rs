//! The policy that gate and accept agreed on last, in a file of the state directory: a proxy that starts while another
//! one is on trial must know what counts after it.
//!
//! It is written as a configuration of nothing but the gate's tables, and believed only where its digest is the one
//! that the gate names.

use super::admitting::Judged;
use crate::{
    fault::with_causes,
    gate::{
        lists::Lists,
        policy::{Allowlists, Digest, prefixes},
    },
};
use sallyport_config::{
    Source,
    model::{Config, EntryPoint, EntryPointGate, ListenAddress},
    spelled::Spelled,
};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    rc::Rc,
};

/// The file's name.
const NAME: &str = "gate-policy.toml";

/// The policy of a digest, where it is the one that was remembered.
pub(super) fn recall(state_dir: &Path, wanted: Digest) -> Option<Judged> {
    let path = state_dir.join(NAME);
    let text = fs::read_to_string(&path).ok()?;
    let source = Source {
        name: path.display().to_string(),
        text,
    };
    let config = sallyport_config::parse(&[source]).ok()?;
    let judged = Judged::new(Rc::new(config), Lists::default());
    (judged.digest() == wanted).then_some(judged)
}

/// Remembers a policy. Where the state directory cannot be written, a proxy that starts within a trial goes by its
/// files, as `status` says.
pub(super) fn remember(state_dir: &Path, config: &Config, lists: &Allowlists) {
    let text = render(config, lists);
    if let Err(error) = replace(&state_dir.join(NAME), &text) {
        tracing::debug!(
            error = with_causes(&error),
            "the policy that gate and accept agree on cannot be remembered"
        );
    }
}

/// Writes `text` where it is not there yet, in one step and for this user alone.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut next = PathBuf::from(path);
    next.set_extension("next");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&next, path)
}

fn render(config: &Config, lists: &Allowlists) -> String {
    let gate = &config.gate;
    let (mode, fragments) = (gate.mode.word(), gate.later_fragments.word());
    let destinations = gate.destinations.word();
    let failsafe = array(&gate.failsafe);
    let mut text = format!(
        "# Written by sallyport: what the gate and the check at accept agreed on last.\n[gate]\nmode = \"{mode}\"\nlater_fragments = \"{fragments}\"\ndestinations = \"{destinations}\"\nfailsafe = {failsafe}\n"
    );
    let gated = config
        .entry_points
        .values()
        .filter_map(|entry| Some((entry, entry.gate.as_ref()?)));
    for (number, (entry, gate)) in gated.enumerate() {
        text += &table(number, entry, gate, lists);
    }
    text
}

fn table(number: usize, entry: &EntryPoint, gate: &EntryPointGate, lists: &Allowlists) -> String {
    let address = match entry.address {
        ListenAddress::AnyAddress(port) => format!(":{port}"),
        ListenAddress::Exact(address) => SocketAddr::to_string(&address),
    };
    let interfaces = match gate.interfaces.as_slice() {
        [] => String::new(),
        some => format!(", interfaces = {}", array(some)),
    };
    let allow = array(&prefixes(&gate.allow, lists));
    let ports = match gate.ports.as_slice() {
        [] => String::new(),
        ports => format!(", ports = {ports:?}"),
    };
    format!(
        "[entry_points.e{number}]\naddress = \"{address}\"\ngate = {{ allow = {allow}{interfaces}{ports} }}\n"
    )
}

/// An array of strings; what JSON escapes, TOML reads alike.
fn array(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    serde_json::Value::from(items).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::policy::digest;

    fn parsed(text: &str) -> Config {
        sallyport_config::parse(&[Source {
            name: "t".to_owned(),
            text: text.to_owned(),
        }])
        .expect("a valid configuration")
    }

    #[test]
    fn what_is_remembered_is_the_same_policy() {
        let texts = [
            "[entry_points.a]\naddress = \":443\"\ngate = { interfaces = [\"eth0\", \"wg0.1\"], allow = [\"office\"], ports = [443, 8443] }\n[entry_points.b]\naddress = \"[::1]:80\"\ngate = { allow = [\"everyone\"] }\n[entry_points.c]\naddress = \"192.0.2.1:81\"\n[allowlists.office]\nsources = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n[gate]\nmode = \"observe\"\nlater_fragments = \"strict\"\ndestinations = \"any\"\nfailsafe = [\"192.0.2.9/32\"]\n",
            "",
        ];
        for text in texts {
            let config = parsed(text);
            let lists = Lists::load(&config, Path::new("/"), None)
                .expect("no files")
                .allowlists();
            let again = parsed(&render(&config, &lists));
            assert_eq!(
                digest(&again, &Allowlists::default()),
                digest(&config, &lists),
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_that_is_not_the_wanted_policy_is_not_believed() {
        let dir = std::env::temp_dir().join(format!("sp-remembered-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let config = parsed("[entry_points.a]\naddress = \":443\"\ngate = { allow = [\"10.0.0.0/8\"] }\n");
        let lists = Allowlists::default();
        let wanted = digest(&config, &lists);
        assert!(recall(&dir, wanted).is_none(), "nothing is there");
        remember(&dir, &config, &lists);
        assert_eq!(recall(&dir, wanted).map(|judged| judged.digest()), Some(wanted));
        let other = digest(&parsed(""), &lists);
        assert!(recall(&dir, other).is_none(), "another policy");
        fs::write(dir.join(NAME), "[gate").expect("a file");
        assert!(recall(&dir, wanted).is_none(), "garbage");
        fs::remove_dir_all(&dir).expect("the directory");
    }
}
