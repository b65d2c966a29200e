//! The rows of the option reference. A pure data table.

use super::Support::{self, NotYet, Now};

/// One key, relative to its section.
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) kind: &'static str,
    pub(super) default: &'static str,
    pub(super) meaning: &'static str,
    pub(super) support: Support,
}

pub(super) const fn now(
    key: &'static str,
    kind: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default,
        meaning,
        support: Now,
    }
}

pub(super) const fn later(
    key: &'static str,
    kind: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Row {
    Row {
        key,
        kind,
        default,
        meaning,
        support: NotYet,
    }
}

/// A table that a name of the operator's opens.
pub(super) const fn each(key: &'static str, meaning: &'static str) -> Row {
    now(key, "table", "", meaning)
}

pub(super) const fn table(key: &'static str, meaning: &'static str) -> Row {
    now(key, "table", "", meaning)
}

pub(super) const PROCESS: &[Row] = &[
    table("proxy", "The proxy process."),
    now(
        "proxy.workers",
        "`auto` or a number from 1 to 1024",
        "auto",
        "Worker threads; `auto` is one for each CPU of the affinity mask.",
    ),
    now(
        "proxy.io",
        "`auto`, `uring`, `uring-multishot`, `tokio-uring` or `epoll`",
        "auto",
        "I/O driver; `auto` probes the kernel and says in the log and in `status` what it took and why. `uring` is the best on io_uring that the kernel has: `uring-multishot` from Linux 6.1 on, else `tokio-uring`.",
    ),
    now(
        "proxy.state_dir",
        "path",
        "/var/lib/sallyport",
        "Directory for what must survive a restart.",
    ),
    now(
        "proxy.max_connections",
        "number from 1",
        "65536",
        "Downstream connections of the whole process; over it, accepting pauses and is counted.",
    ),
    now(
        "proxy.drain",
        "duration",
        "10s",
        "How long live connections may finish after `SIGTERM`.",
    ),
    now(
        "proxy.accept_grace",
        "duration",
        "0s",
        "How long to keep accepting after `SIGTERM`.",
    ),
    table("log", "The operator's log."),
    now(
        "log.level",
        "filter directives",
        "info",
        "What is logged, in the filter syntax of `tracing`.",
    ),
    now("log.format", "`text` or `json`", "text", "Form of a line."),
    table(
        "access_log",
        "One line for each request and each connection that came to none; absent is off.",
    ),
    now(
        "access_log.path",
        "path or `-`",
        "-",
        "Where lines go; `-` is standard output. `SIGUSR1` reopens a file.",
    ),
    now(
        "access_log.format",
        "`json` or `common`",
        "json",
        "Form of a line.",
    ),
    now(
        "access_log.query",
        "`keep`, `drop` or `redact`",
        "drop",
        "The query of a request's target, which often holds secrets.",
    ),
    table("access_log.headers", "Header fields of requests and answers."),
    now(
        "access_log.headers.default",
        "`keep`, `drop` or `redact`",
        "drop",
        "Fields that are not named; with `keep` those that hold secrets or certificates are redacted all the same.",
    ),
    table("access_log.headers.names", "Fields by name, in any case."),
    each(
        "access_log.headers.names.NAME",
        "`keep`, `drop` or `redact` for this field.",
    ),
    table("metrics", "Metrics for Prometheus."),
    now(
        "metrics.address",
        "address",
        "",
        "Where `GET /metrics` is answered, such as `127.0.0.1:9090`; absent is off.",
    ),
    table("admin", "Status and control of the running proxy."),
    now(
        "admin.socket",
        "path",
        "/run/sallyport/admin.sock",
        "Unix socket of the admin interface.",
    ),
    later(
        "admin.address",
        "address",
        "",
        "Loopback address of the admin interface.",
    ),
    later(
        "admin.allow_remote",
        "boolean",
        "false",
        "Lets `admin.address` be other than loopback.",
    ),
    table("gate", "The kernel filter; read by the gate process."),
    now(
        "gate.mode",
        "`enforce`, `observe` or `off`",
        "enforce",
        "`enforce`: the kernel drops and accept closes; `observe`: both count and let in; `off`: no kernel filter, accept still closes.",
    ),
    now(
        "gate.attach",
        "`auto`, `xdp`, `tc`, `clsact` or `xdp-generic`",
        "auto",
        "Where the program is attached; `auto` is native XDP, then TC; `tc` is TCX, then clsact.",
    ),
    now(
        "gate.socket",
        "path",
        "/run/sallyport-gate/gate.sock",
        "Unix socket of the gate process.",
    ),
    now(
        "gate.pin_dir",
        "path",
        "/sys/fs/bpf/sallyport",
        "Directory on bpffs for the filter's links and maps.",
    ),
    now(
        "gate.failsafe",
        "list of prefixes",
        "",
        "Sources that no policy drops.",
    ),
    now(
        "gate.later_fragments",
        "`pass` or `strict`",
        "pass",
        "Fragments after the first: `strict` passes them only from a source that some allowlist names.",
    ),
    now(
        "gate.destinations",
        "`auto`, `local` or `any`",
        "auto",
        "Which destinations are judged. `local` is this host's addresses, `any` is all; `auto` is `any` where nothing that comes by the interface can be for another host or namespace: no forwarding, no bridge or OVS port, no macvlan or ipvlan upon it.",
    ),
    table("allowlists", "Named lists of prefixes; `everyone` is built in."),
    each(
        "allowlists.NAME",
        "One list; its name may stand wherever prefixes are written.",
    ),
    now(
        "allowlists.NAME.sources",
        "list of prefixes",
        "",
        "Prefixes or single addresses.",
    ),
    now(
        "allowlists.NAME.file",
        "path",
        "",
        "A file with one prefix a line, `#` starts a comment; relative to the configuration's directory; watched.",
    ),
    table("entry_points", "Where clients connect."),
    each("entry_points.NAME", "One listener for clients."),
];

pub(super) const UPLINK_ENTRY_POINT: &[Row] = &[
    table("uplink_entry_points", "Where parent gateways connect."),
    each(
        "uplink_entry_points.NAME",
        "One listener for parents; the keys of an entry point and one more.",
    ),
    now(
        "uplink_entry_points.NAME.allow_unauthenticated",
        "boolean",
        "false",
        "Lets it run without any proof of a parent; anyone who can connect may use every uplink.",
    ),
];

pub(super) const ENTRY_POINT: &[Row] = &[
    now(
        "address",
        "`HOST:PORT`",
        "",
        "Where to listen; `:80` is all addresses of both families, `[::]:80` IPv6 only. Required.",
    ),
    now(
        "as_default",
        "boolean",
        "false",
        "Member of the default set; where none is marked, all are.",
    ),
    table("tls", "TLS; the table present, even empty, turns it on."),
    now(
        "tls.options",
        "name of TLS options",
        "default",
        "TLS options of this entry point.",
    ),
    later(
        "tls.cert_resolver",
        "name of a certificate resolver",
        "",
        "Who obtains certificates.",
    ),
    later(
        "tls.domains",
        "list of names",
        "",
        "Names to obtain certificates for.",
    ),
    table(
        "proxy_protocol",
        "PROXY protocol, versions 1 and 2; absent: never parsed.",
    ),
    now(
        "proxy_protocol.trusted_ips",
        "list of prefixes or allowlists",
        "",
        "Sources that send a header, such as load balancers. Required. This is no access list: everybody else is served without a header and closed with one.",
    ),
    now(
        "proxy_protocol.mode",
        "`required` or `optional`",
        "required",
        "Whether a trusted source without a header is closed or an ordinary client. With `optional` whoever can make a trusted source pass on his own first bytes forges any client address; silent clients wait for `timeouts.proxy_header`.",
    ),
    table("forwarded_headers", "Forwarding headers of requests."),
    now(
        "forwarded_headers.trusted_ips",
        "list of prefixes or allowlists",
        "",
        "Peers whose forwarding headers are believed; those of all others are removed.",
    ),
    table("timeouts", "Deadlines; `0s` is none."),
    now(
        "timeouts.read_header",
        "duration",
        "10s",
        "First to last byte of a request's header section.",
    ),
    now(
        "timeouts.read",
        "duration",
        "60s",
        "First to last byte of the whole request.",
    ),
    now("timeouts.write", "duration", "0s", "The whole response."),
    now(
        "timeouts.idle",
        "duration",
        "180s",
        "Between two requests of a connection.",
    ),
    now("timeouts.tls_handshake", "duration", "10s", "TLS handshake."),
    now(
        "timeouts.proxy_header",
        "duration",
        "5s",
        "PROXY protocol header.",
    ),
    table("limits", "Limits for each request or connection."),
    now(
        "limits.header_bytes",
        "size from 256B to 16MiB",
        "64KiB",
        "Bytes of a header section; over it the answer is 431.",
    ),
    now(
        "limits.headers",
        "number from 1 to 10000",
        "100",
        "Header fields of a request; over it the answer is 431.",
    ),
    later(
        "limits.h2_streams",
        "number",
        "250",
        "Concurrent HTTP/2 streams of a connection.",
    ),
    later(
        "limits.connections_per_ip",
        "number",
        "0",
        "Connections of one client address; 0 is no limit.",
    ),
    later(
        "limits.body_rate_min",
        "size a second",
        "1KiB",
        "A body that keeps this rate may outlive `timeouts.read`.",
    ),
    later(
        "redirect",
        "table",
        "",
        "Sends every request to another entry point.",
    ),
    now(
        "middlewares",
        "list of middlewares",
        "",
        "Middlewares before those of every router.",
    ),
    table(
        "gate",
        "The allowlist of this port, judged in the kernel and again at accept.",
    ),
    now(
        "gate.interfaces",
        "list of interface names",
        "",
        "Where the kernel filter sits; absent is accept-only.",
    ),
    now(
        "gate.allow",
        "list of prefixes or allowlists",
        "",
        "Who may connect. Required.",
    ),
    now(
        "gate.ports",
        "list of ports",
        "the port of `address`",
        "Ports on the wire where DNAT stands before the listener.",
    ),
    now(
        "gate.required",
        "boolean",
        "true on uplink entry points with interfaces while the gate enforces, else false",
        "Do not listen until the kernel filter is attached.",
    ),
];

pub(super) const HTTP: &[Row] = &[
    table("routers", "Which requests go to which service."),
    each("routers.NAME", "One router."),
    now(
        "routers.NAME.rule",
        "rule",
        "",
        "Which requests, as ``Host(`a.example.com`) && PathPrefix(`/v1`)``. Required.",
    ),
    now(
        "routers.NAME.entry_points",
        "list of entry points",
        "the default set",
        "Where the requests come in; never an uplink entry point.",
    ),
    now(
        "routers.NAME.priority",
        "number",
        "0",
        "Higher goes first; 0 is the length of the rule.",
    ),
    now(
        "routers.NAME.service",
        "name of a service",
        "",
        "What answers; `NAME@multicluster` is an uplink of the children. Required.",
    ),
    table("routers.NAME.tls", "This router is for TLS alone."),
    now(
        "routers.NAME.tls.options",
        "name of TLS options",
        "default",
        "TLS options for the hosts of the rule.",
    ),
    later(
        "routers.NAME.tls.cert_resolver",
        "name of a certificate resolver",
        "",
        "Who obtains certificates.",
    ),
    later(
        "routers.NAME.tls.domains",
        "list of names",
        "",
        "Names to obtain certificates for.",
    ),
    now(
        "routers.NAME.uplinks",
        "list of uplinks",
        "",
        "Requests that come over these uplinks; such a router has no `entry_points` and no `tls`.",
    ),
    now(
        "routers.NAME.middlewares",
        "list of middlewares",
        "",
        "What the requests go through, in order; those of the entry point come before.",
    ),
    table("services", "What answers requests."),
    each("services.NAME", "One service."),
    now(
        "services.NAME.servers",
        "list of tables",
        "",
        "The servers. Required.",
    ),
    now(
        "services.NAME.servers[].url",
        "URL without path",
        "",
        "`http://`, `https://` or `h2c://` with host and port. Required.",
    ),
    now(
        "services.NAME.servers[].weight",
        "number from 0 to 65535",
        "1",
        "Share of the requests; 0 gets none.",
    ),
    now(
        "services.NAME.strategy",
        "`wrr`",
        "wrr",
        "How a server is chosen: `wrr` is weighted round robin.",
    ),
    now(
        "services.NAME.pass_host_header",
        "boolean",
        "true",
        "Whether the client's `Host` goes to the server.",
    ),
    now(
        "services.NAME.servers_transport",
        "name of a servers transport",
        "default",
        "How to talk to the servers.",
    ),
    later(
        "services.NAME.health_check",
        "table",
        "",
        "Probes of the servers.",
    ),
    later(
        "services.NAME.passive",
        "table",
        "",
        "Ejection of servers that fail.",
    ),
    later(
        "services.NAME.sticky",
        "table",
        "",
        "Keeps a client at one server.",
    ),
    later(
        "services.NAME.weighted",
        "table",
        "",
        "Shares the requests among services.",
    ),
    later(
        "services.NAME.failover",
        "table",
        "",
        "Another service for when the first has no healthy server.",
    ),
    table("servers_transports", "How to talk to servers."),
    each(
        "servers_transports.NAME",
        "One way; `default` is used where none is named.",
    ),
    now(
        "servers_transports.NAME.server_name",
        "host name",
        "the host of the URL",
        "SNI that is sent and name that is verified.",
    ),
    now(
        "servers_transports.NAME.root_cas",
        "list of paths",
        "the system's",
        "CA bundles that replace the system's store.",
    ),
    now(
        "servers_transports.NAME.subject_names",
        "list of names",
        "the server name",
        "Names of which the certificate must carry any one.",
    ),
    now(
        "servers_transports.NAME.certificates",
        "list of tables",
        "",
        "Client certificates; the first that the server accepts is sent.",
    ),
    now(
        "servers_transports.NAME.certificates[].cert_file",
        "path",
        "",
        "PEM chain, leaf first. Required.",
    ),
    now(
        "servers_transports.NAME.certificates[].key_file",
        "path",
        "",
        "PEM key. Required.",
    ),
    now(
        "servers_transports.NAME.insecure_skip_verify",
        "boolean",
        "false",
        "Believes any server.",
    ),
    now(
        "servers_transports.NAME.pinned_spki",
        "list of `sha256/BASE64`",
        "",
        "Digests of accepted public keys, in place of CAs.",
    ),
    now(
        "servers_transports.NAME.disable_http2",
        "boolean",
        "false",
        "HTTP/1.1 only.",
    ),
    now(
        "servers_transports.NAME.min_version",
        "`VersionTLS12` or `VersionTLS13`",
        "VersionTLS12",
        "Lowest TLS version that servers are offered.",
    ),
    now(
        "servers_transports.NAME.max_version",
        "`VersionTLS12` or `VersionTLS13`",
        "VersionTLS13",
        "Highest TLS version that servers are offered.",
    ),
    now(
        "servers_transports.NAME.cipher_suites",
        "list of suites",
        "all that are safe",
        "TLS 1.2 suites that are offered, with the words of `tls.options.NAME.cipher_suites`; those of TLS 1.3 always stay.",
    ),
    now(
        "servers_transports.NAME.curve_preferences",
        "list of groups",
        "the library's order",
        "Key exchange groups that are offered, with the words of `tls.options.NAME.curve_preferences`.",
    ),
    now(
        "servers_transports.NAME.proxy_protocol",
        "`v1`, `v2` or a table",
        "",
        "Sends a PROXY header in front of each connection, before TLS. Such a connection serves one client connection alone and ends with it.",
    ),
    now(
        "servers_transports.NAME.proxy_protocol.version",
        "`v1` or `v2`",
        "",
        "Version of the header. Required in the table.",
    ),
    now(
        "servers_transports.NAME.proxy_protocol.tlvs",
        "list of `authority`, `alpn`, `ssl`, `unique_id`, `crc32c`",
        "none",
        "Facts that a `v2` header carries beside the addresses, each where it is known: the host name asked for, the application protocol, TLS version and client certificate, an identifier of the connection, a checksum.",
    ),
    now(
        "servers_transports.NAME.max_idle_per_server",
        "number from 0 to 65535",
        "64",
        "Idle connections that are kept for one server by the whole process.",
    ),
    table("servers_transports.NAME.timeouts", "Deadlines; `0s` is none."),
    now(
        "servers_transports.NAME.timeouts.dial",
        "duration",
        "30s",
        "TCP connect.",
    ),
    now(
        "servers_transports.NAME.timeouts.tls_handshake",
        "duration",
        "10s",
        "TLS handshake.",
    ),
    now(
        "servers_transports.NAME.timeouts.response_header",
        "duration",
        "0s",
        "From the request sent to the response header.",
    ),
    now(
        "servers_transports.NAME.timeouts.idle",
        "duration",
        "90s",
        "Life of an idle connection.",
    ),
    table("tcp_routers", "Which TCP connections go to which TCP service."),
    each("tcp_routers.NAME", "One TCP router."),
    now(
        "tcp_routers.NAME.rule",
        "rule",
        "",
        "Which connections, as ``HostSNI(`db.example.com`) && ClientIP(`10.0.0.0/8`)``. Required.",
    ),
    now(
        "tcp_routers.NAME.entry_points",
        "list of entry points",
        "those of the default set that have TLS",
        "Where the connections come in; never an uplink entry point. Required where there is no `tls`.",
    ),
    now(
        "tcp_routers.NAME.priority",
        "number",
        "0",
        "Higher goes first; 0 is the length of the rule, or -1 where it is ``HostSNI(`*`)`` alone.",
    ),
    now(
        "tcp_routers.NAME.service",
        "name of a TCP service",
        "",
        "What answers. Required.",
    ),
    table(
        "tcp_routers.NAME.tls",
        "This router is for TLS; absent: for connections in the clear.",
    ),
    now(
        "tcp_routers.NAME.tls.passthrough",
        "boolean",
        "false",
        "The server shakes hands: every byte is relayed as it came. Otherwise this gateway does, and relays what is inside.",
    ),
    now(
        "tcp_routers.NAME.tls.options",
        "name of TLS options",
        "those of the entry point",
        "TLS options of the handshake. Protocols are agreed on by the rule's `ALPN`, not by `alpn_protocols`.",
    ),
    table("tcp_services", "What answers TCP connections."),
    each("tcp_services.NAME", "One TCP service."),
    now(
        "tcp_services.NAME.servers",
        "list of tables",
        "",
        "The servers, taken by turns; where one cannot be reached, the next is tried. Required.",
    ),
    now(
        "tcp_services.NAME.servers[].address",
        "`HOST:PORT`",
        "",
        "Where it is. Required.",
    ),
    now(
        "tcp_services.NAME.servers[].weight",
        "number from 0 to 65535",
        "1",
        "Share of the connections; 0 gets none.",
    ),
    now(
        "tcp_services.NAME.proxy_protocol",
        "`v1`, `v2` or a table",
        "",
        "Sends a PROXY header in front of each connection.",
    ),
    now(
        "tcp_services.NAME.proxy_protocol.version",
        "`v1` or `v2`",
        "",
        "Version of the header. Required in the table.",
    ),
    now(
        "tcp_services.NAME.proxy_protocol.tlvs",
        "list of `authority`, `alpn`, `ssl`, `unique_id`, `crc32c`",
        "none",
        "Facts that a `v2` header carries, as in `servers_transports.NAME.proxy_protocol.tlvs`.",
    ),
    table("tcp_services.NAME.timeouts", "Deadlines; `0s` is none."),
    now(
        "tcp_services.NAME.timeouts.dial",
        "duration",
        "30s",
        "TCP connect, each server.",
    ),
    now(
        "tcp_services.NAME.timeouts.idle",
        "duration",
        "`timeouts.idle` of the entry point",
        "How long a connection may be without a byte either way.",
    ),
];

pub(super) const TLS: &[Row] = &[
    table("tls", "Certificates and TLS options of the entry points."),
    table(
        "tls.default_certificate",
        "For names that no certificate covers; absent: generated and kept in `proxy.state_dir`.",
    ),
    now(
        "tls.default_certificate.cert_file",
        "path",
        "",
        "PEM chain, leaf first. Required.",
    ),
    now(
        "tls.default_certificate.key_file",
        "path",
        "",
        "PEM key. Required.",
    ),
    now(
        "tls.certificates",
        "list of tables",
        "",
        "Certificates, chosen by server name.",
    ),
    now(
        "tls.certificates[].cert_file",
        "path",
        "",
        "PEM chain, leaf first. Required.",
    ),
    now("tls.certificates[].key_file", "path", "", "PEM key. Required."),
    table("tls.options", "Named TLS options."),
    each(
        "tls.options.NAME",
        "One set; `default` is used where none is named.",
    ),
    now(
        "tls.options.NAME.min_version",
        "`VersionTLS12` or `VersionTLS13`",
        "VersionTLS12",
        "Lowest version.",
    ),
    now(
        "tls.options.NAME.max_version",
        "`VersionTLS12` or `VersionTLS13`",
        "VersionTLS13",
        "Highest version.",
    ),
    now(
        "tls.options.NAME.cipher_suites",
        "list of suite names",
        "all safe ones",
        "TLS 1.2 suites, the preferred one first whatever order a client has; those of TLS 1.3 stay.",
    ),
    now(
        "tls.options.NAME.curve_preferences",
        "list of `X25519MLKEM768`, `SecP256r1MLKEM768`, `X25519`, `CurveP256`, `CurveP384`",
        "X25519MLKEM768, X25519, CurveP256, CurveP384",
        "Key exchange groups, in order of preference.",
    ),
    now(
        "tls.options.NAME.alpn_protocols",
        "list of `h2`, `http/1.1`",
        "h2, http/1.1",
        "Application protocols, in order of preference.",
    ),
    now(
        "tls.options.NAME.sni_strict",
        "boolean",
        "false",
        "Refuses a handshake whose name no certificate covers.",
    ),
    table("tls.options.NAME.client_auth", "Client certificates."),
    now(
        "tls.options.NAME.client_auth.type",
        "`NoClientCert`, `RequestClientCert`, `RequireAnyClientCert`, `VerifyClientCertIfGiven` or `RequireAndVerifyClientCert`",
        "`RequireAndVerifyClientCert` where `ca_files` is there",
        "What is asked of clients.",
    ),
    now(
        "tls.options.NAME.client_auth.ca_files",
        "list of paths",
        "",
        "CA bundles of client certificates.",
    ),
    now(
        "tls.options.NAME.client_auth.crl_files",
        "list of paths",
        "",
        "Revocation lists. Expired, or silent about a certificate, they refuse it.",
    ),
    now(
        "tls.options.NAME.client_auth.crl_only_verify_leaf_cert",
        "boolean",
        "false",
        "Asks the revocation lists about the leaf alone, not about its intermediates.",
    ),
    now(
        "tls.options.NAME.client_auth.subject_names",
        "list of names",
        "any",
        "DNS names, `*.` wildcards, URIs and addresses of which the certificate must carry one.",
    ),
    later("certificate_resolvers", "table", "", "Who obtains certificates."),
];

pub(super) const MULTICLUSTER: &[Row] = &[
    table("uplinks", "What this gateway advertises to its parents."),
    each("uplinks.NAME", "One uplink; routers attach to it by `uplinks`."),
    now(
        "uplinks.NAME.entry_points",
        "list of uplink entry points",
        "the default set",
        "Where parents reach it.",
    ),
    now(
        "uplinks.NAME.weight",
        "number from 0 to 65535",
        "1",
        "Weight at the parent; 0 drains.",
    ),
    now(
        "uplinks.NAME.parents",
        "list of names",
        "any verified parent",
        "DNS names or URIs of which the parent's certificate must carry one.",
    ),
    later(
        "uplinks.NAME.health_check",
        "table",
        "",
        "Probes that the parent runs.",
    ),
    later(
        "uplinks.NAME.passive",
        "table",
        "",
        "Ejection of children that fail, by the parent.",
    ),
    table("multicluster", "The children of this gateway."),
    now(
        "multicluster.poll_interval",
        "duration from 10ms",
        "5s",
        "Between two polls of one child.",
    ),
    now(
        "multicluster.poll_timeout",
        "duration from 10ms",
        "5s",
        "Deadline of one poll.",
    ),
    now(
        "multicluster.stale_after",
        "duration",
        "60s",
        "How long a child that cannot be polled keeps its last answer.",
    ),
    table("multicluster.children", "The children, by name."),
    each("multicluster.children.NAME", "One child."),
    now(
        "multicluster.children.NAME.address",
        "URL without path",
        "",
        "Where its uplink entry point is. Required.",
    ),
    now(
        "multicluster.children.NAME.servers_transport",
        "name of a servers transport",
        "default",
        "How to talk to it.",
    ),
    now(
        "multicluster.children.NAME.uplinks",
        "list of uplinks",
        "any",
        "What it may offer.",
    ),
];
