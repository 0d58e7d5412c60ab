//! The calls of those who operate the federation service.
//!
//! Owns the calls made with an operator credential, some in modules of their own. Never writes a credential.

use std::{path::PathBuf, sync::Arc, time::Duration};

use federation_model::{
    addr::GatewayAddr,
    audit::{Action, Entry},
    bundle::{Fingerprint, TrustBundle},
    member::Member,
    names::ClusterName,
    spiffe::{SpiffeId, TrustDomain, parse_workload_id},
    time::Timestamp,
};
use federation_pki::{
    identity::LiveIdentity,
    tls::{TlsConfigError, client_config},
    token::{JoinToken, TokenError, TokenId},
    trust::{TrustError, TrustStore},
    verify::{Expect, FEDERATION_PATH, SpiffeVerifier},
};
use proto::{
    convert::{ConvertError, member::Refusal},
    federation::v1::{self as wire, operator_client::OperatorClient as Client},
};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tonic::{Streaming, transport::Channel};

use crate::{
    call::{CallError, MAX_ANSWER, answer},
    dial::{ALPN, DialError, Dialer, FEDERATION, chain, channel_over},
};

mod credential;
mod foreign;
mod recovery;
mod revocation;

pub use credential::{Credential, CredentialError, authorities};
pub use foreign::ForeignStatus;
pub use recovery::Recovered;
pub use revocation::{Acknowledgement, Acknowledgements, Reinstated, Revoked};

/// Each message of a stream takes one look into the store.
const NEXT_MESSAGE: Duration = Duration::from_secs(15);
/// Verifiers take no longer chains.
const MAX_CHAIN: usize = 8;
/// The service gives less at once.
const MAX_ENTRIES: usize = 100_000;

/// Why a call of an operator failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The credential.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// There is no connection to the service.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The service refused, or the call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// TLS cannot be configured.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The service gave a token that this version cannot read.
    #[error("the federation service gave a token that is not usable: {0}")]
    Token(#[from] TokenError),
}

impl OperatorError {
    /// The reason of the service, when it gave one.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Call(error) => error.refusal(),
            Self::Credential(_) | Self::Dial(_) | Self::Tls(_) | Self::Token(_) => None,
        }
    }
}

impl From<ConvertError> for OperatorError {
    fn from(error: ConvertError) -> Self {
        Self::Call(error.into())
    }
}

/// The id of the federation service of a trust domain.
fn federation_id(trust_domain: &TrustDomain) -> SpiffeId {
    let segments: Vec<&str> = FEDERATION_PATH.split('/').skip(1).collect();
    SpiffeId::from_segments(trust_domain.clone(), &segments)
        .expect("the path is a constant of letters and slashes, which a SPIFFE ID may hold")
}

/// Whether a token may still be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// What is known of a token, its secret aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its name.
    pub id: TokenId,
    /// The cluster it is for.
    pub cluster: ClusterName,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it may be spent.
    pub expires_at: Timestamp,
    /// Whether it may still be spent.
    pub state: TokenState,
    /// When it was spent.
    pub used_at: Option<Timestamp>,
}

impl TryFrom<wire::TokenInfo> for TokenInfo {
    type Error = ConvertError;
    fn try_from(info: wire::TokenInfo) -> Result<Self, ConvertError> {
        let state = match info.state() {
            wire::TokenState::Ready => TokenState::Ready,
            wire::TokenState::Used => TokenState::Used,
            wire::TokenState::Expired => TokenState::Expired,
            wire::TokenState::Revoked => TokenState::Revoked,
            wire::TokenState::Unspecified => {
                return Err(ConvertError::new("TokenInfo", "state", "it is missing, or unknown to this version"));
            }
        };
        Ok(Self {
            id: info.id.parse().map_err(|error| ConvertError::new("TokenInfo", "id", error))?,
            cluster: info.cluster.parse().map_err(|error| ConvertError::new("TokenInfo", "cluster", error))?,
            created_at: Timestamp(info.created_at),
            expires_at: Timestamp(info.expires_at),
            state,
            used_at: (info.used_at != 0).then_some(Timestamp(info.used_at)),
        })
    }
}

/// A member and how it is doing.
#[derive(Debug, Clone)]
pub struct MemberStatus {
    /// The member.
    pub member: Member,
    /// Whether one of its gateways watches the set now.
    pub watching: bool,
    /// The revision it acknowledged.
    pub acknowledged: u64,
    /// When it was last heard of since the service started; nothing when it was not.
    pub last_seen: Option<Timestamp>,
    /// Name and version of its gateways.
    pub software: String,
    /// Whether it waits for approval: no other member hears of it.
    pub pending: bool,
}

/// The set as the service knows it.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Every member, by name.
    pub members: Vec<MemberStatus>,
    /// The revision of the set.
    pub revision: u64,
    /// The authorities of the service.
    pub federation: TrustBundle,
    /// Its id.
    pub federation_id: SpiffeId,
    /// Name and version of the service.
    pub software: String,
    /// The certificate it presents, then those above it; empty when it is of a version that does not tell.
    pub certificate: Vec<CertificateDer<'static>>,
    /// When it renews that certificate.
    pub next_renewal: Option<Timestamp>,
}

/// A connection of an operator.
#[derive(Debug, Clone)]
pub struct OperatorClient(Client<Channel>);

impl OperatorClient {
    /// Connects to the first address that is the federation service of the credential.
    ///
    /// # Errors
    /// When the credential is not usable or no address answers.
    pub async fn connect(addresses: &[GatewayAddr], credential: Credential) -> Result<Self, OperatorError> {
        let connected = dialer(addresses, credential)?.dial(0).await?;
        Ok(Self::of(connected.channel))
    }

    /// A connection that is an operator's at its other end, which [`OperatorClient::bridge`] opened there.
    ///
    /// # Errors
    /// When nobody speaks gRPC there.
    pub async fn over<S>(stream: S) -> Result<Self, OperatorError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let channel = channel_over(stream, FEDERATION).await;
        channel.map(Self::of).map_err(|error| CallError::Lost(chain(&error)).into())
    }

    /// The bytes of a connection to the first address that is the federation service of the credential, for somebody who has
    /// no credential. Whoever gets them is an operator.
    ///
    /// # Errors
    /// When the credential is not usable or no address answers.
    pub async fn bridge(
        addresses: &[GatewayAddr],
        credential: Credential,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, OperatorError> {
        Ok(dialer(addresses, credential)?.stream(0).await?.0)
    }

    fn of(channel: Channel) -> Self {
        Self(Client::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// Makes a token with which `cluster` may join once within `ttl`.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn create_token(
        &mut self,
        cluster: &ClusterName,
        ttl: Duration,
    ) -> Result<(JoinToken, TokenInfo), OperatorError> {
        let request = wire::CreateTokenRequest { cluster: cluster.to_string(), ttl_seconds: ttl.as_secs() };
        let response = answer(self.0.create_token(request)).await?;
        Ok((response.token.parse()?, info("CreateTokenResponse", response.info)?))
    }

    /// Every token that is remembered.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn list_tokens(&mut self) -> Result<Vec<TokenInfo>, OperatorError> {
        let response = answer(self.0.list_tokens(wire::ListTokensRequest {})).await?;
        Ok(response.tokens.into_iter().map(TryInto::try_into).collect::<Result<_, ConvertError>>()?)
    }

    /// Makes a token useless. Members that joined with it stay.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn revoke_token(&mut self, id: &TokenId) -> Result<TokenInfo, OperatorError> {
        let response = answer(self.0.revoke_token(wire::RevokeTokenRequest { id: id.to_string() })).await?;
        Ok(info("RevokeTokenResponse", response.info)?)
    }

    /// Every member.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn list_members(&mut self) -> Result<Listing, OperatorError> {
        let response = answer(self.0.list_members(wire::ListMembersRequest {})).await?;
        Ok(listing(response)?)
    }

    /// Ends the membership of a cluster; gives the revision without it.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn remove_member(&mut self, cluster: &ClusterName) -> Result<u64, OperatorError> {
        let request = wire::RemoveMemberRequest { cluster: cluster.to_string() };
        Ok(answer(self.0.remove_member(request)).await?.revision)
    }

    /// Lets a cluster in that waits for approval, if its first authority has this fingerprint; gives the revision with it.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn approve_member(
        &mut self,
        cluster: &ClusterName,
        fingerprint: &Fingerprint,
    ) -> Result<u64, OperatorError> {
        let request = wire::ApproveMemberRequest { cluster: cluster.to_string(), fingerprint: fingerprint.to_string() };
        Ok(answer(self.0.approve_member(request)).await?.revision)
    }

    /// Entries of the audit log.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn audit(&mut self, wanted: &Wanted) -> Result<Vec<Entry>, OperatorError> {
        let request = wire::ListAuditRequest {
            since: wanted.since,
            limit: wanted.limit,
            action: wanted.action.map(|action| action.label().to_owned()).unwrap_or_default(),
            subject: wanted.subject.clone(),
        };
        let mut stream = answer(self.0.list_audit(request)).await?;
        let mut entries = Vec::new();
        while let Some(response) = next(&mut stream).await? {
            for line in &response.entries {
                let unusable = |error| ConvertError::new("ListAuditResponse", "entries", error);
                entries.push(Entry::from_line(line).map_err(unusable)?);
            }
            if entries.len() > MAX_ENTRIES {
                return Err(ConvertError::new("ListAuditResponse", "entries", "there are too many").into());
            }
        }
        Ok(entries)
    }

    /// The whole audit log, line by line.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn export_audit(&mut self) -> Result<AuditLines, OperatorError> {
        let stream = answer(self.0.export_audit(wire::ExportAuditRequest {})).await?;
        Ok(AuditLines(stream))
    }
}

fn dialer(addresses: &[GatewayAddr], credential: Credential) -> Result<Dialer, OperatorError> {
    let trust = TrustStore::new();
    let id = federation_id(&credential.federation.trust_domain);
    trust.replace([credential.federation]).map_err(|error: TrustError| CredentialError::Authorities {
        path: PathBuf::from("ca.crt"),
        reason: error.to_string(),
    })?;
    let verifier = SpiffeVerifier::new(Arc::new(trust), Expect::Exactly(id));
    let identity = Arc::new(LiveIdentity::new(credential.svid));
    let tls = client_config(Some(identity), Arc::new(verifier), ALPN)?;
    Ok(Dialer { addresses: addresses.to_vec(), tls: Arc::new(tls) })
}

/// Which entries of the audit log to give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// From this number on; 0 for the newest.
    pub since: u64,
    /// At most so many.
    pub limit: u32,
    /// Of this action alone.
    pub action: Option<Action>,
    /// With this text in their subject.
    pub subject: String,
}

/// An audit log that is being exported.
#[derive(Debug)]
pub struct AuditLines(Streaming<wire::ExportAuditResponse>);

impl AuditLines {
    /// The next lines, without their ends; nothing after the last one.
    ///
    /// # Errors
    /// When the call fails: what was given is not the whole log then.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, OperatorError> {
        Ok(next(&mut self.0).await?.map(|response| response.lines))
    }
}

/// The next message, which comes within [`NEXT_MESSAGE`].
async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, CallError> {
    match timeout(NEXT_MESSAGE, stream.message()).await {
        Ok(message) => Ok(message?),
        Err(_) => Err(CallError::TimedOut),
    }
}

fn info(message: &'static str, info: Option<wire::TokenInfo>) -> Result<TokenInfo, ConvertError> {
    info.ok_or_else(|| ConvertError::new(message, "info", "it is missing"))?.try_into()
}

fn listing(response: wire::ListMembersResponse) -> Result<Listing, ConvertError> {
    let missing = |message, field| ConvertError::new(message, field, "it is missing");
    let status = |status: wire::MemberStatus| {
        Ok(MemberStatus {
            member: status.member.ok_or_else(|| missing("MemberStatus", "member"))?.try_into()?,
            watching: status.watching,
            acknowledged: status.acknowledged,
            last_seen: (status.last_seen != 0).then_some(Timestamp(status.last_seen)),
            software: status.software,
            pending: status.pending,
        })
    };
    Ok(Listing {
        members: response.members.into_iter().map(status).collect::<Result<_, ConvertError>>()?,
        revision: response.revision,
        federation: response.federation.ok_or_else(|| missing("ListMembersResponse", "federation"))?.try_into()?,
        federation_id: parse_workload_id(&response.federation_id)
            .map_err(|error| ConvertError::new("ListMembersResponse", "federation_id", error))?,
        software: response.software,
        certificate: response.certificate.iter().take(MAX_CHAIN).map(|der| der.to_vec().into()).collect(),
        next_renewal: (response.next_renewal != 0).then_some(Timestamp(response.next_renewal)),
    })
}

#[cfg(test)]
mod tests;
