//! How the connection to the federation service is.
//!
//! Owns what is said of it, in the log and to an operator. Never ends a membership: a service that is away, has lost its store
//! or was restored from an older copy of it changes nothing here.

use std::time::Duration;

use federation_client::membership::MemberError;
use federation_model::addr::GatewayAddr;

/// How the connection to the federation service is.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Where the service answers.
    pub connected: Option<GatewayAddr>,
    /// Why it last did not.
    pub last_error: String,
    /// Why it does not take the newest version of this cluster's bundle.
    pub bundle_error: Option<String>,
    /// What shows that the service has gone back to an older state, until it is followed again.
    pub rewound: Option<String>,
}

impl Link {
    pub(super) fn lost(&mut self, why: String) {
        (self.connected, self.last_error) = (None, why);
    }

    /// The service is not followed, for a reason that leaves the membership as it is.
    pub(super) fn handle_lost(&mut self, error: &MemberError, retry_in: Duration) {
        if error.rewound() {
            tracing::error!(%error, ?retry_in, "the federation service has gone back to an older state; what this gateway knows stays in force, and traffic goes on");
            self.rewound = Some(error.to_string());
            self.lost(error.to_string());
        } else if error.not_a_member() {
            tracing::error!(%error, ?retry_in, "the federation service has lost its store; traffic goes on, restore the store from a backup");
            // It speaks for another store, so it has not gone back in the one this cluster knows.
            self.rewound = None;
            self.lost(format!("the service has lost its store: {error}"));
        } else {
            tracing::warn!(%error, ?retry_in, "no connection to the federation service; traffic goes on");
            self.lost(error.to_string());
        }
    }

    /// The service told something that was applied.
    pub(super) fn handle_followed(&mut self) {
        self.rewound = None;
    }
}

#[cfg(test)]
mod tests {
    use federation_client::call::CallError;
    use proto::convert::member::Refusal;

    use super::*;

    fn refused(refusal: Refusal) -> MemberError {
        CallError::Refused { refusal, message: "the words of the service".to_owned(), store_id: None }.into()
    }

    #[test]
    fn a_service_that_went_back_is_told_until_it_is_followed_again() {
        for error in [refused(Refusal::Rewound), MemberError::Rewound { seen: 7, at: 4 }] {
            let mut link = Link::default();
            link.handle_lost(&error, Duration::ZERO);
            assert_eq!((link.rewound.as_deref(), &link.last_error), (Some(&*error.to_string()), &error.to_string()));
            let away = CallError::TimedOut.into();
            link.handle_lost(&away, Duration::ZERO);
            assert!(link.rewound.is_some(), "being away as well mends nothing");
            link.handle_followed();
            assert_eq!(link.rewound, None);
        }
    }

    #[test]
    fn what_shows_that_the_service_went_back_names_both_revisions_and_the_remedy() {
        let told = MemberError::Rewound { seen: 7, at: 4 }.to_string();
        assert!(told.contains("has seen revision 7") && told.contains("offers revision 4"), "{told}");
        assert!(told.contains("fedctl recover"), "{told}");
        let told = MemberError::Rewound { seen: 7, at: 7 }.to_string();
        assert!(told.contains("offers another revision 7"), "{told}");
    }

    #[test]
    fn a_service_without_this_member_has_not_gone_back() {
        let mut link = Link::default();
        link.handle_lost(&MemberError::Rewound { seen: 7, at: 4 }, Duration::ZERO);
        link.handle_lost(&refused(Refusal::NotAMember), Duration::ZERO);
        assert!(link.rewound.is_none() && link.last_error.starts_with("the service has lost its store"), "{link:?}");
    }
}
