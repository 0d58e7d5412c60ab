//! How members, tokens, bundles and revocations are written into the store.
//!
//! Owns their JSON. Never accepts a value the model would not build.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use federation_model::{
    addr::GatewayAddr,
    bundle::TrustBundle,
    member::Member,
    names::ClusterName,
    revocation::{IdPrefix, Line, Revocation, RevocationId, Serial, Subject},
    spiffe::{SpiffeId, TrustDomain, as_text},
    time::Timestamp,
};
use federation_pki::token::{SecretHash, TokenId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::state::{MemberRecord, TokenRecord};

#[derive(Serialize, Deserialize)]
pub(super) struct StoredBundle {
    #[serde(with = "as_text")]
    trust_domain: TrustDomain,
    sequence: u64,
    /// DER in base64.
    authorities: Vec<String>,
}

impl StoredBundle {
    fn of(bundle: &TrustBundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain.clone(),
            sequence: bundle.sequence,
            authorities: bundle.authorities.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
        }
    }

    fn into_bundle(self) -> Result<TrustBundle, String> {
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
        })
    }

    pub(super) fn parse(text: &str) -> Result<MemberRecord, String> {
        let stored: Self = parsed(text)?;
        let member = Member {
            cluster: stored.cluster,
            gateway_id: stored.gateway_id,
            advertise: stored.advertise,
            bundle: stored.bundle.into_bundle()?,
            region: stored.region,
            zone: stored.zone,
            joined_at: stored.joined_at,
        };
        Ok(MemberRecord { member, software: stored.software, token: stored.token })
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
            Subject::Cluster { cluster, trust_domain } => StoredSubject::Cluster { cluster, trust_domain },
            Subject::Id(id) => StoredSubject::Id(id),
            Subject::Prefix(prefix) => StoredSubject::Prefix(prefix),
            Subject::Serial { trust_domain, serial } => StoredSubject::Serial { trust_domain, serial },
        };
        let Revocation { id, reason, by, at, .. } = revocation.clone();
        json(&Self { id, subject, reason, by, at })
    }

    pub(super) fn parse(text: &str) -> Result<Revocation, String> {
        let Self { id, subject, reason, by, at } = parsed(text)?;
        let subject = match subject {
            StoredSubject::Cluster { cluster, trust_domain } => Subject::Cluster { cluster, trust_domain },
            StoredSubject::Id(id) => Subject::Id(id),
            StoredSubject::Prefix(prefix) => Subject::Prefix(prefix),
            StoredSubject::Serial { trust_domain, serial } => Subject::Serial { trust_domain, serial },
        };
        Ok(Revocation { id, subject, reason, by, at })
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("structs of strings and numbers always have a JSON form")
}

fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}
