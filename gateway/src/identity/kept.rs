//! What of an identity survives a restart: the certificate in use, and the versions of the cluster's trust bundle.
//!
//! Owns two places in the state directory. Never decides whether what is in them is still good.
//!
//! ```text
//! <state>/svid/tls.crt, tls.key   the certificate in use: a gateway starts with it when its source does not answer
//! <state>/lineage.pb              every version of the trust bundle: others hold this cluster to it, members or not
//! ```

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use federation_model::lineage::Lineage;
use federation_pki::svid::Svid;
use federation_runtime::state::{self, StateError};
use prost::Message as _;
use proto::{convert::member::lineage, federation::v1};

/// The places in one state directory.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    svid: PathBuf,
    lineage: PathBuf,
}

impl Kept {
    pub(super) fn in_dir(state_dir: &Path) -> Self {
        Self { svid: state_dir.join("svid"), lineage: state_dir.join("lineage.pb") }
    }

    /// The certificate that was in use. A pair that is missing or does not belong together, since a crash came in between,
    /// counts as none: another one is issued.
    pub(super) fn svid(&self) -> Option<Svid> {
        let read = |name: &str| state::read_private_text(&self.svid.join(name));
        let (certificate, key) = (read("tls.crt").ok()?, read("tls.key").ok()?);
        match Svid::from_pem(&certificate, &key) {
            Ok(svid) => Some(svid),
            Err(error) => {
                tracing::warn!(%error, dir = %self.svid.display(), "the kept certificate is not usable; another one is taken");
                None
            }
        }
    }

    pub(super) fn keep_svid(&self, svid: &Svid) -> Result<(), StateError> {
        state::create_private_dir(&self.svid)?;
        state::write_private(&self.svid.join("tls.key"), svid.key_pem().expose().as_bytes())?;
        state::write_private(&self.svid.join("tls.crt"), svid.certificate_pem().as_bytes())
    }

    /// The versions of the trust bundle, none at the first start.
    pub(super) fn lineage(&self) -> anyhow::Result<Option<Lineage>> {
        let bytes = match state::read_private(&self.lineage) {
            Ok(bytes) => bytes,
            Err(StateError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let decoded = v1::PublishBundleRequest::decode(bytes.as_slice()).map_err(anyhow::Error::from);
        let read = decoded.and_then(|message| Ok(lineage("PublishBundleRequest", message.lineage)?));
        read.map(Some).with_context(|| {
            format!(
                "{} is damaged: restore it from a backup; without it, remove it, have every other member run fedctl trust accept, and join again",
                self.lineage.display()
            )
        })
    }

    pub(super) fn keep_lineage(&self, lineage: &Lineage) -> Result<(), StateError> {
        let lineage = lineage.versions().iter().map(Into::into).collect();
        state::write_private(&self.lineage, &v1::PublishBundleRequest { lineage }.encode_to_vec())
    }
}
