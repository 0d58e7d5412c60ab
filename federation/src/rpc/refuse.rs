//! Refusals as gRPC statuses.
//!
//! Owns which code goes with which reason. Never words a refusal.

use proto::convert::{
    ConvertError,
    member::{REFUSAL_KEY, Refusal},
};
use tonic::{Code, Status, metadata::MetadataValue};

/// A status that carries the reason for programs, and the words for people.
pub(super) fn status(refusal: Refusal, message: impl Into<String>) -> Status {
    let mut status = Status::new(code(refusal), message);
    status.metadata_mut().insert(REFUSAL_KEY, MetadataValue::from_static(refusal.label()));
    status
}

/// A message that does not convert.
pub(super) fn invalid(error: &ConvertError) -> Status {
    status(Refusal::Invalid, format!("the request is not usable ({error}): are both sides of the same version?"))
}

fn code(refusal: Refusal) -> Code {
    match refusal {
        Refusal::TokenUnknown
        | Refusal::ProofInvalid
        | Refusal::NotAMember
        | Refusal::NotAnOperator
        | Refusal::Revoked => Code::PermissionDenied,
        Refusal::TokenExpired
        | Refusal::TokenUsed
        | Refusal::TokenRevoked
        | Refusal::TokenForAnotherCluster
        | Refusal::ClockSkew
        | Refusal::AuthorityNotExternal
        | Refusal::Version
        | Refusal::NoAddress
        | Refusal::AnotherAuthority
        | Refusal::Rewound
        | Refusal::OwnIdentity => Code::FailedPrecondition,
        Refusal::ClusterTaken | Refusal::TrustDomainTaken => Code::AlreadyExists,
        Refusal::BundleInvalid | Refusal::BundleRefused | Refusal::Invalid => Code::InvalidArgument,
        Refusal::SetFull
        | Refusal::TooManyTokens
        | Refusal::TooManyAttempts
        | Refusal::TooManyWatches
        | Refusal::TooManyForeign
        | Refusal::TooManyRevocations => Code::ResourceExhausted,
        Refusal::NoCertificate | Refusal::CertificateRefused => Code::Unauthenticated,
        Refusal::NotFound => Code::NotFound,
        Refusal::Unavailable => Code::Unavailable,
    }
}
