//! Pieces of configuration that many cases share: one entry point, one route to everything.

use crate::certs::Identity;
use std::net::SocketAddr;
use std::path::Path;

/// Port of the gateway's entry point in cases that have one.
pub const PORT: u16 = 8000;
/// Port of the backend in cases that have one.
pub const BACKEND: u16 = 9000;

/// 127.0.0.1 at `port`.
#[must_use]
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Entry point `web` at 127.0.0.1:[`PORT`], the default one, with more keys.
#[must_use]
pub fn entry_point(keys: &str) -> String {
    format!("[entry_points.web]\naddress = \"127.0.0.1:{PORT}\"\nas_default = true\n{keys}\n")
}

/// Router `all`, which sends everything to service `backend` at `url`.
#[must_use]
pub fn route_all(url: &str) -> String {
    format!(
        "[routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"backend\"\n{}",
        service("backend", &[url], "")
    )
}

/// A service with servers and more keys.
#[must_use]
pub fn service(name: &str, urls: &[&str], keys: &str) -> String {
    let servers: Vec<String> = urls.iter().map(|url| format!("{{ url = \"{url}\" }}")).collect();
    format!("[services.{name}]\nservers = [{}]\n{keys}\n", servers.join(", "))
}

/// A router with more keys.
#[must_use]
pub fn router(name: &str, rule: &str, service: &str, keys: &str) -> String {
    format!("[routers.{name}]\nrule = \"{rule}\"\nservice = \"{service}\"\n{keys}\n")
}

/// The URL of the backend at 127.0.0.1:[`BACKEND`].
#[must_use]
pub fn backend_url() -> String {
    format!("http://127.0.0.1:{BACKEND}")
}

/// The usual case: [`entry_point`] with `keys`, all to [`backend_url`].
#[must_use]
pub fn plain(keys: &str) -> String {
    entry_point(keys) + &route_all(&backend_url())
}

/// A certificate chosen by name.
#[must_use]
pub fn certificate(identity: &Identity) -> String {
    let (cert, key) = (identity.cert.display(), identity.key.display());
    format!("[[tls.certificates]]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n")
}

/// TLS options that demand a certificate of `ca`, with more keys inside `client_auth`.
#[must_use]
pub fn mutual(name: &str, ca: &Path, keys: &str) -> String {
    let ca = ca.display();
    format!(
        "[tls.options.{name}]\nclient_auth = {{ type = \"RequireAndVerifyClientCert\", ca_files = [\"{ca}\"]{keys} }}\n"
    )
}

/// A service of servers at 127.0.0.1 and these ports, with more keys.
#[must_use]
pub fn service_at(name: &str, ports: &[u16], keys: &str) -> String {
    let urls: Vec<String> = ports
        .iter()
        .map(|port| format!("http://127.0.0.1:{port}"))
        .collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    service(name, &urls, keys)
}

/// [`entry_point`] and a router that sends everything to service `s`.
#[must_use]
pub fn all_to_s() -> String {
    entry_point("") + &router("all", "PathPrefix(`/`)", "s", "")
}
