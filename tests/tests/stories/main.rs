//! What users told of their gateways, done with this one: each story's own set-up, translated, and each mistake in it.
//!
//! The configurations are the examples of the project as they stand; only the directory of the keys is another.

mod securing_services_with_mutual_tls;
mod the_end_to_end_tls_flow;
mod the_proxy_protocol_behind_a_load_balancer;
mod upstream_tls_with_validation;

use anyhow::{Context, Result};
use sallyport_tests::case::Case;
use sallyport_tests::certs::Identity;
use std::path::{Path, PathBuf};

/// Where the examples keep certificates and keys.
const KEYS: &str = "/etc/sallyport/tls/";

/// An example's files.
struct Story {
    keys: PathBuf,
}

impl Story {
    fn new(case: &Case) -> Result<Story> {
        let keys = case.ns.fresh("tls", "d");
        std::fs::create_dir(&keys)?;
        Ok(Story { keys })
    }

    /// The example, with this story's directory in place of the installed one.
    fn body(&self, example: &str) -> String {
        example.replace(KEYS, &format!("{}/", self.keys.display()))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.keys.join(name)
    }

    /// Puts a file where the example expects it, in one step as a careful operator does.
    fn put(&self, name: &str, from: &Path) -> Result<()> {
        let fresh = self.file(&format!("{name}.new"));
        std::fs::copy(from, &fresh).with_context(|| format!("cannot copy `{}`", from.display()))?;
        Ok(std::fs::rename(&fresh, self.file(name))?)
    }

    /// Puts a certificate and its key where the example expects them.
    fn put_pair(&self, stem: &str, identity: &Identity) -> Result<()> {
        self.put(&format!("{stem}.pem"), &identity.cert)?;
        self.put(&format!("{stem}.key"), &identity.key)
    }
}
