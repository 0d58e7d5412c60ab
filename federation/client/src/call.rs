//! One call, and what its failure means.
//!
//! Owns the way from a gRPC status to an error with a reason. Never retries.

use std::time::Duration;

use proto::convert::{
    ConvertError,
    member::{REFUSAL_KEY, Refusal, STORE_KEY},
};
use rustls::AlertDescription;
use tokio::time::timeout;
use tonic::{Response, Status};

use crate::dial::{chain, tls_error_in};

/// The service answers from memory and one disk write.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest answer: a thousand members of 36 KiB, and ten thousand revocations of 2.5 KiB.
pub(crate) const MAX_ANSWER: usize = 68 << 20;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The service refused, and said what to do.
    #[error("{message}")]
    Refused {
        /// The reason, for programs.
        refusal: Refusal,
        /// The reason and the remedy, in the words of the service.
        message: String,
        /// The store the service speaks for, when it says so.
        store_id: Option<String>,
    },
    /// The service did not believe the certificate of this side.
    #[error(
        "the federation service refused the certificate of this side (TLS alert {alert:?}): the cluster was removed from the set, its authority was replaced, or the clocks differ; see `fedctl members` where the federation service is operated"
    )]
    CertificateRefused {
        /// The alert.
        alert: AlertDescription,
    },
    /// The connection broke.
    #[error("the connection to the federation service broke: {0}")]
    Lost(String),
    /// No answer in time.
    #[error("the federation service did not answer within {CALL_TIMEOUT:?}: try again, and look at its log")]
    TimedOut,
    /// The answer does not convert.
    #[error("the answer of the federation service is not usable ({0}): are both sides of the same version?")]
    Malformed(#[from] ConvertError),
    /// A status without a reason of ours.
    #[error("the federation service answered {code}: {message}")]
    Unexpected {
        /// The gRPC code.
        code: String,
        /// Its message.
        message: String,
    },
}

impl CallError {
    /// The reason of the service, when it gave one.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(*refusal),
            Self::CertificateRefused { .. }
            | Self::Lost(_)
            | Self::TimedOut
            | Self::Malformed(_)
            | Self::Unexpected { .. } => None,
        }
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let told = |key| status.metadata().get(key).and_then(|value| value.to_str().ok());
        if let Some(refusal) = told(REFUSAL_KEY).and_then(|label| label.parse().ok()) {
            let store_id = told(STORE_KEY).map(str::to_owned);
            return Self::Refused { refusal, message: status.message().to_owned(), store_id };
        }
        if let Some(rustls::Error::AlertReceived(alert)) = tls_error_in(&status) {
            return Self::CertificateRefused { alert: *alert };
        }
        if std::error::Error::source(&status).is_some() {
            return Self::Lost(chain(&status));
        }
        Self::Unexpected { code: format!("{:?}", status.code()), message: status.message().to_owned() }
    }
}

/// Waits for the answer of a call.
pub(crate) async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, CallError> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(CallError::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_labelled_status_keeps_its_reason_and_the_words_of_the_service() {
        let mut status = Status::failed_precondition("the token was used");
        status.metadata_mut().insert(REFUSAL_KEY, Refusal::TokenUsed.label().parse().unwrap());
        let error = CallError::from(status);
        assert_eq!((error.refusal(), error.to_string().as_str()), (Some(Refusal::TokenUsed), "the token was used"));
    }

    #[test]
    fn an_alert_is_a_refused_certificate() {
        let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        let status = Status::from_error(Box::new(std::io::Error::other(alert)));
        assert_eq!(CallError::from(status), CallError::CertificateRefused { alert: AlertDescription::UnknownCA });
    }

    #[test]
    fn a_label_of_another_version_leaves_the_message() {
        let mut status = Status::failed_precondition("newer words");
        status.metadata_mut().insert(REFUSAL_KEY, "never-heard-of".parse().unwrap());
        assert!(CallError::from(status).to_string().contains("newer words"));
    }
}
