//! `Debug` of the messages that carry a join token, without it.
//!
//! Owns what is left out. Messages end up in logs of libraries and in failed assertions, and whoever reads a token may spend it.

use std::fmt;

use crate::{federation, gateway};

impl fmt::Debug for federation::v1::JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("token_id", &self.token_id)
            .field("member", &self.member)
            .field("software", &self.software)
            .field("secret", &"hidden")
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for federation::v1::CreateTokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateTokenResponse").field("info", &self.info).field("token", &"hidden").finish()
    }
}

impl fmt::Debug for gateway::v1::JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("dry_run", &self.dry_run)
            .field("wait_seconds", &self.wait_seconds)
            .field("token", &"hidden")
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_shows_a_token_or_its_secret() {
        let join = federation::v1::JoinRequest {
            token_id: "0123456789abcdef".to_owned(),
            secret: b"hush".as_slice().into(),
            ..Default::default()
        };
        let created = federation::v1::CreateTokenResponse { token: "lbj1.hush".to_owned(), info: None };
        let ordered = gateway::v1::JoinRequest { token: "lbj1.hush".to_owned(), ..Default::default() };
        let shown = format!("{join:?} {created:?} {ordered:?}");
        assert!(!shown.contains("hush") && shown.contains("0123456789abcdef"), "{shown}");
        assert!(!shown.contains("104, 117"), "{shown}");
    }
}
