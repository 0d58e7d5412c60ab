//! What follows an upgrade: the bytes of another protocol, both ways.
//!
//! Owns their carrying until both directions have ended or one end fails. Never looks at them.

use std::sync::Arc;

use federation_model::outcome::Outcome;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::{
    destination::Observe,
    exchange::Open,
    wire::{Activity, Wire},
};

/// Carries bytes between a client and an endpoint that both switch protocols now; gives how that ended.
pub(crate) async fn carry<O: Observe>(client: OnUpgrade, endpoint: OnUpgrade, mut open: Open<O>) -> Outcome {
    let outcome = match futures::try_join!(client, endpoint) {
        Ok((client, endpoint)) => {
            let activity = Arc::new(Activity::new());
            let mut endpoint = Wire::new(TokioIo::new(endpoint), Arc::clone(&activity));
            let ended = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut endpoint).await;
            let [received, sent, ..] = activity.totals();
            (open.exchange.sent, open.exchange.received) = (sent, received);
            match ended {
                Ok(_) => Outcome::Completed,
                Err(_) if activity.failed() => Outcome::DestinationReset,
                Err(_) => Outcome::ClientReset,
            }
        }
        // The answer never reached the client, or the endpoint went with its own.
        Err(_) => Outcome::ClientReset,
    };
    open.ends(outcome);
    outcome
}
