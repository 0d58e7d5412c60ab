//! Why the Workload API gives nothing usable, and what to do about it.

use federation_model::spiffe::SpiffeId;
use federation_pki::material::MaterialError;

use super::AgentSocket;

/// Why there is no usable SVID.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WorkloadError {
    /// Nobody answers.
    #[error(
        "the SPIFFE agent at {socket} does not answer ({reason}): check that the agent runs on this node, that this process may open its socket, and identity.socket"
    )]
    Unreachable {
        /// The socket.
        socket: AgentSocket,
        /// Why.
        reason: String,
    },
    /// It accepts connections and says nothing.
    #[error(
        "the SPIFFE agent at {0} accepts connections and says nothing: look at its log and at the health of its server"
    )]
    Silent(AgentSocket),
    /// It ended the stream.
    #[error("the SPIFFE agent at {0} ended the stream of updates: it is being restarted, else look at its log")]
    Ended(AgentSocket),
    /// No registration entry fits this process.
    #[error(
        "the SPIFFE agent issues nothing to this process: register it (spire-server entry create -spiffeID {0} -parentID AGENT -selector ...); the selectors must fit this process"
    )]
    NoIdentity(SpiffeId),
    /// Refused for another reason.
    #[error(
        "the SPIFFE agent refuses to issue to this process ({reason}): register it as {id} with selectors that fit"
    )]
    Denied {
        /// The id that is wanted.
        id: SpiffeId,
        /// What the agent said.
        reason: String,
    },
    /// Only SVIDs of other ids.
    #[error(
        "the SPIFFE agent issues {} to this process, and not {id}: register this process with that id, or correct cluster.trust_domain", listed(.others)
    )]
    NotOurs {
        /// The id that is wanted.
        id: SpiffeId,
        /// Those the agent has.
        others: Vec<SpiffeId>,
    },
    /// An answer that breaks a rule.
    #[error(
        "the answer of the SPIFFE agent at {socket} cannot be used ({reason}): look at the version and the log of the agent"
    )]
    Answer {
        /// The socket.
        socket: AgentSocket,
        /// Which.
        reason: String,
    },
    /// The SVID breaks a rule.
    #[error("what the SPIFFE agent issues cannot be used: {0}")]
    Material(#[from] MaterialError),
}

/// At most four ids: an agent may have hundreds.
fn listed(ids: &[SpiffeId]) -> String {
    let shown: Vec<_> = ids.iter().take(4).map(ToString::to_string).collect();
    match ids.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} others", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_ids_are_named_and_not_all_of_hundreds() {
        let id = |n: usize| SpiffeId::new(format!("spiffe://east.example/{n}")).unwrap();
        let error = |n| WorkloadError::NotOurs { id: id(99), others: (0..n).map(id).collect() }.to_string();
        assert!(error(1).contains("issues spiffe://east.example/0 to this process, and not spiffe://east.example/99:"));
        assert!(error(200).contains("spiffe://east.example/3 and 196 others"), "{}", error(200));
    }
}
