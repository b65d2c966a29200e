//! Foreign peers on both sides of the gateway: openssl, curl, nginx that demands certificates, testssl.sh, a browser.
//!
//! What each of them must be able to do, and what none of them may.

mod browser;
mod openssl;
mod scanner;
mod through;
