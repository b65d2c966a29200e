//! The stage: hosts, networks, certificates, peers, a parent with two children, and one gate. What is done on it is in
//! `acts`.

use anyhow::{Context, Result};
use sallyport_tests::certs::{Authority, Identity, Role};
use sallyport_tests::curl::Curl;
use sallyport_tests::fragments::{certificate, mutual, router, service};
use sallyport_tests::gate::Gate;
use sallyport_tests::gateway::{Driver, Gateway, Setup, binary};
use sallyport_tests::haproxy::{Forward, Haproxy, Speaks};
use sallyport_tests::lab::Lab;
use sallyport_tests::lan::{Host, INTERFACE, Lan};
use sallyport_tests::nginx::{Nginx, Serves};
use sallyport_tests::wait;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The child's interface towards its parents, where the gate sits.
pub(crate) const UPLINK_INTERFACE: &str = INTERFACE;
/// The child's uplink port.
pub(crate) const UPLINK: u16 = 9443;
/// The parent's public port, TLS.
pub(crate) const PUBLIC: u16 = 443;
/// The parent's port for the load balancer.
pub(crate) const PROXIED: u16 = 8080;
/// The load balancer's port.
pub(crate) const BALANCED: u16 = 80;
/// What clients ask the parent for.
pub(crate) const PUBLIC_URL: &str = "https://shop.example/";
/// The second child's server, on its own loopback.
const SECOND_SHOP: u16 = 8080;
/// How long anything may take to come about.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The name in it.
pub(crate) const SHOP: &str = "shop.example";

/// Everything that the demo needs, up and running.
pub(crate) struct Stage {
    pub(crate) client: Host,
    pub(crate) balancer: Host,
    pub(crate) parent_public: Host,
    pub(crate) parent_uplink: Host,
    pub(crate) child_uplink: Host,
    pub(crate) stranger: Host,
    pub(crate) servers: PathBuf,
    pub(crate) parent: Gateway,
    pub(crate) child: Gateway,
    /// The second child's process, while it runs.
    pub(crate) second: Option<Gateway>,
    pub(crate) second_setup: Setup,
    pub(crate) second_body: String,
    pub(crate) gate: Gate,
    pub(crate) trust: Trust,
    _peers: (Nginx, Nginx, Nginx, Haproxy),
    _networks: [Lan; 3],
}

/// Who believes whom.
pub(crate) struct Trust {
    pub(crate) servers: Authority,
    parents: Authority,
    shop: Identity,
    child: Identity,
    pub(crate) parent: Identity,
    /// Signed by the same authority as the parent, and none.
    pub(crate) other: Identity,
}

impl Stage {
    /// Sets it up; returns when a request goes all the way.
    pub(crate) fn set(lab: &Lab) -> Result<Stage> {
        let (mut public, mut uplink, mut inside) = (Lan::new(lab, 1)?, Lan::new(lab, 2)?, Lan::new(lab, 3)?);
        let (client, balancer) = (public.host(lab, "client")?, public.host(lab, "lb")?);
        let (parent_public, child_uplink) = (public.host(lab, "parent")?, uplink.host(lab, "child")?);
        let parent_uplink = uplink.join(&parent_public.ns, "eth1")?;
        let (stranger, second_uplink) = (uplink.host(lab, "stranger")?, uplink.host(lab, "child2")?);
        let (backend, _child_inside) = (
            inside.host(lab, "backend")?,
            inside.join(&child_uplink.ns, "eth1")?,
        );
        let trust = Trust::new(lab)?;

        let shop = Nginx::start(&backend.ns, "shop", 8080, &Serves::Plain)?;
        let admin = Nginx::start(&backend.ns, "admin", 8081, &Serves::Plain)?;
        let setup = Setup::new(&child_uplink.ns, "child", Driver::Auto)?.with_gate(&lab.bpffs()?, "enforce");
        let body = child_body(&trust, &parent_uplink, &backend);
        setup.write(&body)?;
        let gate = Gate::start(&setup).context("the gate did not start")?;
        let child = setup.start(&body).context("the child did not start")?;
        let second_shop = Nginx::start(&second_uplink.ns, "shop-2", SECOND_SHOP, &Serves::Plain)?;
        let second_setup = Setup::new(&second_uplink.ns, "child2", Driver::Auto)?;
        let second_body = second_body(&trust);
        let second = second_setup
            .start(&second_body)
            .context("the second child did not start")?;
        let body = parent_body(&trust, [&child_uplink, &second_uplink], &balancer);
        let parent = Setup::new(&parent_public.ns, "parent", Driver::Auto)?.start(&body);
        let parent = parent.context("the parent did not start")?;
        let to = SocketAddr::new(parent_public.v4.into(), PROXIED);
        let haproxy = Haproxy::start(
            &balancer.ns,
            &[Forward {
                port: BALANCED,
                to,
                speaks: Speaks::V2,
            }],
        )?;

        let stage = Stage {
            client,
            balancer,
            parent_public,
            parent_uplink,
            child_uplink,
            stranger,
            servers: trust.servers.ca_file().to_owned(),
            parent,
            child,
            second: Some(second),
            second_setup,
            second_body,
            gate,
            trust,
            _peers: (shop, admin, second_shop, haproxy),
            _networks: [public, uplink, inside],
        };
        // The parent has to have polled its children once.
        for name in ["shop", "shop-2"] {
            wait::until(SOON, &format!("`{name}` answers"), || {
                let answer = stage.visit().get(PUBLIC_URL)?;
                Ok((answer.field("name").as_deref() == Some(name)).then_some(()))
            })?;
        }
        Ok(stage)
    }

    /// A client's request to the parent's public entry point.
    pub(crate) fn visit(&self) -> Curl {
        Curl::new(&self.client.ns)
            .trust(&self.servers)
            .via(SocketAddr::new(self.parent_public.v4.into(), PUBLIC))
    }

    /// The child's uplink address.
    pub(crate) fn uplink_at(&self) -> SocketAddr {
        SocketAddr::new(self.child_uplink.v4.into(), UPLINK)
    }

    /// What a user may try while the lab is kept, and how.
    pub(crate) fn commands(&self) -> Vec<(&'static str, String)> {
        let enter = |host: &Host| format!("nsenter --net=/run/netns/{}", host.ns.name());
        let (ca, at) = (self.servers.display(), self.parent_public.v4);
        let program = binary()
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let (parent, child) = (self.parent.setup().file(), self.child.setup().file());
        let ask = format!("curl --cacert {ca} --connect-to ::{at}:{PUBLIC} https://{SHOP}/");
        vec![
            (
                "client to backend, all the way",
                format!("{} {ask}", enter(&self.client)),
            ),
            (
                "through haproxy",
                format!(
                    "{} curl http://{}:{BALANCED}/",
                    enter(&self.client),
                    self.balancer.v4
                ),
            ),
            (
                "the stranger, who gets no answer",
                format!(
                    "{} curl -k --connect-timeout 3 https://{}/",
                    enter(&self.stranger),
                    self.uplink_at()
                ),
            ),
            (
                "the parent's state",
                format!("{program} status --config {}", parent.display()),
            ),
            (
                "the gate's state and counters",
                format!("{program} gate status --config {}", child.display()),
            ),
        ]
    }
}

impl Trust {
    fn new(lab: &Lab) -> Result<Trust> {
        let (servers, parents) = (
            Authority::new(lab.dir(), "servers")?,
            Authority::new(lab.dir(), "parents")?,
        );
        Ok(Trust {
            shop: servers.issue(Role::Server, &[SHOP])?,
            child: servers.issue(Role::Server, &["child.example"])?,
            parent: parents.issue(Role::Client, &["parent.example"])?,
            other: parents.issue(Role::Client, &["other.example"])?,
            servers,
            parents,
        })
    }
}

fn child_body(trust: &Trust, parent: &Host, backend: &Host) -> String {
    let url = |port: u16| format!("http://{}:{port}", backend.v4);
    format!(
        "[allowlists.parents]\nsources = [\"{}/32\", \"{}/128\"]\n\
         [uplink_entry_points.uplinks]\naddress = \":{UPLINK}\"\nas_default = true\n\
         tls = {{ options = \"uplink\" }}\n\
         gate = {{ interfaces = [\"{UPLINK_INTERFACE}\"], allow = [\"parents\"], required = true }}\n\
         [uplinks.shop]\nparents = [\"parent.example\"]\n[uplinks.admin]\nparents = [\"parent.example\"]\n\
         [routers.shop]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"shop\"]\nservice = \"shop\"\n\
         [routers.admin]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"admin\"]\nservice = \"admin\"\n{}{}{}{}",
        parent.v4,
        parent.v6,
        service("shop", &[&url(8080)], ""),
        service("admin", &[&url(8081)], ""),
        certificate(&trust.child),
        mutual("uplink", trust.parents.ca_file(), ""),
    )
}

/// The second child: the same uplink, a server of its own, judged by its parents.
fn second_body(trust: &Trust) -> String {
    format!(
        "[uplink_entry_points.uplinks]\naddress = \":{UPLINK}\"\ntls = {{ options = \"uplink\" }}\n\
         [uplinks.shop]\nparents = [\"parent.example\"]\n\
         health_check = {{ path = \"/\", interval = \"500ms\", timeout = \"500ms\", fall = 1, rise = 1 }}\n\
         [routers.shop]\nrule = \"PathPrefix(`/`)\"\nuplinks = [\"shop\"]\nservice = \"shop\"\n{}{}{}",
        service("shop", &[&format!("http://127.0.0.1:{SECOND_SHOP}")], ""),
        certificate(&trust.child),
        mutual("uplink", trust.parents.ca_file(), ""),
    )
}

fn parent_body(trust: &Trust, children: [&Host; 2], balancer: &Host) -> String {
    let [first, second] = children;
    format!(
        "[entry_points.public]\naddress = \":{PUBLIC}\"\nas_default = true\ntls = {{}}\n\
         [entry_points.proxied]\naddress = \":{PROXIED}\"\nas_default = true\n\
         proxy_protocol = {{ trusted_ips = [\"{}/32\"] }}\n\
         {}{}\
         [servers_transports.children]\nserver_name = \"child.example\"\nroot_cas = [\"{}\"]\ncertificates = [{}]\n\
         [multicluster]\npoll_interval = \"1s\"\n\
         [multicluster.children.c1]\naddress = \"https://{}:{UPLINK}\"\nservers_transport = \"children\"\n\
         [multicluster.children.c2]\naddress = \"https://{}:{UPLINK}\"\nservers_transport = \"children\"\n",
        balancer.v4,
        router("shop", "PathPrefix(`/`)", "shop@multicluster", ""),
        certificate(&trust.shop),
        trust.servers.ca_file().display(),
        trust.parent.toml(),
        first.v4,
        second.v4,
    )
}
