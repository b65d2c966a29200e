//! The files of TLS that a configuration names, each by itself: for saying everything that is wrong at once, where what
//! is compiled from them would stop at the first.

use crate::tls::{Files, base_provider};
use sallyport_config::{
    diagnostic::Diagnostic,
    model::{CertFiles, ClientAuth, Config, Located},
};
use std::path::PathBuf;

/// Every file that cannot be read, and every key that does not fit its certificate.
pub(super) fn problems(config: &Config, files: &Files) -> Vec<Diagnostic> {
    let provider = base_provider();
    let (tls, transports) = (&config.tls, config.servers_transports.values());
    let own = tls.default_certificate.iter().chain(&tls.certificates);
    let pairs: Vec<&CertFiles> = own
        .chain(transports.clone().flat_map(|transport| &transport.certificates))
        .collect();
    let (mut authorities, mut lists): (Vec<&Located<PathBuf>>, Vec<&Located<PathBuf>>) = (
        transports.flat_map(|transport| &transport.root_cas).collect(),
        Vec::new(),
    );
    for options in tls.options.values() {
        match &options.client_auth {
            ClientAuth::VerifyIfGiven(how) | ClientAuth::RequireAndVerify(how) => {
                authorities.extend(&how.ca_files);
                lists.extend(&how.crl_files);
            }
            ClientAuth::None | ClientAuth::Request | ClientAuth::RequireAny => {}
        }
    }
    let pairs = pairs
        .into_iter()
        .filter_map(|pair| files.certified_key(pair, &provider).err());
    let authorities = authorities
        .into_iter()
        .filter_map(|file| files.certificates(file).err());
    let lists = lists
        .into_iter()
        .filter_map(|file| files.revocation_lists(file).err());
    pairs.chain(authorities).chain(lists).collect()
}
