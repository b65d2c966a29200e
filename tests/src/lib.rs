//! Harness of the whole-program tests: namespaces, links, certificates, peers.
