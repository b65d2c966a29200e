//! Parents and their children: authorities, identities, and the configurations that make a gateway one or the other.

use crate::certs::{Authority, Identity, Role};
use crate::fragments::{certificate, entry_point, mutual, router, service};
use anyhow::Result;
use std::net::SocketAddr;
use std::path::Path;

/// What a child is called in its certificate.
pub const CHILD: &str = "child.example";
/// What a parent is called in its certificate.
pub const PARENT: &str = "parent.example";

/// Who is believed by whom.
#[derive(Debug)]
pub struct Family {
    /// Signs children.
    pub servers: Authority,
    /// Signs parents.
    pub parents: Authority,
    /// A child's identity.
    pub child: Identity,
    /// A parent's.
    pub parent: Identity,
}

impl Family {
    /// New authorities and identities under `dir`.
    ///
    /// # Errors
    /// Where generating or writing fails.
    pub fn new(dir: &Path) -> Result<Family> {
        let (servers, parents) = (Authority::new(dir, "servers")?, Authority::new(dir, "parents")?);
        Ok(Family {
            child: servers.issue(Role::Server, &[CHILD])?,
            parent: parents.issue(Role::Client, &[PARENT])?,
            servers,
            parents,
        })
    }

    /// A child at `address` with these uplinks (name and more keys), each to the server at `backend`.
    #[must_use]
    pub fn child_body(&self, address: &str, uplinks: &[(&str, &str)], backend: &str) -> String {
        let mut body = format!(
            "[uplink_entry_points.up]\naddress = \"{address}\"\nas_default = true\ntls = {{ options = \"uplink\" }}\n{}{}{}",
            service("backend", &[backend], ""),
            certificate(&self.child),
            mutual("uplink", self.parents.ca_file(), ""),
        );
        for (name, keys) in uplinks {
            let rule = format!("uplinks = [\"{name}\"]");
            body += &format!("[uplinks.{name}]\n{keys}\n");
            body += &router(name, "PathPrefix(`/`)", "backend", &rule);
        }
        body
    }

    /// A servers transport `children` that believes the children's authority and shows the parent's certificate.
    #[must_use]
    pub fn transport(&self, keys: &str) -> String {
        format!(
            "[servers_transports.children]\nserver_name = \"{CHILD}\"\nroot_cas = [\"{}\"]\ncertificates = [{}]\n{keys}\n",
            self.servers.ca_file().display(),
            self.parent.toml(),
        )
    }

    /// A parent that sends everything to `to`, with these keys of `[multicluster]` and these children.
    #[must_use]
    pub fn parent_body(&self, to: &str, keys: &str, children: &[(&str, SocketAddr)]) -> String {
        let mut body = entry_point("") + &router("all", "PathPrefix(`/`)", to, "") + &multicluster(keys);
        body += &self.transport("");
        for (name, at) in children {
            body += &child(name, &format!("https://{at}"), "servers_transport = \"children\"");
        }
        body
    }
}

/// `[multicluster]` with these keys.
#[must_use]
pub fn multicluster(keys: &str) -> String {
    format!("[multicluster]\n{keys}\n")
}

/// A child of a parent, with more keys.
#[must_use]
pub fn child(name: &str, url: &str, keys: &str) -> String {
    format!("[multicluster.children.{name}]\naddress = \"{url}\"\n{keys}\n")
}

/// What a child says that offers these uplinks with these weights.
#[must_use]
pub fn offers(uplinks: &[(&str, u32)]) -> String {
    let uplinks: Vec<String> = uplinks
        .iter()
        .map(|(name, weight)| format!("{{\"name\":\"{name}\",\"weight\":{weight}}}"))
        .collect();
    format!("{{\"version\":1,\"uplinks\":[{}]}}", uplinks.join(","))
}
