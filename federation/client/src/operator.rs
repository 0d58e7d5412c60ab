//! The calls of those who operate the federation service.
//!
//! Owns reading the operator credential and the calls made with it, some in modules of their own. Never
//! writes a credential.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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
    svid::{Svid, SvidError},
    tls::{TlsConfigError, client_config},
    token::{JoinToken, TokenError, TokenId},
    trust::{TrustError, TrustStore},
    verify::{Expect, FEDERATION_PATH, SpiffeVerifier},
};
use proto::{
    convert::{ConvertError, member::Refusal},
    federation::v1::{self as wire, operator_client::OperatorClient as Client},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::timeout;
use tonic::{Streaming, transport::Channel};

use crate::{
    call::{CallError, MAX_ANSWER, answer},
    dial::{ALPN, DialError, Dialer},
};

mod foreign;
mod recovery;
mod revocation;

pub use foreign::ForeignStatus;
pub use recovery::Recovered;
pub use revocation::{Acknowledgement, Acknowledgements, Reinstated, Revoked};

/// Certificates and keys are a few KiB.
const MAX_FILE: u64 = 1 << 20;
/// Each message of a stream takes one look into the store.
const NEXT_MESSAGE: Duration = Duration::from_secs(15);
/// Verifiers take no longer chains.
const MAX_CHAIN: usize = 8;
/// The service gives less at once.
const MAX_ENTRIES: usize = 100_000;

/// Why a credential cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file is not there.
    #[error(
        "there is no operator credential in {}: landbridge-federation writes one to <store>/operator at its first start; name that directory, or a copy, with --operator DIR", .0.display()
    )]
    Missing(PathBuf),
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read the key.
    #[error("{} may be read by others: run `chmod 600 {}`", .0.display(), .0.display())]
    Shared(PathBuf),
    /// The certificate or its key.
    #[error("the credential in {} is not usable: {error}", .path.display())]
    Svid {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: SvidError,
    },
    /// The authorities.
    #[error("{} is not usable: {reason}", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

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

/// `ca.crt`, `tls.crt` and `tls.key` of a directory.
#[derive(Debug)]
pub struct Credential {
    svid: Svid,
    federation: TrustBundle,
}

impl Credential {
    /// Reads the three files.
    ///
    /// # Errors
    /// When one is missing, is not usable, or the key is open to others.
    pub fn load(directory: &Path) -> Result<Self, CredentialError> {
        let certificate = read(directory, "tls.crt", false)?;
        let key = read(directory, "tls.key", true)?;
        let svid = Svid::from_pem(&certificate, &key)
            .map_err(|error| CredentialError::Svid { path: directory.to_owned(), error })?;
        let authorities = authorities(directory)?;
        let federation = TrustBundle { trust_domain: svid.id().trust_domain().clone(), sequence: 0, authorities };
        Ok(Self { svid, federation })
    }

    /// Who the operator is.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        self.svid.id()
    }

    /// Its certificate, then those above it.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.svid.chain()
    }

    /// When the credential ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.svid.not_after()
    }
}

/// The authorities of the federation service in `ca.crt` of a credential's directory; the key is not needed for them.
///
/// # Errors
/// When the file is missing or holds no certificate.
pub fn authorities(directory: &Path) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    let text = read(directory, "ca.crt", false)?;
    let unusable = |reason| CredentialError::Authorities { path: directory.join("ca.crt"), reason };
    let authorities: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if authorities.is_empty() { Err(unusable("it holds no certificate".to_owned())) } else { Ok(authorities) }
}

fn read(directory: &Path, name: &str, secret: bool) -> Result<String, CredentialError> {
    let path = directory.join(name);
    let unreadable = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound {
            CredentialError::Missing(directory.to_owned())
        } else {
            CredentialError::Unreadable { path: path.clone(), error }
        }
    };
    let metadata = std::fs::metadata(&path).map_err(unreadable)?;
    if secret && metadata.permissions().mode() & 0o077 != 0 {
        return Err(CredentialError::Shared(path));
    }
    if metadata.len() > MAX_FILE {
        return Err(unreadable(io::Error::other(format!("it has more than {MAX_FILE} bytes"))));
    }
    std::fs::read_to_string(&path).map_err(unreadable)
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
pub struct OperatorClient {
    client: Client<Channel>,
    address: GatewayAddr,
}

impl OperatorClient {
    /// Connects to the first address that is the federation service of the credential.
    ///
    /// # Errors
    /// When the credential is not usable or no address answers.
    pub async fn connect(addresses: &[GatewayAddr], credential: Credential) -> Result<Self, OperatorError> {
        let trust = TrustStore::new();
        let id = federation_id(&credential.federation.trust_domain);
        trust.replace([credential.federation]).map_err(|error: TrustError| CredentialError::Authorities {
            path: PathBuf::from("ca.crt"),
            reason: error.to_string(),
        })?;
        let verifier = SpiffeVerifier::new(Arc::new(trust), Expect::Exactly(id));
        let identity = Arc::new(LiveIdentity::new(credential.svid));
        let tls = client_config(Some(identity), Arc::new(verifier), ALPN)?;
        let connected = Dialer { addresses: addresses.to_vec(), tls: Arc::new(tls) }.dial(0).await?;
        let client = Client::new(connected.channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Self { client, address: connected.address })
    }

    /// The address that answered.
    #[must_use]
    pub fn address(&self) -> &GatewayAddr {
        &self.address
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
        let response = answer(self.client.create_token(request)).await?;
        Ok((response.token.parse()?, info("CreateTokenResponse", response.info)?))
    }

    /// Every token that is remembered.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn list_tokens(&mut self) -> Result<Vec<TokenInfo>, OperatorError> {
        let response = answer(self.client.list_tokens(wire::ListTokensRequest {})).await?;
        Ok(response.tokens.into_iter().map(TryInto::try_into).collect::<Result<_, ConvertError>>()?)
    }

    /// Makes a token useless. Members that joined with it stay.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn revoke_token(&mut self, id: &TokenId) -> Result<TokenInfo, OperatorError> {
        let response = answer(self.client.revoke_token(wire::RevokeTokenRequest { id: id.to_string() })).await?;
        Ok(info("RevokeTokenResponse", response.info)?)
    }

    /// Every member.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn list_members(&mut self) -> Result<Listing, OperatorError> {
        let response = answer(self.client.list_members(wire::ListMembersRequest {})).await?;
        Ok(listing(response)?)
    }

    /// Ends the membership of a cluster; gives the revision without it.
    ///
    /// # Errors
    /// When the service refuses or the call fails.
    pub async fn remove_member(&mut self, cluster: &ClusterName) -> Result<u64, OperatorError> {
        let request = wire::RemoveMemberRequest { cluster: cluster.to_string() };
        Ok(answer(self.client.remove_member(request)).await?.revision)
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
        Ok(answer(self.client.approve_member(request)).await?.revision)
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
        let mut stream = answer(self.client.list_audit(request)).await?;
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
        let stream = answer(self.client.export_audit(wire::ExportAuditRequest {})).await?;
        Ok(AuditLines(stream))
    }
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
mod tests {
    use super::*;
    use federation_pki::{
        ca::{Authority, SvidRequest},
        validity::Validity,
    };

    fn credential() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let trust_domain = TrustDomain::new("federation.internal").unwrap();
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let authority = Authority::generate(&trust_domain, "federation", validity).unwrap();
        let id = parse_workload_id("spiffe://federation.internal/landbridge/operator/admin").unwrap();
        let svid = authority.issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap();
        std::fs::write(dir.path().join("ca.crt"), authority.certificate_pem()).unwrap();
        std::fs::write(dir.path().join("tls.crt"), svid.certificate_pem()).unwrap();
        std::fs::write(dir.path().join("tls.key"), svid.key_pem().expose()).unwrap();
        std::fs::set_permissions(dir.path().join("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        dir
    }

    #[test]
    fn a_credential_is_three_files_with_a_private_key() {
        let dir = credential();
        assert_eq!(Credential::load(dir.path()).unwrap().id().path(), "/landbridge/operator/admin");
        std::fs::set_permissions(dir.path().join("tls.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Credential::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("run `chmod 600 "), "{error}");
        std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
        std::fs::set_permissions(dir.path().join("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Credential::load(dir.path()), Err(CredentialError::Missing(_))));
    }

    #[test]
    fn the_id_of_the_service_follows_from_its_trust_domain() {
        let id = federation_id(&TrustDomain::new("federation.internal").unwrap());
        assert_eq!(id.to_string(), "spiffe://federation.internal/landbridge/federation");
    }
}
