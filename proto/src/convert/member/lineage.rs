//! The versions of trust bundles, between messages and values.
//!
//! Owns their form on the wire. Never verifies a signature.

use federation_model::{
    lineage::{BundleDigest, Lineage, MAX_LINEAGE, MAX_VERSIONS, SignedBundle},
    spiffe::parse_workload_id,
    time::Timestamp,
};

use super::ConvertError;
use crate::federation::v1 as wire;

/// The longest signature: RSA-4096, and room.
const MAX_SIGNATURE: usize = 1024;
/// The most certificates of a signer: a leaf and three above it.
const MAX_SIGNER: usize = 4;

impl From<&SignedBundle> for wire::SignedBundle {
    fn from(signed: &SignedBundle) -> Self {
        Self {
            cluster: signed.cluster.to_string(),
            gateway_id: signed.gateway_id.to_string(),
            bundle: Some((&signed.bundle).into()),
            previous: signed.previous.map(|digest| digest.as_bytes().to_vec()).unwrap_or_default().into(),
            signed_at: signed.signed_at.0,
            signer: signed.signer.iter().map(|der| der.to_vec().into()).collect(),
            signature: signed.signature.clone().into(),
        }
    }
}

impl TryFrom<wire::SignedBundle> for SignedBundle {
    type Error = ConvertError;
    fn try_from(signed: wire::SignedBundle) -> Result<Self, ConvertError> {
        let fail = |field, reason: &str| ConvertError::new("SignedBundle", field, reason);
        let bundle = signed.bundle.ok_or_else(|| fail("bundle", "it is missing"))?.try_into()?;
        let previous = match signed.previous.as_ref() {
            [] => None,
            bytes => {
                let bytes = bytes.try_into().map_err(|_| fail("previous", "it is not a SHA-256"))?;
                Some(BundleDigest::from_bytes(bytes))
            }
        };
        if signed.signature.len() > MAX_SIGNATURE {
            return Err(fail("signature", "it is too long"));
        }
        if signed.signer.len() > MAX_SIGNER {
            return Err(fail("signer", "it has too many certificates"));
        }
        Ok(Self {
            cluster: signed.cluster.parse().map_err(ConvertError::of("SignedBundle", "cluster"))?,
            gateway_id: parse_workload_id(&signed.gateway_id)
                .map_err(ConvertError::of("SignedBundle", "gateway_id"))?,
            bundle,
            previous,
            signed_at: Timestamp(signed.signed_at),
            signer: signed.signer.iter().map(|der| der.to_vec().into()).collect(),
            signature: signed.signature.to_vec(),
        })
    }
}

/// Converts the versions of a trust bundle, oldest first.
///
/// # Errors
/// When there are too many, they are too large, or one does not convert.
pub fn lineage(message: &'static str, versions: Vec<wire::SignedBundle>) -> Result<Lineage, ConvertError> {
    if versions.len() > MAX_VERSIONS {
        let reason = format!("{} versions, {MAX_VERSIONS} are accepted", versions.len());
        return Err(ConvertError::new(message, "lineage", reason));
    }
    let versions: Vec<SignedBundle> = versions.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
    let (count, lineage) = (versions.len(), Lineage::new(versions));
    if lineage.versions().len() == count {
        return Ok(lineage);
    }
    Err(ConvertError::new(message, "lineage", format!("its certificates take more than {MAX_LINEAGE} bytes")))
}
