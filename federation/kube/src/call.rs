//! Why a call to an API server failed.
//!
//! Owns the kinds of failure that make a difference to who called, and the words for people. Never decides whether to try again.

use std::error::Error;

/// Why a call to the API server failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error(
        "the API server {server} cannot be reached: {reason}; check its address and that network policies allow the way"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What the network says.
        reason: String,
    },
    /// Its certificate is not signed by who should have.
    #[error(
        "the certificate of the API server {server} is not trusted: {reason}; the kubeconfig must hold the authority of this cluster"
    )]
    Untrusted {
        /// Its address.
        server: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// It does not know who asks.
    #[error("the API server {server} does not accept the credentials (401): {reason}; a token may have expired")]
    Unauthorized {
        /// Its address.
        server: String,
        /// In its words.
        reason: String,
    },
    /// A right is missing.
    #[error("the API server refuses (403): {reason}")]
    Forbidden {
        /// In its words.
        reason: String,
    },
    /// There is no such object, or no such kind.
    #[error("the API server has no such object or kind (404): {reason}")]
    NotFound {
        /// In its words.
        reason: String,
    },
    /// Somebody else changed or owns it.
    #[error("somebody else changed it, or owns a field of it (409): {reason}")]
    Conflict {
        /// In its words.
        reason: String,
    },
    /// What was asked about is too old to be told of.
    #[error("the API server does not know that resource version any more (410): {reason}")]
    Expired {
        /// In its words.
        reason: String,
    },
    /// It is too busy for this program.
    #[error("the API server asks to come back later (429): {reason}")]
    Throttled {
        /// In its words.
        reason: String,
    },
    /// It does not accept the object: its own rules, or a webhook.
    #[error("the API server does not accept it ({code}): {reason}")]
    Rejected {
        /// The HTTP status.
        code: u16,
        /// In its words.
        reason: String,
    },
    /// It is broken, or starts or stops.
    #[error("the API server failed ({code}): {reason}")]
    Failed {
        /// The HTTP status.
        code: u16,
        /// In its words.
        reason: String,
    },
    /// What it answers is not what was asked for.
    #[error("what {server} answers cannot be read: {reason}; is it an API server?")]
    Unreadable {
        /// Its address.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The credentials could not be made ready, such as by the helper that the kubeconfig names.
    #[error("there are no credentials for {server}: {reason}; mend the user in the kubeconfig")]
    Credentials {
        /// Its address.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

/// The most characters of what an API server or a network says.
const SHOWN: usize = 300;

impl CallError {
    /// Sorts an error of the client library by what to do about it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the library's, and grows with its features")]
    pub(crate) fn of(error: &kube::Error, server: &str) -> Self {
        // The library's own words say only which of its layers failed.
        let (server, reason) = (server.to_owned(), chain(error.source().unwrap_or(error)));
        match error {
            kube::Error::Api(status) => Self::of_status(status, &server),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                // The TLS library is beneath several layers, each with a type of its own; its words are constant.
                if reason.contains("invalid peer certificate") {
                    Self::Untrusted { server, reason }
                } else {
                    Self::Unreachable { server, reason }
                }
            }
            kube::Error::Auth(_) => Self::Credentials { server, reason },
            _ => Self::Unreadable { server, reason },
        }
    }

    /// Sorts a refusal of the API server.
    pub(crate) fn of_status(status: &kube::core::Status, server: &str) -> Self {
        let said = if status.message.is_empty() { &status.reason } else { &status.message };
        Self::of_code(status.code, said, server)
    }

    /// Sorts a refusal by its HTTP status.
    pub(crate) fn of_code(code: u16, reason: &str, server: &str) -> Self {
        let (server, reason) = (server.to_owned(), shown(reason));
        match code {
            401 => Self::Unauthorized { server, reason },
            403 => Self::Forbidden { reason },
            404 => Self::NotFound { reason },
            409 => Self::Conflict { reason },
            410 => Self::Expired { reason },
            429 => Self::Throttled { reason },
            code @ 400..=499 => Self::Rejected { code, reason },
            code => Self::Failed { code, reason },
        }
    }
}

/// The error with its causes; each says only what those before did not.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    shown(&text)
}

/// The beginning of what somebody else says, as it may go to a terminal.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_api_server_says_is_cut_and_moves_no_cursor() {
        let said = format!("a\u{1b}[2J\r\n{}", "é".repeat(1000));
        for code in [400, 401, 403, 404, 409, 410, 429, 500] {
            let told = CallError::of_code(code, &said, "https://test").to_string();
            assert!(told.contains("a [2J  é") && !told.contains(char::is_control), "{told:?}");
            assert!(told.matches('é').count() < SHOWN, "{told:?}");
        }
    }
}
