//! The first packet of a peer, up to the end of its handshake.
//!
//! Owns admission: nothing is spent on a stranger while many are at the door. Never identifies the peer.

use quinn::{Connecting, Connection, Incoming};
use tokio::time::timeout;

use crate::{
    closing::explain,
    config::{HANDSHAKE_LIMIT, MAX_HANDSHAKES, RETRY_FROM},
};

/// What to do with a first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Start the handshake.
    Accept,
    /// Make the address prove itself first; stateless.
    Retry,
    /// Say that this is not the time.
    Refuse,
}

/// Decides on a first packet while `handshakes` are in progress.
pub(crate) fn admission(handshakes: usize, draining: bool, proven: bool, may_retry: bool) -> Admission {
    if draining || handshakes >= MAX_HANDSHAKES {
        Admission::Refuse
    } else if handshakes >= RETRY_FROM && !proven && may_retry {
        Admission::Retry
    } else {
        Admission::Accept
    }
}

/// Lets a first packet in; nothing when it is sent away.
pub(crate) fn admit(incoming: Incoming, handshakes: usize, draining: bool) -> (Admission, Option<Connecting>) {
    let admission = admission(handshakes, draining, incoming.remote_address_validated(), incoming.may_retry());
    match admission {
        // Failing here means that the packet was not a handshake after all: nobody to tell.
        Admission::Accept => (admission, incoming.accept().ok()),
        Admission::Retry => {
            // `may_retry` was asked before.
            let _ = incoming.retry();
            (admission, None)
        }
        Admission::Refuse => {
            incoming.refuse();
            (admission, None)
        }
    }
}

/// The rest of the handshake; why it failed, in words.
pub(crate) async fn handshake(connecting: Connecting) -> Result<Connection, String> {
    match timeout(HANDSHAKE_LIMIT, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain(&error)),
        Err(_elapsed) => Err(format!("the handshake was not over within {HANDSHAKE_LIMIT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_must_prove_themselves_once_many_handshakes_are_in_progress() {
        assert_eq!(admission(0, false, false, true), Admission::Accept);
        assert_eq!(admission(RETRY_FROM, false, false, true), Admission::Retry);
        assert_eq!(admission(RETRY_FROM, false, true, true), Admission::Accept);
        assert_eq!(admission(RETRY_FROM, false, false, false), Admission::Accept);
        assert_eq!(admission(MAX_HANDSHAKES, false, true, true), Admission::Refuse);
        assert_eq!(admission(0, true, true, true), Admission::Refuse);
    }
}
