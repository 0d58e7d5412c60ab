//! Identity from a directory in the layout of a Kubernetes TLS Secret: `tls.crt`, `tls.key`, `ca.crt`.
//!
//! Owns the reading of the directory; when to read it, [`Followed`] says. An update that is not complete yet (the certificate
//! new, the key still old) is given a few seconds. Never writes there.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::bail;
use federation_model::spiffe::SpiffeId;
use federation_pki::{
    SecretPem,
    material::{Material, MaterialError, SecretTexts},
};
use federation_runtime::{
    followed::{Followed, LOOK_AGAIN, Settling, Verdict},
    state::{self, StateError},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Feed, Outlet};

/// A directory that has given its first material.
#[derive(Debug)]
pub struct FileSource {
    place: Place,
    outlet: Outlet,
}

/// Where to read, and whose the material must be.
#[derive(Debug, Clone)]
struct Place {
    dir: PathBuf,
    gateway_id: SpiffeId,
}

impl FileSource {
    /// Reads the directory until it gives something usable, for as long as an update may take to be complete.
    ///
    /// # Errors
    /// When it gives nothing usable.
    pub async fn open(dir: PathBuf, gateway_id: SpiffeId) -> anyhow::Result<Self> {
        let place = Place { dir, gateway_id };
        let mut settling = Settling::default();
        loop {
            let Some(reading) = place.read().await else { bail!("the program is ending") };
            match settling.handle_reading(reading, Instant::now()) {
                Verdict::Usable(material) => return Ok(Self { place, outlet: Outlet::new(material) }),
                Verdict::Doubtful => tokio::time::sleep(LOOK_AGAIN).await,
                Verdict::Faulty(fault) => bail!("identity.source is \"files\", and {fault}"),
            }
        }
    }

    /// What it says.
    #[must_use]
    pub fn feed(&self) -> Feed {
        self.outlet.feed()
    }

    /// Follows the directory until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { place, outlet } = self;
        let mut followed = Followed::at(&place.dir);
        loop {
            let Some(reading) = place.read().await else { return };
            match followed.handle_reading(reading) {
                Verdict::Usable(material) => outlet.publish(material),
                Verdict::Doubtful => {}
                Verdict::Faulty(fault) => outlet.report(fault),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = followed.changed() => {}
            }
        }
    }
}

/// Why a directory gives nothing usable at one moment.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the files of identity.dir cannot be read: {0}")]
    File(#[from] StateError),
    #[error("what is in identity.dir ({}) cannot be used: {reason}", dir.display())]
    Material { dir: PathBuf, reason: Box<MaterialError> },
}

impl Place {
    /// Reads and judges where blocking is allowed; nothing when the runtime is shutting down.
    async fn read(&self) -> Option<Result<Material, ReadError>> {
        let place = self.clone();
        match tokio::task::spawn_blocking(move || place.read_blocking(SystemTime::now())).await {
            Ok(reading) => Some(reading),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    fn read_blocking(&self, now: SystemTime) -> Result<Material, ReadError> {
        let certificate = state::read_text(&self.dir.join("tls.crt"))?;
        let key = SecretPem::new(state::read_mounted_key(&self.dir.join("tls.key"))?);
        let authorities = optional(&self.dir.join("ca.crt"))?;
        let texts = SecretTexts { certificate: &certificate, key: key.expose(), authorities: authorities.as_deref() };
        Material::from_secret(texts, &self.gateway_id, now.into())
            .map_err(|reason| ReadError::Material { dir: self.dir.clone(), reason: reason.into() })
    }
}

fn optional(path: &Path) -> Result<Option<String>, StateError> {
    match state::read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(StateError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
