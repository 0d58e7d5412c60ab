//! Revoking, and hearing who has cut what was revoked.
//!
//! Owns these calls of an operator. Never waits by itself: whoever follows the acknowledgements bounds the wait.

use federation_model::{
    names::ClusterName,
    revocation::{Line, Revocation, RevocationId},
    time::Timestamp,
};
use proto::{
    convert::{
        ConvertError,
        revocation::{Asked, Standing, standing},
    },
    federation::v1 as wire,
};
use tonic::Streaming;

use super::{OperatorClient, OperatorError};
use crate::call::{CallError, answer};

/// What a request to revoke came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// The revocation in force.
    pub revocation: Revocation,
    /// The revision from which on it is.
    pub revision: u64,
    /// Whether it was before.
    pub already: bool,
    /// What may not be as meant.
    pub warnings: Vec<String>,
}

/// What lifting a revocation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reinstated {
    /// The revision from which on it is lifted.
    pub revision: u64,
    /// What was lifted; nothing when the service did not know it.
    pub revocation: Option<Revocation>,
}

/// How far one member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The member.
    pub cluster: ClusterName,
    /// How far it is.
    pub standing: Standing,
    /// The revision it has acknowledged.
    pub acknowledged: u64,
    /// When it was last heard of since the service started; nothing when it was not.
    pub last_seen: Option<Timestamp>,
}

/// How far every member is: each once at first, then whenever that changes, until none that watches is behind.
#[derive(Debug)]
pub struct Acknowledgements(Streaming<wire::Acknowledgement>);

impl Acknowledgements {
    /// The next piece of news, or nothing when there is nobody left to wait for. Cancel safe.
    ///
    /// # Errors
    /// When the connection broke, or the service stops.
    pub async fn next(&mut self) -> Result<Option<Acknowledgement>, OperatorError> {
        let message = self.0.message().await.map_err(CallError::from)?;
        Ok(message.map(acknowledgement).transpose()?)
    }
}

fn acknowledgement(message: wire::Acknowledgement) -> Result<Acknowledgement, ConvertError> {
    Ok(Acknowledgement {
        standing: standing(&message)?,
        cluster: message.cluster.parse().map_err(|error| ConvertError::new("Acknowledgement", "cluster", error))?,
        acknowledged: message.acknowledged,
        last_seen: (message.last_seen != 0).then_some(Timestamp(message.last_seen)),
    })
}

impl OperatorClient {
    /// Revokes something; it is durable at the service when this returns. Doing it twice gives the revocation there is.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn revoke(&mut self, asked: &Asked, reason: &Line) -> Result<Revoked, OperatorError> {
        let response = answer(self.0.revoke(asked.message(reason))).await?;
        let missing = || ConvertError::new("RevokeResponse", "revocation", "it is missing");
        Ok(Revoked {
            revocation: response.revocation.ok_or_else(missing)?.try_into()?,
            revision: response.revision,
            already: response.already,
            warnings: response.warnings,
        })
    }

    /// Every revocation in force.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn list_revocations(&mut self) -> Result<Vec<Revocation>, OperatorError> {
        let response = answer(self.0.list_revocations(wire::ListRevocationsRequest {})).await?;
        Ok(response.revocations.into_iter().map(TryInto::try_into).collect::<Result<_, ConvertError>>()?)
    }

    /// Lifts a revocation; with `force` also one that the service does not know, and members may.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn reinstate(&mut self, id: &RevocationId, force: bool) -> Result<Reinstated, OperatorError> {
        let response = answer(self.0.reinstate(wire::ReinstateRequest { id: id.to_string(), force })).await?;
        let revocation = response.revocation.map(TryInto::try_into).transpose()?;
        Ok(Reinstated { revision: response.revision, revocation })
    }

    /// How far every member is with `revision`.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn acknowledgements(&mut self, revision: u64) -> Result<Acknowledgements, OperatorError> {
        let request = wire::AwaitAcknowledgementRequest { revision };
        answer(self.0.await_acknowledgement(request)).await.map(Acknowledgements).map_err(Into::into)
    }
}
