//! What this gateway is called towards other gateways: made once and kept in the state directory, so that it is the same
//! over restarts.
//!
//! Where it cannot be kept, this process has one of its own and says so: loops are seen all the same.

use super::{
    StateDir,
    made_once::{MadeOnce, random},
};
use crate::{fault::with_causes, uplink::context::GatewayId};
use sallyport_config::{
    diagnostic::{Diagnostic, Location},
    model::Config,
};
use std::{io, path::Path, sync::OnceLock};

const FILE: &str = "gateway-id";

/// The identity of this gateway. One that has no uplinks and no children needs none that lasts.
pub(super) fn identity(config: &Config, state_dir: StateDir, remarks: &mut Vec<Diagnostic>) -> GatewayId {
    if config.uplinks.is_empty() && config.multicluster.children.is_empty() {
        return passing();
    }
    let path = config.proxy.state_dir.join(FILE);
    let kept = MadeOnce {
        path: &path,
        mode: 0o644,
        fresh: || Ok(format!("{}\n", GatewayId(random()?)).into_bytes()),
        read,
    };
    let found = kept.get(state_dir).unwrap_or_else(|error| {
        remarks.push(remark(&path, &error));
        None
    });
    found.unwrap_or_else(passing)
}

/// That of this process.
fn passing() -> GatewayId {
    static PASSING: OnceLock<GatewayId> = OnceLock::new();
    *PASSING.get_or_init(|| GatewayId(random().unwrap_or([0; GatewayId::BYTES])))
}

fn read(bytes: &[u8]) -> io::Result<GatewayId> {
    let expected = || io::Error::new(io::ErrorKind::InvalidData, "expected 32 hexadecimal digits");
    let text = std::str::from_utf8(bytes).map_err(|_| expected())?;
    GatewayId::read(text.trim_end()).ok_or_else(expected)
}

fn remark(path: &Path, error: &io::Error) -> Diagnostic {
    let file = path.display().to_string();
    let message = format!(
        "`{file}` cannot be used as this gateway's identity: {}; until the next start it has one that is kept nowhere; \
         make the directory writable for this user, set `proxy.state_dir`, or remove a file that is no identity",
        with_causes(error)
    );
    Diagnostic {
        at: Location::start_of(file),
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_identity_is_not_taken() {
        let first = GatewayId(random().expect("random numbers"));
        assert_eq!(read(format!("{first}\n").as_bytes()).expect("the same"), first);
        for text in [
            "",
            "12",
            "zz345678123456781234567812345678",
            "123456781234567812345678123456789",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        assert!(read(&[0xFF; 32]).is_err());
    }
}
