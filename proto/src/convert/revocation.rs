//! Revocations, between messages of the federation service and values of the model.
//!
//! Owns their form on the wire, and how far a member is with one. Never decides what may be revoked.

use std::sync::Arc;

use federation_model::{
    names::ClusterName,
    revocation::{Line, Revocation, Revocations, Serial, Subject},
    spiffe::{TrustDomain, parse_workload_id},
    time::Timestamp,
};

use super::ConvertError;
use crate::federation::v1 as wire;

/// What an operator asks to revoke: of a cluster only the name is known there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A member of the set.
    Cluster(ClusterName),
    /// Anything that names its trust domain itself.
    Subject(Subject),
}

/// How far a member is with a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All of its gateways that watch have applied it, and cut what it revokes.
    Acknowledged,
    /// It watches, and has not acknowledged yet.
    Pending,
    /// None of its gateways watches.
    Away,
    /// It is no member any more.
    Gone,
}

impl From<&Revocation> for wire::Revocation {
    fn from(revocation: &Revocation) -> Self {
        let subject = match &revocation.subject {
            Subject::Cluster { cluster, trust_domain } => wire::revocation::Subject::Cluster(wire::RevokedCluster {
                cluster: cluster.to_string(),
                trust_domain: trust_domain.to_string(),
            }),
            Subject::Id(id) => wire::revocation::Subject::SpiffeId(id.to_string()),
            Subject::Prefix(prefix) => wire::revocation::Subject::Prefix(prefix.to_string()),
            Subject::Serial { trust_domain, serial } => {
                wire::revocation::Subject::Serial(serial_message(trust_domain, serial))
            }
        };
        Self {
            id: revocation.id.to_string(),
            subject: Some(subject),
            reason: revocation.reason.to_string(),
            by: revocation.by.to_string(),
            at: revocation.at.0,
        }
    }
}

impl TryFrom<wire::Revocation> for Revocation {
    type Error = ConvertError;
    fn try_from(message: wire::Revocation) -> Result<Self, ConvertError> {
        const NAME: &str = "Revocation";
        let subject = match message.subject {
            Some(wire::revocation::Subject::Cluster(cluster)) => Subject::Cluster {
                cluster: cluster.cluster.parse().map_err(ConvertError::of(NAME, "cluster"))?,
                trust_domain: domain(NAME, "cluster", &cluster.trust_domain)?,
            },
            Some(wire::revocation::Subject::SpiffeId(id)) => spiffe_id(NAME, &id)?,
            Some(wire::revocation::Subject::Prefix(prefix)) => id_prefix(NAME, &prefix)?,
            Some(wire::revocation::Subject::Serial(serial)) => serial_of(NAME, &serial)?,
            None => return Err(no_subject(NAME)),
        };
        Ok(Self {
            id: message.id.parse().map_err(ConvertError::of(NAME, "id"))?,
            subject,
            reason: message.reason.parse().map_err(ConvertError::of(NAME, "reason"))?,
            by: message.by.parse().map_err(ConvertError::of(NAME, "by"))?,
            at: Timestamp(message.at),
        })
    }
}

/// The messages of a set.
#[must_use]
pub fn messages(revocations: &Revocations) -> Vec<wire::Revocation> {
    revocations.iter().map(|revocation| (&**revocation).into()).collect()
}

/// The set of these messages.
///
/// # Errors
/// When one does not convert, or there are too many.
pub fn set(messages: Vec<wire::Revocation>) -> Result<Revocations, ConvertError> {
    let mut set = Revocations::default();
    for message in messages {
        set.add(Arc::new(message.try_into()?)).map_err(ConvertError::of("JoinResponse", "revocations"))?;
    }
    Ok(set)
}

impl Asked {
    /// The message that asks for it.
    #[must_use]
    pub fn message(&self, reason: &Line) -> wire::RevokeRequest {
        use wire::revoke_request::Subject as Message;
        let subject = match self {
            Self::Cluster(cluster) | Self::Subject(Subject::Cluster { cluster, .. }) => {
                Message::Cluster(cluster.to_string())
            }
            Self::Subject(Subject::Id(id)) => Message::SpiffeId(id.to_string()),
            Self::Subject(Subject::Prefix(prefix)) => Message::Prefix(prefix.to_string()),
            Self::Subject(Subject::Serial { trust_domain, serial }) => {
                Message::Serial(serial_message(trust_domain, serial))
            }
        };
        wire::RevokeRequest { subject: Some(subject), reason: reason.to_string() }
    }
}

/// What is asked, and why.
///
/// # Errors
/// When it does not convert.
pub fn asked(request: wire::RevokeRequest) -> Result<(Asked, Line), ConvertError> {
    use wire::revoke_request::Subject as Message;
    const NAME: &str = "RevokeRequest";
    let asked = match request.subject {
        Some(Message::Cluster(cluster)) => Asked::Cluster(cluster.parse().map_err(ConvertError::of(NAME, "cluster"))?),
        Some(Message::SpiffeId(id)) => Asked::Subject(spiffe_id(NAME, &id)?),
        Some(Message::Prefix(prefix)) => Asked::Subject(id_prefix(NAME, &prefix)?),
        Some(Message::Serial(serial)) => Asked::Subject(serial_of(NAME, &serial)?),
        None => return Err(no_subject(NAME)),
    };
    Ok((asked, request.reason.parse().map_err(ConvertError::of(NAME, "reason"))?))
}

impl From<Standing> for wire::AcknowledgementState {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Acknowledged => Self::Acknowledged,
            Standing::Pending => Self::Pending,
            Standing::Away => Self::Away,
            Standing::Gone => Self::Gone,
        }
    }
}

/// How far the member of an acknowledgement is.
///
/// # Errors
/// When this version does not know it.
pub fn standing(message: &wire::Acknowledgement) -> Result<Standing, ConvertError> {
    match message.state() {
        wire::AcknowledgementState::Acknowledged => Ok(Standing::Acknowledged),
        wire::AcknowledgementState::Pending => Ok(Standing::Pending),
        wire::AcknowledgementState::Away => Ok(Standing::Away),
        wire::AcknowledgementState::Gone => Ok(Standing::Gone),
        wire::AcknowledgementState::Unspecified => {
            Err(ConvertError::new("Acknowledgement", "state", "it is missing, or unknown to this version"))
        }
    }
}

fn no_subject(message: &'static str) -> ConvertError {
    ConvertError::new(message, "subject", "it is missing, or of a kind this version does not know")
}

fn domain(message: &'static str, field: &'static str, text: &str) -> Result<TrustDomain, ConvertError> {
    TrustDomain::new(text).map_err(ConvertError::of(message, field))
}

fn spiffe_id(message: &'static str, text: &str) -> Result<Subject, ConvertError> {
    parse_workload_id(text).map(Subject::Id).map_err(ConvertError::of(message, "spiffe_id"))
}

fn id_prefix(message: &'static str, text: &str) -> Result<Subject, ConvertError> {
    if !text.ends_with("/*") {
        return Err(ConvertError::new(message, "prefix", "it does not end with /*"));
    }
    text.parse().map(Subject::Prefix).map_err(ConvertError::of(message, "prefix"))
}

fn serial_message(trust_domain: &TrustDomain, serial: &Serial) -> wire::RevokedSerial {
    wire::RevokedSerial { trust_domain: trust_domain.to_string(), serial: serial.to_string() }
}

fn serial_of(message: &'static str, serial: &wire::RevokedSerial) -> Result<Subject, ConvertError> {
    Ok(Subject::Serial {
        trust_domain: domain(message, "serial", &serial.trust_domain)?,
        serial: serial.serial.parse().map_err(ConvertError::of(message, "serial"))?,
    })
}

#[cfg(test)]
mod tests;
