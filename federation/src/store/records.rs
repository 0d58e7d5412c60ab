//! How members, tokens, bundles and revocations are written into the store.
//!
//! Owns their JSON. Never accepts a value the model would not build.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use federation_model::{
    addr::GatewayAddr,
    bundle::TrustBundle,
    lineage::{BundleDigest, Lineage, SignedBundle},
    member::Member,
    names::ClusterName,
    revocation::{self, IdPrefix, Line, Revocation, RevocationId, Serial},
    spiffe::{SpiffeId, TrustDomain, as_text},
    time::Timestamp,
};
use federation_pki::token::{SecretHash, TokenId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::state::{MemberRecord, Subject, TokenRecord};

#[derive(Serialize, Deserialize)]
pub(super) struct StoredBundle {
    #[serde(with = "as_text")]
    trust_domain: TrustDomain,
    sequence: u64,
    /// DER in base64.
    authorities: Vec<String>,
}

impl StoredBundle {
    pub(super) fn of(bundle: &TrustBundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain.clone(),
            sequence: bundle.sequence,
            authorities: bundle.authorities.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
        }
    }

    pub(super) fn into_bundle(self) -> Result<TrustBundle, String> {
        let authorities = self.authorities.iter().map(|text| BASE64_STANDARD.decode(text).map(Into::into));
        Ok(TrustBundle {
            trust_domain: self.trust_domain,
            sequence: self.sequence,
            authorities: authorities.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
        })
    }

    pub(super) fn text(bundle: &TrustBundle) -> String {
        json(&Self::of(bundle))
    }

    pub(super) fn parse(text: &str) -> Result<TrustBundle, String> {
        parsed::<Self>(text)?.into_bundle()
    }
}

/// Before the name of a foreign trust domain in the log of changes; no name of a cluster has a colon.
const FOREIGN: &str = "foreign:";
/// Before the id of a revocation there.
const REVOCATION: &str = "revocation:";

/// How a subject stands in the log of changes: the name of a cluster, nothing for the service, `foreign:` and a trust domain,
/// `revocation:` and an id.
pub(super) fn subject_text(subject: &Subject) -> String {
    match subject {
        Subject::Member(cluster) => cluster.to_string(),
        Subject::Federation => String::new(),
        Subject::Foreign(trust_domain) => format!("{FOREIGN}{trust_domain}"),
        Subject::Revocation(id) => format!("{REVOCATION}{id}"),
    }
}

pub(super) fn subject(text: &str) -> Result<Subject, String> {
    if let Some(name) = text.strip_prefix(FOREIGN) {
        return TrustDomain::new(name).map(Subject::Foreign).map_err(|error| error.to_string());
    }
    if let Some(id) = text.strip_prefix(REVOCATION) {
        return id.parse().map(Subject::Revocation).map_err(|error| format!("{id:?} is not an id: {error}"));
    }
    if text.is_empty() {
        return Ok(Subject::Federation);
    }
    text.parse::<ClusterName>().map(Subject::Member).map_err(|error| error.to_string())
}

#[derive(Serialize, Deserialize)]
struct StoredVersion {
    cluster: ClusterName,
    #[serde(with = "as_text")]
    gateway_id: SpiffeId,
    bundle: StoredBundle,
    /// SHA-256 in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    signed_at: Timestamp,
    /// DER in base64.
    signer: Vec<String>,
    /// Base64.
    signature: String,
}

impl StoredVersion {
    fn of(signed: &SignedBundle) -> Self {
        Self {
            cluster: signed.cluster.clone(),
            gateway_id: signed.gateway_id.clone(),
            bundle: StoredBundle::of(&signed.bundle),
            previous: signed.previous.map(|digest| BASE64_STANDARD.encode(digest.as_bytes())),
            signed_at: signed.signed_at,
            signer: signed.signer.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
            signature: BASE64_STANDARD.encode(&signed.signature),
        }
    }

    fn into_signed(self) -> Result<SignedBundle, String> {
        let decode = |text: &String| BASE64_STANDARD.decode(text).map_err(|error| error.to_string());
        let previous = match &self.previous {
            Some(text) => {
                let bytes = decode(text)?.try_into().map_err(|_| "the digest has another length".to_owned())?;
                Some(BundleDigest::from_bytes(bytes))
            }
            None => None,
        };
        Ok(SignedBundle {
            signer: self.signer.iter().map(|text| decode(text).map(Into::into)).collect::<Result<_, _>>()?,
            signature: decode(&self.signature)?,
            cluster: self.cluster,
            gateway_id: self.gateway_id,
            bundle: self.bundle.into_bundle()?,
            previous,
            signed_at: self.signed_at,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredMember {
    cluster: ClusterName,
    #[serde(with = "as_text")]
    gateway_id: SpiffeId,
    advertise: Vec<GatewayAddr>,
    bundle: StoredBundle,
    region: String,
    zone: String,
    joined_at: Timestamp,
    software: String,
    token: TokenId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lineage: Vec<StoredVersion>,
    /// Not there for those that joined before there was approval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
}

impl StoredMember {
    pub(super) fn text(record: &MemberRecord) -> String {
        let member = &record.member;
        json(&Self {
            cluster: member.cluster.clone(),
            gateway_id: member.gateway_id.clone(),
            advertise: member.advertise.clone(),
            bundle: StoredBundle::of(&member.bundle),
            region: member.region.clone(),
            zone: member.zone.clone(),
            joined_at: member.joined_at,
            software: record.software.clone(),
            token: record.token,
            lineage: member.lineage.versions().iter().map(StoredVersion::of).collect(),
            pending: record.pending,
        })
    }

    pub(super) fn parse(text: &str) -> Result<MemberRecord, String> {
        let stored: Self = parsed(text)?;
        let versions = stored.lineage.into_iter().map(StoredVersion::into_signed);
        let member = Member {
            lineage: Lineage::new(versions.collect::<Result<_, _>>()?),
            cluster: stored.cluster,
            gateway_id: stored.gateway_id,
            advertise: stored.advertise,
            bundle: stored.bundle.into_bundle()?,
            region: stored.region,
            zone: stored.zone,
            joined_at: stored.joined_at,
        };
        Ok(MemberRecord { member, software: stored.software, token: stored.token, pending: stored.pending })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredToken {
    id: TokenId,
    cluster: ClusterName,
    /// Base64.
    secret_hash: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
}

impl StoredToken {
    pub(super) fn text(record: &TokenRecord) -> String {
        json(&Self {
            id: record.id,
            cluster: record.cluster.clone(),
            secret_hash: BASE64_STANDARD.encode(record.secret.as_bytes()),
            created_at: record.created_at,
            expires_at: record.expires_at,
            used_at: record.used_at,
            revoked_at: record.revoked_at,
        })
    }

    pub(super) fn parse(text: &str) -> Result<TokenRecord, String> {
        let stored: Self = parsed(text)?;
        let hash = BASE64_STANDARD.decode(&stored.secret_hash).map_err(|error| error.to_string())?;
        let hash = hash.try_into().map_err(|_| "the hash has another length".to_owned())?;
        Ok(TokenRecord {
            id: stored.id,
            cluster: stored.cluster,
            secret: SecretHash::from_bytes(hash),
            created_at: stored.created_at,
            expires_at: stored.expires_at,
            used_at: stored.used_at,
            revoked_at: stored.revoked_at,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct StoredRevocation {
    id: RevocationId,
    subject: StoredSubject,
    reason: Line,
    by: Line,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoredSubject {
    Cluster {
        cluster: ClusterName,
        #[serde(with = "as_text")]
        trust_domain: TrustDomain,
    },
    Id(#[serde(with = "as_text")] SpiffeId),
    Prefix(#[serde(with = "as_text")] IdPrefix),
    Serial {
        #[serde(with = "as_text")]
        trust_domain: TrustDomain,
        serial: Serial,
    },
}

impl StoredRevocation {
    pub(super) fn text(revocation: &Revocation) -> String {
        let subject = match revocation.subject.clone() {
            revocation::Subject::Cluster { cluster, trust_domain } => StoredSubject::Cluster { cluster, trust_domain },
            revocation::Subject::Id(id) => StoredSubject::Id(id),
            revocation::Subject::Prefix(prefix) => StoredSubject::Prefix(prefix),
            revocation::Subject::Serial { trust_domain, serial } => StoredSubject::Serial { trust_domain, serial },
        };
        let Revocation { id, reason, by, at, .. } = revocation.clone();
        json(&Self { id, subject, reason, by, at })
    }

    pub(super) fn parse(text: &str) -> Result<Revocation, String> {
        let Self { id, subject, reason, by, at } = parsed(text)?;
        let subject = match subject {
            StoredSubject::Cluster { cluster, trust_domain } => revocation::Subject::Cluster { cluster, trust_domain },
            StoredSubject::Id(id) => revocation::Subject::Id(id),
            StoredSubject::Prefix(prefix) => revocation::Subject::Prefix(prefix),
            StoredSubject::Serial { trust_domain, serial } => revocation::Subject::Serial { trust_domain, serial },
        };
        Ok(Revocation { id, subject, reason, by, at })
    }
}

pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("structs of strings and numbers always have a JSON form")
}

pub(super) fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
