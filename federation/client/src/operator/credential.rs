//! The credential of an operator: three files in a directory.
//!
//! Owns reading them. Never writes them, never shows the key.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use federation_model::{bundle::TrustBundle, spiffe::SpiffeId, time::Timestamp};
use federation_pki::svid::{Svid, SvidError};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// Certificates and keys are a few KiB.
const MAX_FILE: u64 = 1 << 20;

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is not there.
    #[error(
        "there is no operator credential in {}: landbridge-federation writes one to <store>/operator at its first start; name that directory, or a copy, with --operator DIR", .0.display()
    )]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read the key.
    #[error("{} may be read by others: run `chmod 600 {}`", .0.display(), .0.display())]
    Shared(PathBuf),
    /// The certificate or its key.
    #[error("the credential in {} is not usable: {error}", .path.display())]
    Svid {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: SvidError,
    },
    /// The authorities.
    #[error("{} is not usable: {reason}", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// `ca.crt`, `tls.crt` and `tls.key` of a directory.
#[derive(Debug)]
pub struct Credential {
    pub(super) svid: Svid,
    pub(super) federation: TrustBundle,
}

impl Credential {
    /// Reads the three files.
    ///
    /// # Errors
    /// When one is missing, is not usable, or the key is open to others.
    pub fn load(directory: &Path) -> Result<Self, CredentialError> {
        let certificate = read(directory, "tls.crt", false)?;
        let key = read(directory, "tls.key", true)?;
        let svid = Svid::from_pem(&certificate, &key)
            .map_err(|error| CredentialError::Svid { path: directory.to_owned(), error })?;
        let authorities = authorities(directory)?;
        let federation = TrustBundle { trust_domain: svid.id().trust_domain().clone(), sequence: 0, authorities };
        Ok(Self { svid, federation })
    }

    /// Who the operator is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        self.svid.id()
    }

    /// Its certificate, then those above it.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.svid.chain()
    }

    /// When the credential ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.svid.not_after()
    }
}

/// The authorities of the federation service in `ca.crt` of a credential's directory; the key is not needed for them.
///
/// # Errors
/// When the file is missing or holds no certificate.
pub fn authorities(directory: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let text = read(directory, "ca.crt", false)?;
    let unusable = |reason| CredentialError::Authorities { path: directory.join("ca.crt"), reason };
    let authorities: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if authorities.is_empty() { Err(unusable("it holds no certificate".to_owned())) } else { Ok(authorities) }
}

fn read(directory: &Path, name: &str, secret: bool) -> Result<String, CredentialError> {
    let path = directory.join(name);
    let unreadable = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            CredentialError::Missing(directory.to_owned())
        } else {
            CredentialError::Unreadable { path: path.clone(), error }
        }
    };
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if secret && metadata.permissions().mode() & 0o077 != 0 {
        return Err(CredentialError::Shared(path));
    }
    if metadata.len() > MAX_FILE {
        return Err(unreadable(io::Error::other(format!("it has more than {MAX_FILE} bytes"))));
    }
    std::fs::read_to_string(&path).map_err(unreadable)
}
