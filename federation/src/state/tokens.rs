//! Join tokens.
//!
//! Owns their life: made, spent once, revoked, expired, forgotten. Keeps the hash of a secret, never the secret.

use std::{sync::Arc, time::Duration};

use federation_model::{names::ClusterName, time::Timestamp};
use federation_pki::token::{SecretHash, TokenId};

use super::{State, Write};

/// Tokens that may be spent, at a time.
pub const MAX_READY: usize = 1000;
/// Tokens that are remembered after their end, so that their use can be explained.
pub const MAX_FINISHED: usize = 1000;

/// A token as it is kept.
#[derive(Debug, Clone)]
pub struct TokenRecord {
    /// Its public name.
    pub id: TokenId,
    /// The cluster it is for.
    pub cluster: ClusterName,
    /// The hash of its secret.
    pub secret: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it may be spent.
    pub expires_at: Timestamp,
    /// When it was spent.
    pub used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

// `SecretHash` has no equality of its own, so that secrets are only compared in constant time; records are compared in tests.
impl PartialEq for TokenRecord {
    fn eq(&self, other: &Self) -> bool {
        let key = |token: &Self| {
            (token.id, token.created_at, token.expires_at, token.used_at, token.revoked_at, *token.secret.as_bytes())
        };
        self.cluster == other.cluster && key(self) == key(other)
    }
}

impl Eq for TokenRecord {}

/// Whether a token may still be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenState {
    /// It may.
    Ready,
    /// It was.
    Used,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Revoked,
}

impl TokenRecord {
    /// Whether it may be spent at `now`.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> TokenState {
        if self.revoked_at.is_some() {
            TokenState::Revoked
        } else if self.used_at.is_some() {
            TokenState::Used
        } else if now > self.expires_at {
            TokenState::Expired
        } else {
            TokenState::Ready
        }
    }
}

/// A token to make.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its public name, random.
    pub id: TokenId,
    /// The hash of its secret, random.
    pub secret: SecretHash,
    /// The cluster it is for.
    pub cluster: ClusterName,
    /// How long it may be spent; the service's default when zero.
    pub ttl: Duration,
}

/// What the settings say of tokens.
#[derive(Debug, Clone, Copy)]
pub struct TokenRules {
    /// The life of a token whose maker does not say.
    pub ttl: Duration,
    /// The longest life.
    pub max_ttl: Duration,
}

/// Why a token is not made or not revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// It would live too long.
    #[error("a token lives for {max:?} at most (`join.max_token_ttl`), not {asked:?}: ask for less")]
    TtlTooLong {
        /// Asked for.
        asked: Duration,
        /// The longest.
        max: Duration,
    },
    /// There are too many.
    #[error("there are {MAX_READY} tokens that can still be used: revoke some with `fedctl token revoke ID`")]
    TooMany,
    /// There is no such token.
    #[error("there is no token {0}: `fedctl token list` shows them")]
    Unknown(TokenId),
    /// It was spent.
    #[error("token {id} was used by cluster {cluster}: to take the cluster out, run `fedctl members remove {cluster}`")]
    Used {
        /// The token.
        id: TokenId,
        /// Its cluster.
        cluster: ClusterName,
    },
}

impl State {
    /// Makes a token, and forgets finished ones when there are too many.
    ///
    /// # Errors
    /// When it would live too long, or there are too many.
    pub fn create_token(
        &self,
        new: NewToken,
        rules: TokenRules,
        now: Timestamp,
    ) -> Result<(Vec<Write>, TokenRecord), TokenRefusal> {
        let ttl = if new.ttl.is_zero() { rules.ttl } else { new.ttl };
        if ttl > rules.max_ttl {
            return Err(TokenRefusal::TtlTooLong { asked: ttl, max: rules.max_ttl });
        }
        let (ready, mut finished): (Vec<_>, Vec<_>) =
            self.tokens.values().partition(|token| token.state(now) == TokenState::Ready);
        if ready.len() >= MAX_READY {
            return Err(TokenRefusal::TooMany);
        }
        finished.sort_by_key(|token| token.created_at);
        let surplus = finished.len().saturating_sub(MAX_FINISHED);
        let record = TokenRecord {
            id: new.id,
            cluster: new.cluster,
            secret: new.secret,
            created_at: now,
            expires_at: now.after(ttl),
            used_at: None,
            revoked_at: None,
        };
        let forgotten = finished.into_iter().take(surplus).map(|token| Write::TokenGone(token.id));
        let writes = forgotten.chain(std::iter::once(Write::Token(record.clone()))).collect();
        Ok((writes, record))
    }

    /// Makes a token useless; doing it twice is fine.
    ///
    /// # Errors
    /// When there is no such token or it was spent.
    pub fn revoke_token(&self, id: &TokenId, now: Timestamp) -> Result<(Vec<Write>, TokenRecord), TokenRefusal> {
        let held: &Arc<TokenRecord> = self.tokens.get(id).ok_or(TokenRefusal::Unknown(*id))?;
        match held.state(now) {
            TokenState::Used => Err(TokenRefusal::Used { id: *id, cluster: held.cluster.clone() }),
            TokenState::Revoked => Ok((Vec::new(), TokenRecord::clone(held))),
            TokenState::Ready | TokenState::Expired => {
                let record = TokenRecord { revoked_at: Some(now), ..TokenRecord::clone(held) };
                Ok((vec![Write::Token(record.clone())], record))
            }
        }
    }
}
