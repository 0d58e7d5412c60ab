//! Joining a cluster set, and being a member of it.
//!
//! Owns the join with its proof, and the calls of a member. Never spends a token by itself, never keeps what it learns.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use federation_model::{
    addr::GatewayAddr,
    bundle::{Fingerprint, TrustBundle},
    finding::Finding,
    lineage::Lineage,
    mark::Mark,
    member::Member,
    revocation::Revocations,
    spiffe::{SpiffeId, parse_workload_id},
};
use federation_pki::{
    identity::LiveIdentity,
    possession::Transcript,
    rotation::Taken,
    signer::{Signer, SigningError},
    tls::{TlsConfigError, client_config},
    token::JoinToken,
    trust::{TrustError, TrustStore},
    verify::{Expect, PinnedAuthority, SpiffeVerifier},
};
use proto::{
    convert::{
        ConvertError,
        member::{PROTOCOL, Refusal},
        revocation,
    },
    federation::v1::{self as wire, membership_client::MembershipClient},
};
use tonic::transport::Channel;

use crate::{
    call::{CallError, MAX_ANSWER, answer},
    dial::{ALPN, DialError, Dialer},
    watch::{Position, Watch},
};

/// Why a join, or its test, failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is no connection to the service the token names.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The service refused, or the call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The possession of the cluster's key cannot be proven.
    #[error("the key of the cluster cannot be used: {0}")]
    Prove(#[from] SigningError),
    /// TLS cannot be configured.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The service says that its authority is another one than the token's.
    #[error(
        "the federation service announces authorities of {announced} that do not include {pin} of the join token: ask for a new token"
    )]
    AnotherAuthority {
        /// What it announces.
        announced: String,
        /// The token's.
        pin: Fingerprint,
    },
}

impl JoinError {
    /// The reason of the service, when it gave one.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Call(error) => error.refusal(),
            Self::Dial(_) | Self::Prove(_) | Self::Tls(_) | Self::AnotherAuthority { .. } => None,
        }
    }
}

/// Who wants to join.
#[derive(Debug, Clone, Copy)]
pub struct Application<'a> {
    /// What the cluster says of itself.
    pub member: &'a Member,
    /// Whoever speaks for its trust domain: an authority of the member's bundle, or a gateway under one.
    pub signer: &'a Signer,
    /// Name and version of the program.
    pub software: &'a str,
}

/// What a test of a join found.
#[derive(Debug, Clone)]
pub struct Checked {
    /// Every finding of the service.
    pub findings: Vec<Finding>,
    /// How far the clock of the service is ahead of ours, in milliseconds, half of the round trip taken off.
    pub skew_millis: i64,
    /// Name and version of the service.
    pub software: String,
}

/// What a new member learns.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The member as the service keeps it.
    pub member: Member,
    /// The authorities of the service.
    pub federation: TrustBundle,
    /// The id of the service.
    pub federation_id: SpiffeId,
    /// Every member; none when [`Joined::position`] is at revision 0, then the watch brings them.
    pub members: Vec<Member>,
    /// Every revocation in force.
    pub revocations: Arc<Revocations>,
    /// Where to resume the watch.
    pub position: Position,
    /// Where the service listens.
    pub addresses: Vec<GatewayAddr>,
    /// Whether an operator must approve the join first; the watch tells when it is done.
    pub pending: bool,
    /// The bundles of trust domains outside the set.
    pub foreign: Vec<TrustBundle>,
}

/// A connection to the service that a token names, verified by the token's pin.
#[derive(Debug)]
pub struct JoinClient {
    token: JoinToken,
    address: GatewayAddr,
    client: MembershipClient<Channel>,
}

impl JoinClient {
    /// Connects to the first address of the token that is the pinned service.
    ///
    /// # Errors
    /// When none answers or what answers is not the pinned service.
    pub async fn connect(token: &JoinToken) -> Result<Self, JoinError> {
        let tls = client_config(None, Arc::new(PinnedAuthority(token.pin)), ALPN)?;
        let dialer = Dialer { addresses: token.addresses.clone(), tls: Arc::new(tls) };
        let connected = dialer.dial(0).await?;
        let client = MembershipClient::new(connected.channel).max_decoding_message_size(MAX_ANSWER);
        Ok(Self { token: token.clone(), address: connected.address, client })
    }

    /// The address that answered.
    #[must_use]
    pub fn address(&self) -> &GatewayAddr {
        &self.address
    }

    /// Says whether a join would succeed; spends nothing.
    ///
    /// # Errors
    /// When the service cannot be asked.
    pub async fn check(&mut self, application: Application<'_>) -> Result<Checked, JoinError> {
        let request = self.request(application)?;
        let before = unix_millis();
        let response = answer(self.client.check_join(request)).await?;
        let here = before.midpoint(unix_millis());
        let findings: Result<Vec<_>, ConvertError> = response.findings.into_iter().map(TryInto::try_into).collect();
        Ok(Checked {
            findings: findings.map_err(CallError::from)?,
            skew_millis: i64::try_from(i128::from(response.unix_millis) - i128::from(here)).unwrap_or(i64::MAX),
            software: response.software,
        })
    }

    /// Spends the token and makes the cluster a member. Repeating it gives the same answer.
    ///
    /// # Errors
    /// When the service refuses or cannot be asked.
    pub async fn join(&mut self, application: Application<'_>) -> Result<Joined, JoinError> {
        let request = self.request(application)?;
        let response = answer(self.client.join(request)).await?;
        let joined = joined(response).map_err(CallError::from)?;
        if !joined.federation.fingerprints().any(|fingerprint| fingerprint == self.token.pin) {
            let announced = joined.federation.trust_domain.to_string();
            return Err(JoinError::AnotherAuthority { announced, pin: self.token.pin });
        }
        Ok(joined)
    }

    fn request(&self, application: Application<'_>) -> Result<wire::JoinRequest, JoinError> {
        let Application { member, signer, software } = application;
        let transcript = Transcript {
            token_id: &self.token.id,
            cluster: &member.cluster,
            gateway_id: &member.gateway_id,
            bundle: &member.bundle,
            federation: &self.token.pin,
        };
        Ok(wire::JoinRequest {
            token_id: self.token.id.to_string(),
            secret: self.token.secret.expose().to_vec().into(),
            member: Some(member.into()),
            software: software.to_owned(),
            unix_millis: unix_millis(),
            proof: signer.sign(&transcript.bytes())?.into(),
            signer: signer.certificates().iter().map(|der| der.to_vec().into()).collect(),
            min_version: PROTOCOL,
            max_version: PROTOCOL,
        })
    }
}

fn joined(response: wire::JoinResponse) -> Result<Joined, ConvertError> {
    let missing = |field| ConvertError::new("JoinResponse", field, "it is missing");
    let addresses = response.addresses.iter().map(|text| text.parse());
    Ok(Joined {
        member: response.member.ok_or_else(|| missing("member"))?.try_into()?,
        federation: response.federation.ok_or_else(|| missing("federation"))?.try_into()?,
        federation_id: parse_workload_id(&response.federation_id)
            .map_err(|error| ConvertError::new("JoinResponse", "federation_id", error))?,
        members: response.members.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        revocations: Arc::new(revocation::set(response.revocations)?),
        position: Position {
            store_id: response.store_id,
            revision: response.revision,
            mark: Mark::from_bytes(&response.mark),
            former: Vec::new(),
        },
        addresses: addresses
            .collect::<Result<_, _>>()
            .map_err(|error| ConvertError::new("JoinResponse", "addresses", error))?,
        pending: response.pending,
        foreign: response.foreign.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
    })
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Why a call of a member failed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// There is no connection to the service.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The service refused, or the call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The service offers a state of its store that is not the one this member has seen.
    #[error(
        "this member has seen revision {seen} of the set, and the federation service offers {} instead of what follows: its store was restored from an older copy, or it lies; compare `fedctl members` and `fedctl revoke list` with what was done since that copy, and then run `fedctl recover`", if .at < .seen { format!("revision {at}") } else { format!("another revision {at}") }
    )]
    Rewound {
        /// The revision this member has seen.
        seen: u64,
        /// The revision it is offered.
        at: u64,
    },
    /// The service offers the state of a store that it had before it was recovered.
    #[error(
        "this member has seen revision {seen} of the set after the federation service was recovered, and the service offers its state from before: its store was restored from a copy older than the recovery, or it lies; compare `fedctl members` and `fedctl revoke list` with what was done since that copy, and then run `fedctl recover`"
    )]
    Unrecovered {
        /// The revision this member has seen.
        seen: u64,
    },
}

impl MemberError {
    /// Whether the service has gone back to an older state of its store, or on from one; it says so, or shows it.
    #[must_use]
    pub fn rewound(&self) -> bool {
        match self {
            Self::Call(error) => error.refusal() == Some(Refusal::Rewound),
            Self::Dial(_) => false,
            Self::Rewound { .. } | Self::Unrecovered { .. } => true,
        }
    }

    /// Whether the service says that this cluster is no member (any more).
    #[must_use]
    pub fn not_a_member(&self) -> bool {
        match self {
            Self::Call(error) => error.refusal() == Some(Refusal::NotAMember),
            Self::Dial(_) | Self::Rewound { .. } | Self::Unrecovered { .. } => false,
        }
    }

    /// Whether the service says that the caller's certificate or id was revoked.
    #[must_use]
    pub fn revoked(&self) -> bool {
        match self {
            Self::Call(error) => error.refusal() == Some(Refusal::Revoked),
            Self::Dial(_) | Self::Rewound { .. } | Self::Unrecovered { .. } => false,
        }
    }

    /// Whether the service says so from the store that this cluster became a member in. From another store it only says
    /// that it lost the one it had.
    #[must_use]
    pub fn not_a_member_in(&self, store_id: &str) -> bool {
        match self {
            Self::Call(CallError::Refused { refusal: Refusal::NotAMember, store_id: told, .. }) => {
                told.as_deref() == Some(store_id)
            }
            Self::Call(_) | Self::Dial(_) | Self::Rewound { .. } | Self::Unrecovered { .. } => false,
        }
    }
}

/// Why a member's client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MemberSetupError {
    /// The authorities of the service cannot be used.
    #[error("the authorities of the federation service cannot be used: {0}")]
    Trust(#[from] TrustError),
    /// TLS cannot be configured.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

/// What a member keeps of its federation service.
#[derive(Debug, Clone)]
pub struct FederationEndpoint {
    /// Where it listens.
    pub addresses: Vec<GatewayAddr>,
    /// Its authorities.
    pub bundle: TrustBundle,
    /// Its id.
    pub id: SpiffeId,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publication {
    /// Where its gateways listen.
    pub advertise: Vec<GatewayAddr>,
    /// Its region, may be empty.
    pub region: String,
    /// Its zone, may be empty.
    pub zone: String,
    /// Name and version of the program.
    pub software: String,
}

/// The calls of a member; each dials anew, for there are few.
#[derive(Debug, Clone)]
pub struct MemberClient {
    dialer: Dialer,
    trust: Arc<TrustStore>,
}

impl MemberClient {
    /// A client that presents `identity` as it is at the time of each connection, and believes `federation` alone.
    ///
    /// # Errors
    /// When the authorities of the service are not usable.
    pub fn new(federation: FederationEndpoint, identity: Arc<LiveIdentity>) -> Result<Self, MemberSetupError> {
        let trust = Arc::new(TrustStore::new());
        trust.replace([federation.bundle])?;
        let verifier = SpiffeVerifier::new(Arc::clone(&trust), Expect::Exactly(federation.id));
        let tls = client_config(Some(identity), Arc::new(verifier), ALPN)?;
        Ok(Self { dialer: Dialer { addresses: federation.addresses, tls: Arc::new(tls) }, trust })
    }

    /// Replaces what the member says of itself; gives the revision that says so.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn publish(&self, publication: &Publication) -> Result<u64, MemberError> {
        let request = wire::PublishRequest {
            advertise: publication.advertise.iter().map(ToString::to_string).collect(),
            region: publication.region.clone(),
            zone: publication.zone.clone(),
            software: publication.software.clone(),
        };
        let (mut client, _) = self.connect(0).await?;
        Ok(answer(client.publish(request)).await?.revision)
    }

    /// Announces newer versions of the member's own bundle; gives the revision that says so.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn publish_bundle(&self, lineage: &Lineage) -> Result<u64, MemberError> {
        let lineage = lineage.versions().iter().map(Into::into).collect();
        let (mut client, _) = self.connect(0).await?;
        Ok(answer(client.publish_bundle(wire::PublishBundleRequest { lineage })).await?.revision)
    }

    /// Has the audit log tell of a step of a rotation; `authority` is that of the certificate in use.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn report_rotation(
        &self,
        taken: Taken,
        authority: Option<Fingerprint>,
        forced: bool,
    ) -> Result<(), MemberError> {
        let step = match taken {
            Taken::Published => wire::RotationStep::Published,
            Taken::Activated => wire::RotationStep::Activated,
            Taken::Retired => wire::RotationStep::Retired,
            Taken::Cancelled => wire::RotationStep::Cancelled,
        };
        let authority = authority.map(|fingerprint| fingerprint.to_string()).unwrap_or_default();
        let (mut client, _) = self.connect(0).await?;
        let request = wire::ReportRotationRequest { step: step.into(), authority, forced };
        answer(client.report_rotation(request)).await?;
        Ok(())
    }

    /// Ends the membership; gives the revision without it.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn leave(&self) -> Result<u64, MemberError> {
        let (mut client, _) = self.connect(0).await?;
        Ok(answer(client.leave(wire::LeaveRequest {})).await?.revision)
    }

    /// Everything that changes after `since`, for as long as it is polled.
    #[must_use]
    pub fn watch(&self, since: Position) -> Watch {
        Watch::new(self.clone(), since)
    }

    /// Believes another set of authorities of the service from the next connection on.
    ///
    /// # Errors
    /// When they are not usable; then none is believed.
    pub fn trust(&self, bundle: TrustBundle) -> Result<(), TrustError> {
        self.trust.replace([bundle])
    }

    pub(crate) fn bundle(&self) -> Option<TrustBundle> {
        self.trust.bundles().into_iter().next()
    }

    pub(crate) async fn connect(&self, first: usize) -> Result<(MembershipClient<Channel>, GatewayAddr), MemberError> {
        let connected = self.dialer.dial(first).await?;
        Ok((MembershipClient::new(connected.channel).max_decoding_message_size(MAX_ANSWER), connected.address))
    }
}
