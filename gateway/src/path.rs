//! The data path: what the stages of one connection share, and the order they run in.
//!
//! Owns the connection tasks. Never decides: every decision is in a stage.

use std::sync::Arc;

use federation_model::{names::ClusterName, sni::Zone, spiffe::SpiffeId};
use gateway_core::{
    pick::{Picker, RetryBudget},
    tables::Tables,
};
use gateway_tunnel::Tunnels;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    accept::{Accepted, Refused},
    audited::AuditedCalls,
    config::Limits,
    deliver::{self, EndpointTrust},
    forward,
    identify::identify,
    live::Live,
    record::Recorder,
    route::route,
    terminate::Terminator,
};

/// What the stages share.
#[derive(Debug)]
pub struct DataPath {
    /// This cluster.
    pub cluster: ClusterName,
    /// The id of this gateway.
    pub gateway_id: SpiffeId,
    /// The zone of the cluster set.
    pub zone: Zone,
    /// The newest tables.
    pub tables: watch::Receiver<Arc<Tables>>,
    /// The tunnels to other clusters.
    pub tunnels: Tunnels,
    /// Chooses among clusters.
    pub picker: Picker,
    /// Bounds attempts beyond the first.
    pub retries: RetryBudget,
    /// Makes records.
    pub recorder: Recorder,
    /// Whom endpoints are believed by, where they are reached over TLS.
    pub endpoint_trust: EndpointTrust,
    /// Connections that live.
    pub live: Live,
    /// What policies in AUDIT would have refused.
    pub audited: AuditedCalls,
    /// Ends the TLS of clients on the terminating listener.
    pub terminator: Terminator,
    /// Limits and time-outs.
    pub limits: Limits,
    /// Places for connections; a connection without one is refused.
    pub places: Arc<Semaphore>,
    /// When connections are to end as soon as their protocol allows.
    pub draining: CancellationToken,
    /// The tasks of connections; shutdown waits for them.
    pub connections: TaskTracker,
}

/// Serves one connection of an application from first to last stage.
pub async fn serve(path: Arc<DataPath>, accepted: Accepted) {
    if let Err(refused) = stages(&path, accepted).await {
        refused.answer().await;
    }
}

async fn stages(path: &Arc<DataPath>, accepted: Accepted) -> Result<(), Refused> {
    let identified = identify(accepted, path).await?;
    let routed = route(identified, path)?;
    forward::forward(routed, path).await
}

/// Delivers streams of other clusters until the tunnels are closed.
pub async fn deliver_streams(
    path: Arc<DataPath>,
    mut streams: tokio::sync::mpsc::Receiver<gateway_tunnel::InboundStream>,
) {
    while let Some(stream) = streams.recv().await {
        path.connections.spawn(deliver::deliver(path.clone(), stream));
    }
}
