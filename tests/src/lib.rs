//! Harness of the whole-program tests: namespaces, links, certificates, peers and the program under test.
//!
//! It drives the installed binary from outside, by its configuration file, command line and sockets. It must
//! not know how the proxy or the gate are built inside.

pub mod bench;
pub mod caddy;
pub mod case;
pub mod certs;
pub mod chromium;
pub mod curl;
pub mod family;
pub mod feigned;
pub mod fickle;
pub mod flips;
pub mod flood;
pub mod fragments;
pub mod frames;
pub mod gate;
pub mod gateway;
pub mod grpc_health;
pub mod h2load;
pub mod haproxy;
pub mod haproxy_receiver;
pub mod held;
pub mod hello;
pub mod lab;
pub mod lan;
pub mod lying_parent;
pub mod near_valid;
pub mod near_valid_http2;
pub mod nghttpd;
pub mod nginx;
pub mod nginx_stream;
pub mod openssl;
pub mod own_reading;
pub mod process;
pub mod raw_client;
pub mod raw_http2;
pub mod raw_proxied;
pub mod raw_relay;
pub mod raw_server;
pub mod raw_tcp;
pub mod s_server;
pub mod script;
pub mod signals;
pub mod slots;
pub mod stage;
pub mod storm;
pub mod strict;
pub mod tap;
pub mod terminal;
pub mod testssl;
pub mod tls_client;
pub mod wait;
pub mod wired;
pub mod witness;
