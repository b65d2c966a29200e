//! What the verbs need from the machine: how to see that it is there, and the packages that bring it.
//!
//! A table and its lookup; nothing is installed here.

use std::path::Path;

use crate::tasks;

/// Which verbs use a thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Group {
    /// Compiling the workspace.
    Build,
    /// The peers of the demo.
    Demo,
    /// More peers, for tests and benchmarks.
    Test,
    /// Making and judging packages.
    Package,
    /// Other kernels in a virtual machine.
    Kernels,
    /// Debian's BPF compiler and linker.
    Bpf,
}

/// How one sees that a thing is there.
#[derive(Clone, Copy, Debug)]
enum Probe {
    /// A program of this name, from whatever source.
    Tool(&'static str),
    /// A file or folder.
    Path(&'static str),
}

/// One thing that the machine must have.
#[derive(Debug)]
pub(super) struct Need {
    pub(super) what: &'static str,
    pub(super) why: &'static str,
    pub(super) apt: &'static str,
    pub(super) dnf: &'static str,
    group: Group,
    probe: Probe,
}

const fn tool(
    group: Group,
    name: &'static str,
    why: &'static str,
    apt: &'static str,
    dnf: &'static str,
) -> Need {
    Need {
        what: name,
        why,
        apt,
        dnf,
        group,
        probe: Probe::Tool(name),
    }
}

const fn path(
    group: Group,
    name: &'static str,
    why: &'static str,
    apt: &'static str,
    dnf: &'static str,
) -> Need {
    Need {
        what: name,
        why,
        apt,
        dnf,
        group,
        probe: Probe::Path(name),
    }
}

const NEEDS: &[Need] = &[
    tool(
        Group::Build,
        "cc",
        "links Rust programs and builds aws-lc",
        "gcc",
        "gcc",
    ),
    path(
        Group::Build,
        "/usr/include/stdlib.h",
        "builds aws-lc",
        "libc6-dev",
        "glibc-devel",
    ),
    tool(Group::Demo, "nginx", "backend", "nginx-light", "nginx"),
    tool(
        Group::Demo,
        "haproxy",
        "load balancer with PROXY protocol",
        "haproxy",
        "haproxy",
    ),
    tool(Group::Demo, "curl", "client", "curl", "curl"),
    tool(Group::Demo, "openssl", "TLS client", "openssl", "openssl"),
    tool(Group::Demo, "ip", "network namespaces", "iproute2", "iproute"),
    tool(
        Group::Demo,
        "nsenter",
        "enters network namespaces",
        "util-linux",
        "util-linux",
    ),
    tool(Group::Demo, "ps", "shows processes", "procps", "procps-ng"),
    path(
        Group::Test,
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        "nginx as a sender of PROXY headers",
        "libnginx-mod-stream",
        "nginx-mod-stream",
    ),
    tool(Group::Test, "h2load", "HTTP/2 load", "nghttp2-client", "nghttp2"),
    path(
        Group::Test,
        "/usr/lib/python3/dist-packages/grpc",
        "gRPC peer",
        "python3-grpcio",
        "python3-grpcio",
    ),
    tool(
        Group::Test,
        "nghttpd",
        "an HTTP/2 server",
        "nghttp2-server",
        "nghttp2",
    ),
    tool(
        Group::Test,
        "htpasswd",
        "hashes of passwords",
        "apache2-utils",
        "httpd-tools",
    ),
    tool(Group::Test, "argon2", "hashes of passwords", "argon2", "argon2"),
    tool(
        Group::Test,
        "node",
        "HTTP/2 of another hand, and a server that requests are smuggled to in tests",
        "nodejs",
        "nodejs",
    ),
    path(
        Group::Test,
        "/usr/lib/python3/dist-packages/grpc",
        "gRPC of another hand in tests",
        "python3-grpcio",
        "python3-grpcio",
    ),
    path(
        Group::Test,
        "/usr/lib/python3/dist-packages/websockets",
        "WebSocket of another hand in tests",
        "python3-websockets",
        "python3-websockets",
    ),
    tool(
        Group::Test,
        "caddy",
        "a server and a proxy of another hand in tests",
        "caddy",
        "caddy",
    ),
    tool(Group::Test, "wrk", "HTTP/1.1 load", "wrk", "wrk"),
    tool(Group::Test, "nft", "DNAT in tests", "nftables", "nftables"),
    tool(
        Group::Test,
        "tcpdump",
        "watches packets in tests",
        "tcpdump",
        "tcpdump",
    ),
    tool(
        Group::Test,
        "xdp-filter",
        "measured beside the gate",
        "xdp-tools",
        "xdp-tools",
    ),
    tool(
        Group::Test,
        "ethtool",
        "turns on the receive queue that nft is measured with",
        "ethtool",
        "ethtool",
    ),
    tool(
        Group::Test,
        "testssl",
        "scans a TLS port in tests",
        "testssl.sh",
        "testssl",
    ),
    tool(
        Group::Test,
        "chromium",
        "a browser with a client certificate in tests",
        "chromium",
        "chromium",
    ),
    tool(
        Group::Test,
        "certutil",
        "fills that browser's store of certificates",
        "libnss3-tools",
        "nss-tools",
    ),
    tool(Group::Package, "dpkg-deb", "builds the deb", "dpkg", "dpkg"),
    tool(
        Group::Package,
        "dpkg-shlibdeps",
        "finds the deb's dependencies",
        "dpkg-dev",
        "dpkg-dev",
    ),
    tool(Group::Package, "rpmbuild", "builds the rpm", "rpm", "rpm-build"),
    tool(
        Group::Package,
        "strip",
        "strips the packaged binary",
        "binutils",
        "binutils",
    ),
    tool(Group::Package, "man", "judges the man page", "man-db", "man-db"),
    tool(
        Group::Package,
        "systemd-analyze",
        "judges the units",
        "systemd",
        "systemd",
    ),
    tool(
        Group::Kernels,
        "qemu-system-x86_64",
        "boots other kernels",
        "qemu-system-x86",
        "qemu-system-x86-core",
    ),
    tool(
        Group::Kernels,
        "busybox",
        "the shell of those guests",
        "busybox-static",
        "busybox",
    ),
    tool(
        Group::Kernels,
        "setpriv",
        "tries fewer capabilities",
        "util-linux",
        "util-linux",
    ),
    path(
        Group::Bpf,
        "/usr/bin/rustc",
        "compiles the BPF programs",
        "rustc-web",
        "rust",
    ),
    path(
        Group::Bpf,
        "/usr/lib/rustlib/bpfel-unknown-none",
        "`core` for BPF",
        "libstd-rust-web-dev-bpf",
        "rust-src",
    ),
    path(
        Group::Bpf,
        "/usr/lib/llvm-22/include/llvm-c/Core.h",
        "links the BPF programs",
        "llvm-22-dev",
        "llvm-devel",
    ),
    path(
        Group::Bpf,
        "/usr/lib/llvm-22/bin/llvm-profdata",
        "merges the profiles that guide a release",
        "llvm-22",
        "llvm",
    ),
    path(
        Group::Bpf,
        "/usr/lib/llvm-22/lib/libPolly.a",
        "links the BPF programs",
        "libpolly-22-dev",
        "llvm-devel",
    ),
    path(
        Group::Bpf,
        "/usr/include/zlib.h",
        "links bpf-linker",
        "zlib1g-dev",
        "zlib-devel",
    ),
    path(
        Group::Bpf,
        "/usr/include/zstd.h",
        "links bpf-linker",
        "libzstd-dev",
        "libzstd-devel",
    ),
    tool(Group::Bpf, "c++", "links bpf-linker", "g++", "gcc-c++"),
];

/// The needs of these groups that the machine does not meet.
pub(super) fn missing(groups: &[Group]) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| groups.contains(&need.group) && !present(need.probe))
        .collect()
}

fn present(probe: Probe) -> bool {
    match probe {
        Probe::Tool(name) => tasks::find_tool(name).is_some(),
        Probe::Path(name) => Path::new(name).exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, NEEDS, Probe, missing, present};

    #[test]
    fn what_is_not_there_is_seen_as_missing() {
        assert!(!present(Probe::Tool("no-such-tool-of-sallyport")));
        assert!(!present(Probe::Path("/no/such/folder")));
        assert!(present(Probe::Tool("sh")));
        assert!(present(Probe::Path("/proc")));
    }

    #[test]
    fn every_need_names_its_packages_and_its_reason() {
        for need in NEEDS {
            assert!(
                !need.apt.is_empty() && !need.dnf.is_empty() && !need.why.is_empty(),
                "{need:?}"
            );
        }
    }

    #[test]
    fn no_group_means_nothing_is_missing() {
        assert!(missing(&[]).is_empty());
        assert!(NEEDS.iter().any(|need| need.group == Group::Bpf));
    }
}
