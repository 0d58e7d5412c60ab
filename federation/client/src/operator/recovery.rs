//! Going on after a store was restored.
//!
//! Owns this call of an operator. Never asks whether it is meant.

use proto::federation::v1 as wire;

use super::{OperatorClient, OperatorError};
use crate::call::answer;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The id the store had.
    pub former_store_id: String,
    /// The id it goes on under.
    pub store_id: String,
    /// The revision it is at.
    pub revision: u64,
}

impl OperatorClient {
    /// Has the service go on under a new store id: every member takes its state anew.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn recover(&mut self) -> Result<Recovered, OperatorError> {
        let wire::RecoverResponse { former_store_id, store_id, revision } =
            answer(self.0.recover(wire::RecoverRequest {})).await?;
        Ok(Recovered { former_store_id, store_id, revision })
    }
}
