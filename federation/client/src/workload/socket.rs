//! Where the agent of this node listens.
//!
//! Owns the form of the setting (SPIFFE Workload Endpoint, section 4). Never connects.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use spiffe::transport::Endpoint;

/// The variable of the specification that says where the agent listens.
pub const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";
/// Where SPIRE's agent listens unless told otherwise by its Kubernetes manifests.
const DEFAULT: &str = "/run/spire/agent-sockets/api.sock";

/// The Unix socket of an agent, written `unix:///PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSocket(PathBuf);

/// A text that names no socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentSocketError {
    /// Not the form.
    #[error("{text:?} does not name the socket of a SPIFFE agent ({reason}): write unix:///PATH")]
    Form {
        /// The text.
        text: String,
        /// Why.
        reason: String,
    },
    /// Over TCP anybody on the way reads the private key, and the agent cannot tell who calls.
    #[error("{0:?} is not a Unix socket: private keys are not fetched over TCP; write unix:///PATH")]
    Tcp(String),
}

impl AgentSocket {
    /// The socket that [`VARIABLE`] names, else the usual one.
    ///
    /// # Errors
    /// When the variable has no usable value.
    pub fn from_variable(value: Option<&str>) -> Result<Self, AgentSocketError> {
        value.filter(|value| !value.is_empty()).map_or_else(|| Ok(Self(DEFAULT.into())), str::parse)
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.0.clone())
    }
}

impl FromStr for AgentSocket {
    type Err = AgentSocketError;
    fn from_str(text: &str) -> Result<Self, AgentSocketError> {
        let shown = || text.chars().take(120).collect();
        match Endpoint::parse(text) {
            Ok(Endpoint::Unix(path)) => Ok(Self(path)),
            Ok(_) => Err(AgentSocketError::Tcp(shown())),
            Err(error) => Err(AgentSocketError::Form { text: shown(), reason: error.to_string() }),
        }
    }
}

impl fmt::Display for AgentSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_survive_their_text_and_nothing_but_unix_sockets_is_one() {
        for text in ["unix:///run/a.sock", "unix:/run/a.sock"] {
            let socket: AgentSocket = text.parse().unwrap();
            assert_eq!(
                (socket.path(), socket.to_string()),
                (Path::new("/run/a.sock"), "unix:///run/a.sock".to_owned())
            );
        }
        assert!(matches!("tcp://127.0.0.1:8081".parse::<AgentSocket>(), Err(AgentSocketError::Tcp(_))));
        for text in ["", "/run/a.sock", "unix:", "unix:a.sock", "unix://host/a.sock", "unix:///a?b", "http://a/b"] {
            assert!(matches!(text.parse::<AgentSocket>(), Err(AgentSocketError::Form { .. })), "{text}");
        }
    }

    #[test]
    fn the_variable_of_the_specification_goes_before_the_usual_place() {
        let socket = |value| AgentSocket::from_variable(value).unwrap().to_string();
        assert_eq!(socket(Some("unix:///tmp/agent.sock")), "unix:///tmp/agent.sock");
        assert_eq!(socket(Some("")), "unix:///run/spire/agent-sockets/api.sock");
        assert_eq!(socket(None), "unix:///run/spire/agent-sockets/api.sock");
        assert!(AgentSocket::from_variable(Some("agent.sock")).is_err());
    }
}
