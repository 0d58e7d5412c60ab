//! Whether a cluster may join.
//!
//! Owns every rule of a join, in one order, for the join itself and for its test. Never says which half of an unknown
//! token is wrong.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use federation_model::{
    bundle::Fingerprint, finding::Finding, member::Member, names::ClusterName, spiffe::TrustDomain, time::Timestamp,
};
use federation_pki::{
    continuity,
    external::ExternalRoots,
    possession::{self, Transcript},
    token::{SecretHash, TokenId, TokenSecret},
    trust::BundleFault,
};
use proto::convert::member::{MAX_MEMBERS, PROTOCOL};
use rustls::pki_types::CertificateDer;

use super::{MemberRecord, State, TokenRecord, Write, tokens::TokenState};

mod refusal;

pub use refusal::JoinRefusal;

/// How far the clock of a cluster may differ: as far as certificates are backdated.
pub const MAX_SKEW: Duration = federation_pki::validity::CLOCK_SKEW;
/// From here on a difference is told.
const NOTABLE_SKEW: Duration = Duration::from_secs(5);

/// A cluster that wants to join.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The token it holds.
    pub token_id: TokenId,
    /// The token's secret.
    pub secret: TokenSecret,
    /// What it says of itself; the time of joining is set here.
    pub member: Member,
    /// Name and version of its gateways.
    pub software: String,
    /// Its clock, in milliseconds since 1970.
    pub unix_millis: u64,
    /// Signature over the transcript.
    pub proof: Vec<u8>,
    /// Whose key made it, and the certificates above; none for the first authority.
    pub signer: Vec<CertificateDer<'static>>,
    /// The protocol versions it speaks.
    pub versions: RangeInclusive<u32>,
}

/// The service's side of a join.
#[derive(Debug, Clone)]
pub struct Here {
    /// The clock, in milliseconds since 1970.
    pub unix_millis: u64,
    /// The authority that the token pins.
    pub authority: Fingerprint,
    /// Where the authorities of members must come from, when that is not left to them.
    pub external: Option<Arc<ExternalRoots>>,
    /// Whether an operator must approve a cluster that is not a member yet (`join.require_approval`).
    pub require_approval: bool,
}

impl Here {
    fn now(&self) -> Timestamp {
        Timestamp(self.unix_millis / 1000)
    }
}

/// What a join becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What changes; nothing when the join is a repetition.
    pub writes: Vec<Write>,
    /// The member.
    pub record: Arc<MemberRecord>,
}

/// What the token says.
enum TokenUse<'a> {
    /// It is spent by this join.
    Fresh(&'a Arc<TokenRecord>),
    /// This very join spent it before.
    Repeated(&'a Arc<MemberRecord>),
}

/// One rule: its name, and what it says of a join.
type Rule = (&'static str, fn(&State, &Joining, &Here) -> Result<String, JoinRefusal>);

/// Those after the token, in order.
const RULES: [Rule; 9] = [
    ("protocol version", version),
    ("clock", clock),
    ("trust bundle", bundle),
    ("origin of the authority", origin),
    ("key of the cluster", proof),
    ("cluster name", name),
    ("trust domain", trust_domain),
    ("revocations", revocations),
    ("room in the set", room),
];

impl State {
    /// Decides about a join.
    ///
    /// # Errors
    /// The first rule that refuses it.
    pub fn join(&self, joining: &Joining, here: &Here) -> Result<Admitted, JoinRefusal> {
        let token = match self.token_use(joining, here.now())? {
            TokenUse::Repeated(record) => {
                proof(self, joining, here)?;
                return Ok(Admitted { writes: Vec::new(), record: Arc::clone(record) });
            }
            TokenUse::Fresh(token) => token,
        };
        for (_, rule) in RULES {
            rule(self, joining, here)?;
        }
        let now = here.now();
        let held = self.members.get(&joining.member.cluster);
        let member = Member { joined_at: held.map_or(now, |held| held.member.joined_at), ..joining.member.clone() };
        // Whoever holds the key that was approved needs no approval again.
        let pending = here.require_approval && held.is_none_or(|held| held.pending);
        let record = MemberRecord { member, software: joining.software.clone(), token: joining.token_id, pending };
        let spent = TokenRecord { used_at: Some(now), ..TokenRecord::clone(token) };
        let writes = vec![Write::Token(spent), Write::Member(record.clone())];
        Ok(Admitted { writes, record: Arc::new(record) })
    }

    /// Says what every rule would say of a join. Whoever holds no token learns nothing but that.
    #[must_use]
    pub fn check_join(&self, joining: &Joining, here: &Here) -> Vec<Finding> {
        let now = here.now();
        let token = match self.token_use(joining, now) {
            Ok(TokenUse::Fresh(token)) => {
                let left = token.expires_at.since(now);
                Finding::ok("join token", format!("valid for cluster {} for another {left:?}", token.cluster))
            }
            Ok(TokenUse::Repeated(_)) => {
                Finding::ok("join token", "this cluster has joined with it already; joining again changes nothing")
            }
            Err(refusal @ JoinRefusal::TokenUnknown) => return vec![failed("join token", &refusal)],
            Err(refusal) => failed("join token", &refusal),
        };
        let rules = RULES.iter().map(|(check, rule)| match rule(self, joining, here) {
            Ok(detail) => notable(check, detail, joining, here),
            Err(refusal) => failed(check, &refusal),
        });
        std::iter::once(token).chain(rules).collect()
    }

    fn token_use(&self, joining: &Joining, now: Timestamp) -> Result<TokenUse<'_>, JoinRefusal> {
        let token = self.tokens.get(&joining.token_id);
        // An unknown id costs the same comparison as a known one.
        let hash = token.map_or_else(|| SecretHash::from_bytes([0; 32]), |token| token.secret);
        let matches = hash.matches(&joining.secret);
        let Some(token) = token.filter(|_| matches) else { return Err(JoinRefusal::TokenUnknown) };
        if token.cluster != joining.member.cluster {
            let (token, asked) = (token.cluster.clone(), joining.member.cluster.clone());
            return Err(JoinRefusal::TokenForAnotherCluster { token, asked });
        }
        match token.state(now) {
            TokenState::Ready => Ok(TokenUse::Fresh(token)),
            TokenState::Used => match self.members.get(&token.cluster) {
                Some(record) if is_repetition(record, joining) => Ok(TokenUse::Repeated(record)),
                Some(_) | None => Err(JoinRefusal::TokenUsed {
                    cluster: token.cluster.clone(),
                    ago: token.used_at.map_or(Duration::ZERO, |at| now.since(at)),
                }),
            },
            TokenState::Expired => {
                Err(JoinRefusal::TokenExpired { cluster: token.cluster.clone(), ago: now.since(token.expires_at) })
            }
            TokenState::Revoked => Err(JoinRefusal::TokenRevoked { cluster: token.cluster.clone() }),
        }
    }
}

/// Whether `joining` is the join that made `record`, sent once more.
fn is_repetition(record: &MemberRecord, joining: &Joining) -> bool {
    let (held, asked) = (&record.member, &joining.member);
    record.token == joining.token_id && held.gateway_id == asked.gateway_id && same_authority(held, asked)
}

fn same_authority(held: &Member, asked: &Member) -> bool {
    held.bundle.trust_domain == asked.bundle.trust_domain
        && asked.bundle.authorities.first().is_some_and(|first| held.bundle.authorities.contains(first))
}

/// Whether the bundle of `asked` is that of `held`, or a later version of it.
fn continues(held: &Member, asked: &Member) -> bool {
    match held.lineage.newest() {
        Some(newest) => continuity::advance(newest, &asked.lineage).is_ok(),
        // A member from before bundles were signed.
        None => same_authority(held, asked),
    }
}

fn version(_: &State, joining: &Joining, _: &Here) -> Result<String, JoinRefusal> {
    if joining.versions.contains(&PROTOCOL) {
        return Ok(format!("version {PROTOCOL} is spoken by both sides"));
    }
    Err(JoinRefusal::Version { theirs: joining.versions.clone() })
}

fn clock(_: &State, joining: &Joining, here: &Here) -> Result<String, JoinRefusal> {
    let skew = skew(joining, here);
    if skew <= MAX_SKEW {
        return Ok(format!("the clocks differ by {skew:?} or less"));
    }
    Err(JoinRefusal::ClockSkew { skew, ahead: joining.unix_millis > here.unix_millis })
}

fn skew(joining: &Joining, here: &Here) -> Duration {
    Duration::from_millis(joining.unix_millis.abs_diff(here.unix_millis))
}

fn bundle(state: &State, joining: &Joining, _: &Here) -> Result<String, JoinRefusal> {
    let bundle = &joining.member.bundle;
    let Some(first) = bundle.fingerprints().next() else {
        return Err(JoinRefusal::BundleInvalid { reason: "it holds no authority".to_owned() });
    };
    let invalid = |reason: String| JoinRefusal::BundleInvalid { reason };
    state.check_bundle(bundle).map_err(|fault| state.unusable(&fault))?;
    let member = &joining.member;
    continuity::check(&member.cluster, &member.lineage).map_err(|error| invalid(error.to_string()))?;
    Ok(format!("{} authorities of {}, the first {first}", bundle.authorities.len(), bundle.trust_domain))
}

impl State {
    /// Why a bundle is refused. Whoever was first keeps a key, though it may not hold it: so it is named.
    fn unusable(&self, fault: &BundleFault) -> JoinRefusal {
        let reason = fault.to_string();
        match fault {
            BundleFault::Shared(_, other) => {
                let by = self.members.values().find(|held| held.member.bundle.trust_domain == *other);
                match by {
                    Some(held) => JoinRefusal::AuthorityTaken { by: held.member.cluster.clone(), reason },
                    None => JoinRefusal::BundleInvalid { reason },
                }
            }
            BundleFault::Duplicate(_) | BundleFault::TooMany(..) | BundleFault::Authority { .. } => {
                JoinRefusal::BundleInvalid { reason }
            }
        }
    }
}

fn origin(_: &State, joining: &Joining, here: &Here) -> Result<String, JoinRefusal> {
    let Some(roots) = &here.external else { return Ok("left to the cluster".to_owned()) };
    let bundle = &joining.member.bundle;
    let newest = joining.member.lineage.newest();
    let above = newest.map(|version| version.signer.as_slice()).unwrap_or_default();
    bundle
        .authorities
        .iter()
        .try_for_each(|authority| roots.check(authority, above))
        .map_err(|error| JoinRefusal::AuthorityNotExternal { reason: error.to_string() })?;
    Ok("it comes from an external PKI".to_owned())
}

fn proof(_: &State, joining: &Joining, here: &Here) -> Result<String, JoinRefusal> {
    let member = &joining.member;
    let transcript = Transcript {
        token_id: &joining.token_id,
        cluster: &member.cluster,
        gateway_id: &member.gateway_id,
        bundle: &member.bundle,
        federation: &here.authority,
    };
    possession::verify(&transcript, here.now(), &joining.signer, &joining.proof)
        .map_err(|error| JoinRefusal::ProofInvalid { reason: error.to_string() })?;
    Ok("its possession is proven".to_owned())
}

fn name(state: &State, joining: &Joining, _: &Here) -> Result<String, JoinRefusal> {
    let asked = &joining.member;
    match state.members.get(&asked.cluster) {
        None => Ok(format!("{} is free", asked.cluster)),
        Some(held) if continues(&held.member, asked) => {
            Ok(format!("{} is this very cluster, which joins anew", asked.cluster))
        }
        Some(held) => Err(JoinRefusal::ClusterTaken {
            cluster: asked.cluster.clone(),
            trust_domain: held.member.bundle.trust_domain.clone(),
            authority: held.member.bundle.fingerprints().next(),
        }),
    }
}

fn trust_domain(state: &State, joining: &Joining, _: &Here) -> Result<String, JoinRefusal> {
    let (asked, domain) = (&joining.member, &joining.member.bundle.trust_domain);
    if *domain == state.federation.trust_domain {
        return Err(JoinRefusal::TrustDomainTaken { trust_domain: domain.clone(), by: None });
    }
    if state.foreign.contains_key(domain) {
        return Err(JoinRefusal::TrustDomainForeign { trust_domain: domain.clone() });
    }
    if let Some(foreign) = state.foreign_with_key_of(&asked.bundle) {
        return Err(JoinRefusal::AuthorityForeign { trust_domain: foreign.clone() });
    }
    match state.members.values().find(|held| holds(held, domain, &asked.cluster)) {
        None => Ok(format!("{domain} is free")),
        Some(held) => {
            Err(JoinRefusal::TrustDomainTaken { trust_domain: domain.clone(), by: Some(held.member.cluster.clone()) })
        }
    }
}

fn holds(held: &MemberRecord, domain: &TrustDomain, but: &ClusterName) -> bool {
    held.member.bundle.trust_domain == *domain && held.member.cluster != *but
}

fn revocations(state: &State, joining: &Joining, _: &Here) -> Result<String, JoinRefusal> {
    let asked = &joining.member;
    match state.revocations.of_cluster(&asked.cluster).or_else(|| state.revocations.of_id(&asked.gateway_id)) {
        None => Ok("none concerns this cluster".to_owned()),
        Some(revocation) => Err(JoinRefusal::Revoked { revocation: Box::new((**revocation).clone()) }),
    }
}

fn room(state: &State, joining: &Joining, _: &Here) -> Result<String, JoinRefusal> {
    let members = state.members.len();
    if members < MAX_MEMBERS || state.members.contains_key(&joining.member.cluster) {
        return Ok(format!("{members} of {MAX_MEMBERS} members"));
    }
    Err(JoinRefusal::SetFull)
}

fn failed(check: &str, refusal: &JoinRefusal) -> Finding {
    Finding::failed(check, refusal.detail(), refusal.hint())
}

/// A rule that allows the join, with a warning where there is something to say.
fn notable(check: &str, detail: String, joining: &Joining, here: &Here) -> Finding {
    if check == "clock" && skew(joining, here) > NOTABLE_SKEW {
        let hint = format!("set both clocks by NTP: beyond {MAX_SKEW:?} certificates are refused");
        return Finding::warning(check, detail, hint);
    }
    Finding::ok(check, detail)
}
