//! Identity from the SPIFFE agent of this node.
//!
//! Owns the wait for the first SVID, and the following of the agent. An agent that is away changes nothing until the SVID it
//! issued last expires. Never speaks the protocol: `federation-client` does.

use std::time::Duration;

use anyhow::{Context as _, bail};
use federation_client::workload::{AgentSocket, VARIABLE, WorkloadEvent, WorkloadWatch};
use federation_model::spiffe::SpiffeId;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Feed, Outlet};

/// How long the first SVID may take: agent and gateway of a new node start together, and a new registration reaches the agent
/// within some seconds.
const FIRST: Duration = Duration::from_secs(30);

/// An agent that has given its first SVID.
#[derive(Debug)]
pub struct SpireSource {
    watch: WorkloadWatch,
    outlet: Outlet,
}

impl SpireSource {
    /// Waits for the first SVID.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn open(socket: AgentSocket, gateway_id: SpiffeId) -> anyhow::Result<Self> {
        let deadline = Instant::now() + FIRST;
        let mut watch = WorkloadWatch::new(socket.clone(), gateway_id);
        let mut last = None;
        loop {
            match timeout_at(deadline, watch.next()).await {
                Ok(WorkloadEvent::Material(material)) => return Ok(Self { watch, outlet: Outlet::new(*material) }),
                Ok(WorkloadEvent::Fault { error, .. }) => {
                    let error = error.to_string();
                    if last.as_ref() != Some(&error) {
                        tracing::info!(%error, "waiting for the first SVID of the gateway");
                    }
                    last = Some(error);
                }
                Err(_) => {
                    let reason = last.unwrap_or_else(|| format!("the agent at {socket} does not answer"));
                    bail!("identity.source is \"spire\", and there is no SVID after {} s: {reason}", FIRST.as_secs());
                }
            }
        }
    }

    /// What it says.
    #[must_use]
    pub fn feed(&self) -> Feed {
        self.outlet.feed()
    }

    /// Follows the agent until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let Self { mut watch, outlet } = self;
        loop {
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = watch.next() => event,
            };
            match event {
                WorkloadEvent::Material(material) => outlet.publish(*material),
                WorkloadEvent::Fault { error, retry_in } => {
                    tracing::debug!(%error, ?retry_in, "the SPIFFE agent gives nothing usable");
                    outlet.report(error.to_string());
                }
            }
        }
    }
}

/// The socket of the settings, else that of the specification's variable, else the usual one.
///
/// # Errors
/// When the variable names no socket.
pub(super) fn socket(setting: Option<&AgentSocket>) -> anyhow::Result<AgentSocket> {
    if let Some(socket) = setting {
        return Ok(socket.clone());
    }
    let variable = std::env::var(VARIABLE).ok();
    AgentSocket::from_variable(variable.as_deref()).with_context(|| format!("the environment variable {VARIABLE}"))
}
