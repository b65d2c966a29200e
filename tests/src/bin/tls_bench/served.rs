//! What the proxies serve: TLS for everybody on the first port, for those with a certificate on the second.

use anyhow::Result;
use sallyport_tests::bench::subjects::{ORIGIN, Served, Setting};
use sallyport_tests::certs::{Authority, Identity, Role, Validity};
use sallyport_tests::lab::Lab;

/// The name that every proxy has a certificate for.
pub(crate) const HOST: &str = "bench.example";

/// Where all run, and everybody's certificates.
pub(crate) struct Bench {
    /// The namespace and the origin.
    pub(crate) setting: Setting,
    /// The certificates.
    pub(crate) papers: Papers,
}

/// Everybody's certificates.
pub(crate) struct Papers {
    /// The CA of the proxies.
    pub(crate) ca: Authority,
    /// The clients' certificate.
    pub(crate) client: Identity,
    server: Identity,
    clients_ca: Authority,
}

impl Bench {
    /// Starts the origin and issues the certificates.
    ///
    /// # Errors
    /// Where the origin does not come up.
    pub(crate) fn new(lab: &Lab) -> Result<Bench> {
        let ca = Authority::new(lab.dir(), "ca")?;
        let clients_ca = Authority::new(lab.dir(), "clients")?;
        let papers = Papers {
            server: ca.issue_with(Role::Server, Validity::AsPublic, &[HOST, "127.0.0.1"])?,
            client: clients_ca.issue(Role::Client, &["client.example"])?,
            ca,
            clients_ca,
        };
        let setting = Setting::new(lab, "location / { return 200 'hello, world\\n'; }")?;
        Ok(Bench { setting, papers })
    }
}

impl Served for Papers {
    fn nginx(&self, [open, mutual]: [u16; 2]) -> String {
        let (cert, key) = (self.server.cert.display(), self.server.key.display());
        let server = |port: u16, keys: &str| {
            format!(
                "server {{\nlisten 127.0.0.1:{port} ssl http2;\nssl_certificate {cert}; ssl_certificate_key {key};\n\
                 ssl_protocols TLSv1.2 TLSv1.3; ssl_session_tickets on;\n{keys}\n\
                 location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection '';\n\
                 proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}\n}}\n"
            )
        };
        let demand = format!(
            "ssl_verify_client on; ssl_client_certificate {};",
            self.clients_ca.ca_file().display()
        );
        format!(
            "upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 256; keepalive_requests 1000000000; }}\n{}{}",
            server(open, ""),
            server(mutual, &demand)
        )
    }

    fn haproxy(&self, [open, mutual]: [u16; 2]) -> String {
        let bind = |port: u16, words: &str| {
            format!(
                "  bind 127.0.0.1:{port} ssl crt {} alpn h2,http/1.1 ssl-min-ver TLSv1.2 {words}\n",
                self.server.both.display()
            )
        };
        format!(
            "frontend f\n{}{}  default_backend b\nbackend b\n  server origin 127.0.0.1:{ORIGIN} pool-max-conn 256\n",
            bind(open, ""),
            bind(
                mutual,
                &format!("ca-file {} verify required", self.clients_ca.ca_file().display())
            ),
        )
    }

    fn sallyport(&self, [open, mutual]: [u16; 2]) -> String {
        let clients = self.clients_ca.ca_file().display();
        format!(
            "[entry_points.open]\naddress = \"127.0.0.1:{open}\"\ntls = {{}}\n\
             [entry_points.mutual]\naddress = \"127.0.0.1:{mutual}\"\ntls = {{ options = \"mutual\" }}\n\
             [tls]\ndefault_certificate = {}\n\
             [tls.options.mutual]\nclient_auth = {{ ca_files = [\"{clients}\"] }}\n\
             [routers.all]\nrule = \"PathPrefix(`/`)\"\nservice = \"origin\"\n\
             [services.origin]\nservers = [{{ url = \"http://127.0.0.1:{ORIGIN}\" }}]\n",
            self.server.toml()
        )
    }
}
