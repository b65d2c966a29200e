//! What the proxies serve: the same on both ports, in the clear on the first and over TLS on the second.

use crate::load::Scenario;
use anyhow::Result;
use sallyport_tests::bench::subjects::{ORIGIN, Served, Setting};
use sallyport_tests::certs::{Authority, Identity, Role, Validity};
use sallyport_tests::lab::Lab;
use std::fmt::Write;

/// Hosts of the scenario that routes among many.
pub(crate) const HOSTS: usize = 1000;

/// One of them.
pub(crate) fn host(number: usize) -> String {
    format!("service-{number:04}.bench.example")
}

/// Where all run.
pub(crate) struct Bench {
    /// The namespace and the origin.
    pub(crate) setting: Setting,
    identity: Identity,
}

/// What is served: everything by one router, or a router for each host.
pub(crate) struct Routes<'a> {
    identity: &'a Identity,
    hosts: usize,
}

impl Bench {
    /// Starts the origin.
    ///
    /// # Errors
    /// Where it does not come up.
    pub(crate) fn new(lab: &Lab) -> Result<Bench> {
        let ca = Authority::new(lab.dir(), "ca")?;
        let files = lab.dir().join("bodies");
        std::fs::create_dir(&files)?;
        std::fs::write(files.join("64k"), vec![b'x'; 64 << 10])?;
        std::fs::write(files.join("1m"), vec![b'x'; 1 << 20])?;
        let origin = format!(
            "sendfile on; root {}; location / {{ return 200 'hello, world\\n'; }} \
             location = /64k {{ }} location = /1m {{ }}",
            files.display()
        );
        Ok(Bench {
            identity: ca.issue_with(Role::Server, Validity::AsPublic, &["bench.example", "127.0.0.1"])?,
            setting: Setting::new(lab, &origin)?,
        })
    }

    /// What a scenario needs.
    pub(crate) fn served(&self, scenario: Scenario) -> Routes<'_> {
        Routes {
            identity: &self.identity,
            hosts: if Scenario::MANY_HOSTS.contains(&scenario) {
                HOSTS
            } else {
                0
            },
        }
    }
}

impl Served for Routes<'_> {
    /// Buffers are as large as tuned installations have them, and nothing of a body goes to a file.
    fn nginx(&self, [plain, tls]: [u16; 2]) -> String {
        let (cert, key) = (self.identity.cert.display(), self.identity.key.display());
        let server = |name: &str| {
            format!(
                "server {{\nlisten 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl http2; {name}\n\
                 ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;\n\
                 location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection '';\n\
                 proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }}\n}}\n"
            )
        };
        let mut text = format!(
            "upstream origin {{ server 127.0.0.1:{ORIGIN}; keepalive 256; keepalive_requests 1000000000; }}\n\
             server_names_hash_max_size 4096; server_names_hash_bucket_size 128;\n\
             proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; proxy_max_temp_file_size 0;\n"
        );
        if self.hosts == 0 {
            text += &server("");
        }
        for number in 0..self.hosts {
            text += &server(&format!("server_name {};", host(number)));
        }
        text
    }

    /// Many hosts are back ends that are found by name, its own way that is fastest.
    fn haproxy(&self, [plain, tls]: [u16; 2]) -> String {
        let both = self.identity.both.display();
        let mut text = format!(
            "frontend f\n  bind 127.0.0.1:{plain}\n  bind 127.0.0.1:{tls} ssl crt {both} alpn h2,http/1.1 ssl-min-ver TLSv1.2\n"
        );
        let mut ends = String::new();
        if self.hosts > 0 {
            text += "  use_backend b-%[req.hdr(host),lower]\n";
        }
        // Writing to a `String` does not fail.
        for number in 0..self.hosts {
            let name = host(number);
            let _ = writeln!(
                ends,
                "backend b-{name}\n  server origin 127.0.0.1:{ORIGIN} pool-max-conn 256"
            );
        }
        if self.hosts == 0 {
            text += "  default_backend b\n";
            let _ = writeln!(
                ends,
                "backend b\n  server origin 127.0.0.1:{ORIGIN} pool-max-conn 256"
            );
        }
        text + &ends
    }

    fn sallyport(&self, [plain, tls]: [u16; 2]) -> String {
        let mut text = format!(
            "[entry_points.plain]\naddress = \"127.0.0.1:{plain}\"\n\
             [entry_points.secure]\naddress = \"127.0.0.1:{tls}\"\ntls = {{}}\n\
             [tls]\ndefault_certificate = {}\n\
             [services.origin]\nservers = [{{ url = \"http://127.0.0.1:{ORIGIN}\" }}]\n",
            self.identity.toml()
        );
        if self.hosts == 0 {
            text += "[routers.all]\nrule = \"PathPrefix(`/`)\"\nentry_points = [\"plain\", \"secure\"]\nservice = \"origin\"\n";
        }
        for number in 0..self.hosts {
            let name = host(number);
            let _ = writeln!(
                text,
                "[routers.r{number}]\nrule = \"Host(`{name}`)\"\nentry_points = [\"plain\", \"secure\"]\nservice = \"origin\""
            );
        }
        text
    }
}
