//! Members, bundles and findings, between messages of the federation service and values of the model.
//!
//! Owns their form on the wire and the reasons of a refusal. Never checks a certificate: bundles are bytes here.

use std::sync::Arc;

use federation_model::{
    bundle::{MAX_AUTHORITIES, TrustBundle},
    finding::{Finding, Level},
    member::{Change, MAX_ADVERTISED, Member},
    names::ClusterName,
    spiffe::{TrustDomain, parse_workload_id},
    time::Timestamp,
};

use super::ConvertError;
use crate::federation::v1 as wire;

mod lineage;
mod refusal;

pub use lineage::lineage;
pub use refusal::{REFUSAL_KEY, Refusal, STORE_KEY};

/// The version of the protocol between members and the federation service.
pub const PROTOCOL: u32 = 1;
/// The most bytes of all authorities of one bundle: sixteen of 2 KiB.
pub const MAX_BUNDLE: usize = 32 * 1024;
/// The longest region or zone, in bytes: they are labels in Kubernetes.
pub const MAX_LOCALITY: usize = 63;
/// The longest text that names a program and its version, in bytes.
pub const MAX_SOFTWARE: usize = 128;
/// The most members of one set.
pub const MAX_MEMBERS: usize = 1000;

impl From<&TrustBundle> for wire::Bundle {
    fn from(bundle: &TrustBundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain.to_string(),
            sequence: bundle.sequence,
            authorities: bundle.authorities.iter().map(|der| der.to_vec().into()).collect(),
        }
    }
}

impl TryFrom<wire::Bundle> for TrustBundle {
    type Error = ConvertError;
    fn try_from(bundle: wire::Bundle) -> Result<Self, ConvertError> {
        let fail = |reason: String| ConvertError::new("Bundle", "authorities", reason);
        if bundle.authorities.len() > MAX_AUTHORITIES {
            return Err(fail(format!("{} of them, {MAX_AUTHORITIES} are accepted", bundle.authorities.len())));
        }
        let size: usize = bundle.authorities.iter().map(|der| der.len()).sum();
        if size > MAX_BUNDLE {
            return Err(fail(format!("{size} bytes, {MAX_BUNDLE} are accepted")));
        }
        Ok(Self {
            trust_domain: TrustDomain::new(&bundle.trust_domain).map_err(ConvertError::of("Bundle", "trust_domain"))?,
            sequence: bundle.sequence,
            authorities: bundle.authorities.iter().map(|der| der.to_vec().into()).collect(),
        })
    }
}

impl From<&Member> for wire::Member {
    fn from(member: &Member) -> Self {
        Self {
            cluster: member.cluster.to_string(),
            gateway_id: member.gateway_id.to_string(),
            advertise: member.advertise.iter().map(ToString::to_string).collect(),
            bundle: Some((&member.bundle).into()),
            region: member.region.clone(),
            zone: member.zone.clone(),
            joined_at: member.joined_at.0,
            lineage: member.lineage.versions().iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Member> for Member {
    type Error = ConvertError;
    fn try_from(member: wire::Member) -> Result<Self, ConvertError> {
        let bundle: TrustBundle =
            member.bundle.ok_or_else(|| ConvertError::new("Member", "bundle", "it is missing"))?.try_into()?;
        let gateway_id = parse_workload_id(&member.gateway_id).map_err(ConvertError::of("Member", "gateway_id"))?;
        if *gateway_id.trust_domain() != bundle.trust_domain {
            let reason = format!("{gateway_id} lies outside the trust domain {} of the bundle", bundle.trust_domain);
            return Err(ConvertError::new("Member", "gateway_id", reason));
        }
        let cluster = member.cluster.parse().map_err(ConvertError::of("Member", "cluster"))?;
        let lineage = lineage("Member", member.lineage)?;
        if let Some(newest) = lineage.newest() {
            let spoken = (&newest.cluster, &newest.gateway_id, &newest.bundle);
            if spoken != (&cluster, &gateway_id, &bundle) {
                return Err(ConvertError::new("Member", "lineage", "its newest version says something else"));
            }
        }
        Ok(Self {
            cluster,
            gateway_id,
            advertise: advertised("Member", &member.advertise)?,
            bundle,
            lineage,
            region: locality("Member", "region", member.region)?,
            zone: locality("Member", "zone", member.zone)?,
            joined_at: Timestamp(member.joined_at),
        })
    }
}

/// Converts the addresses a member announces.
///
/// # Errors
/// When there are too many, or one is no address.
pub fn advertised(
    message: &'static str,
    texts: &[String],
) -> Result<Vec<federation_model::addr::GatewayAddr>, ConvertError> {
    if texts.len() > MAX_ADVERTISED {
        let reason = format!("{} addresses, {MAX_ADVERTISED} are accepted", texts.len());
        return Err(ConvertError::new(message, "advertise", reason));
    }
    texts.iter().map(|text| text.parse().map_err(ConvertError::of(message, "advertise"))).collect()
}

/// Converts a region or a zone.
///
/// # Errors
/// When it is too long or has control characters.
pub fn locality(message: &'static str, field: &'static str, text: String) -> Result<String, ConvertError> {
    line(message, field, text, MAX_LOCALITY)
}

/// Converts the name and version of a program.
///
/// # Errors
/// When it is too long or has control characters.
pub fn software(message: &'static str, text: String) -> Result<String, ConvertError> {
    line(message, "software", text, MAX_SOFTWARE)
}

fn line(message: &'static str, field: &'static str, text: String, max: usize) -> Result<String, ConvertError> {
    if text.len() > max {
        return Err(ConvertError::new(message, field, format!("{} bytes, {max} are accepted", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(ConvertError::new(message, field, "control characters are not accepted"));
    }
    Ok(text)
}

impl From<&Change> for wire::Change {
    fn from(change: &Change) -> Self {
        let change = match change {
            Change::Upsert(member) => wire::change::Change::Upsert(member.into()),
            Change::Removed(cluster) => wire::change::Change::Removed(cluster.to_string()),
            Change::Federation(bundle) => wire::change::Change::Federation(bundle.into()),
            Change::Foreign(bundle) => wire::change::Change::Foreign(bundle.into()),
            Change::ForeignRemoved(trust_domain) => wire::change::Change::ForeignRemoved(trust_domain.to_string()),
            Change::Revoked(revocation) => wire::change::Change::Revoked((&**revocation).into()),
            Change::Reinstated(id) => wire::change::Change::Reinstated(id.to_string()),
        };
        Self { change: Some(change) }
    }
}

impl TryFrom<wire::Change> for Change {
    type Error = ConvertError;
    fn try_from(change: wire::Change) -> Result<Self, ConvertError> {
        match change.change {
            Some(wire::change::Change::Upsert(member)) => Ok(Self::Upsert(member.try_into()?)),
            Some(wire::change::Change::Removed(cluster)) => {
                let cluster: ClusterName = cluster.parse().map_err(ConvertError::of("Change", "removed"))?;
                Ok(Self::Removed(cluster))
            }
            Some(wire::change::Change::Federation(bundle)) => Ok(Self::Federation(bundle.try_into()?)),
            Some(wire::change::Change::Foreign(bundle)) => Ok(Self::Foreign(bundle.try_into()?)),
            Some(wire::change::Change::ForeignRemoved(trust_domain)) => TrustDomain::new(&trust_domain)
                .map(Self::ForeignRemoved)
                .map_err(ConvertError::of("Change", "foreign_removed")),
            Some(wire::change::Change::Revoked(revocation)) => Ok(Self::Revoked(Arc::new(revocation.try_into()?))),
            Some(wire::change::Change::Reinstated(id)) => {
                id.parse().map(Self::Reinstated).map_err(ConvertError::of("Change", "reinstated"))
            }
            None => {
                Err(ConvertError::new("Change", "change", "it is missing, or of a kind this version does not know"))
            }
        }
    }
}

impl From<&Finding> for wire::Finding {
    fn from(finding: &Finding) -> Self {
        let level = match finding.level {
            Level::Ok => wire::Level::Ok,
            Level::Warning => wire::Level::Warning,
            Level::Failed => wire::Level::Failed,
        };
        Self {
            check: finding.check.clone(),
            level: level.into(),
            detail: finding.detail.clone(),
            hint: finding.hint.clone(),
        }
    }
}

impl TryFrom<wire::Finding> for Finding {
    type Error = ConvertError;
    fn try_from(finding: wire::Finding) -> Result<Self, ConvertError> {
        let level = match finding.level() {
            wire::Level::Ok => Level::Ok,
            wire::Level::Warning => Level::Warning,
            wire::Level::Failed => Level::Failed,
            wire::Level::Unspecified => {
                return Err(ConvertError::new("Finding", "level", "it is missing, or unknown to this version"));
            }
        };
        Ok(Self { check: finding.check, level, detail: finding.detail, hint: finding.hint })
    }
}

#[cfg(test)]
mod tests;
