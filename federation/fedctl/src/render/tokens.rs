//! Join tokens.

use federation_client::operator::{TokenInfo, TokenState};
use federation_model::{
    names::ClusterName,
    revocation::{Revocation, Subject},
};
use federation_pki::token::{JoinToken, TokenId};
use serde::Serialize;

use super::{Look, Mood, mood_cell, text_of};
use crate::clock;

/// What is known of a token: never its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TokenView {
    pub(crate) id: TokenId,
    pub(crate) cluster: ClusterName,
    pub(crate) state: &'static str,
    pub(crate) created_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) used_at: Option<String>,
    #[serde(skip)]
    info: TokenInfo,
}

const fn shown(state: TokenState) -> (&'static str, Mood) {
    match state {
        TokenState::Ready => ("ready", Mood::Good),
        TokenState::Used => ("used", Mood::Doubtful),
        TokenState::Expired => ("expired", Mood::Bad),
        TokenState::Revoked => ("revoked", Mood::Bad),
    }
}

impl From<TokenInfo> for TokenView {
    fn from(info: TokenInfo) -> Self {
        Self {
            id: info.id,
            cluster: info.cluster.clone(),
            state: shown(info.state).0,
            created_at: clock::date(info.created_at),
            expires_at: clock::date(info.expires_at),
            used_at: info.used_at.and_then(clock::date),
            info,
        }
    }
}

/// A new token, secret and all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NewTokenView {
    pub(crate) token: String,
    #[serde(flatten)]
    pub(crate) info: TokenView,
    pub(crate) addresses: Vec<String>,
    pub(crate) federation_authority: String,
}

impl NewTokenView {
    pub(crate) fn new(token: &JoinToken, info: TokenInfo) -> Self {
        Self {
            token: token.to_string(),
            info: info.into(),
            addresses: token.addresses.iter().map(ToString::to_string).collect(),
            federation_authority: token.pin.to_string(),
        }
    }

    /// What to know of it, beside the token.
    pub(crate) fn remarks(&self, look: Look) -> String {
        let expires = clock::away(look.now, Some(self.info.info.expires_at));
        let mut facts = look.facts();
        facts.add_row(["Cluster", self.info.cluster.as_str()]);
        facts.add_row(["Expires", &format!("{expires}, can be used once")]);
        facts.add_row(["Gateways dial", &self.addresses.join(" ")]);
        facts.add_row(["Authority", &self.federation_authority]);
        facts.add_row(["Revoke with", &format!("fedctl token revoke {}", self.info.id)]);
        facts.add_row([
            "Next".to_owned(),
            format!("on the gateway of {}: fedctl join - (and paste the token)", self.info.cluster),
        ]);
        text_of(facts)
    }
}

/// What stands in the way of a token's use: its cluster is revoked.
pub(crate) fn revoked(cluster: &ClusterName, revocations: &[Revocation]) -> Option<String> {
    let of = |revocation: &&Revocation| match &revocation.subject {
        Subject::Cluster { cluster: revoked, .. } => revoked == cluster,
        Subject::Id(_) | Subject::Prefix(_) | Subject::Serial { .. } => false,
    };
    let Revocation { id, by, reason, .. } = revocations.iter().find(of)?;
    let why = if reason.as_str().is_empty() { String::new() } else { format!(" ({reason})") };
    Some(format!(
        "warning: cluster {cluster} was revoked by {by}{why}, and cannot join with this token. Next: fedctl revoke reinstate {id}, if it is to come back"
    ))
}

/// The tokens, one a line.
pub(crate) fn table(tokens: &[TokenView], look: Look) -> String {
    if tokens.is_empty() {
        return "There are no tokens. Next: fedctl token create --cluster NAME\n".to_owned();
    }
    let mut table = look.table(&["ID", "CLUSTER", "STATE", "AGE", "EXPIRES", "USED"]);
    for token in tokens {
        let (word, mood) = shown(token.info.state);
        let times = [Some(token.info.expires_at), token.info.used_at].map(|then| clock::away(look.now, then));
        let [expires, used] = times;
        table.add_row([
            token.id.to_string().into(),
            token.cluster.as_str().into(),
            mood_cell(word, mood),
            clock::ago(look.now, Some(token.info.created_at)).into(),
            expires.into(),
            used.into(),
        ]);
    }
    text_of(table)
}

#[cfg(test)]
mod tests {
    use federation_model::{revocation::RevocationId, spiffe::TrustDomain, time::Timestamp};

    use super::*;

    #[test]
    fn whoever_makes_a_token_for_a_revoked_cluster_is_told_how_to_lift_that() {
        let trust_domain = TrustDomain::new("west.example").unwrap();
        let west: ClusterName = "west".parse().unwrap();
        let revocation = |subject| Revocation {
            id: RevocationId::from_bits(7),
            subject,
            reason: "key lost".parse().unwrap(),
            by: "admin".parse().unwrap(),
            at: Timestamp(7),
        };
        let id = revocation(Subject::parse_id("spiffe://west.example/*").unwrap());
        assert_eq!(revoked(&west, std::slice::from_ref(&id)), None);
        let cluster = revocation(Subject::Cluster { cluster: west.clone(), trust_domain });
        let told = revoked(&west, &[id, cluster.clone()]).unwrap();
        assert!(told.contains("by admin (key lost)"), "{told}");
        assert!(told.contains(&format!("fedctl revoke reinstate {}", cluster.id)), "{told}");
        assert_eq!(revoked(&"east".parse().unwrap(), &[cluster]), None);
    }
}
