use std::time::Duration;

use federation_model::{
    finding::Level,
    spiffe::{TrustDomain, parse_workload_id},
    time::Timestamp,
};
use federation_pki::{
    ca::Authority,
    possession::Transcript,
    signer::Signer,
    token::{SecretHash, TokenSecret},
    validity::Validity,
};
use proptest::prelude::*;
use proto::convert::member::Refusal;

use super::{
    join::{Admitted, Here, JoinRefusal, Joining},
    tokens::{MAX_FINISHED, MAX_READY, NewToken, TokenRefusal, TokenRules, TokenState},
    *,
};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000);
pub(crate) const RULES: TokenRules = TokenRules { ttl: Duration::from_secs(900), max_ttl: Duration::from_secs(86_400) };

pub(crate) fn authority(trust_domain: &str) -> Arc<Authority> {
    let domain = TrustDomain::new(trust_domain).unwrap();
    let validity = Validity::starting(NOW, Duration::from_secs(86_400));
    Arc::new(Authority::generate(&domain, trust_domain, validity).unwrap())
}

pub(crate) fn empty_set() -> State {
    State::new("store-1", authority("federation.internal").bundle(1))
}

/// A member with the first version of the bundle of `authority`.
pub(crate) fn member_of(cluster: &str, authority: &Arc<Authority>) -> Member {
    let mut member = member(cluster, authority.bundle(1));
    let signer = Signer::Authority(Arc::clone(authority));
    let authorities = vec![authority.certificate().clone()];
    let first = continuity::first(&member.cluster, &member.gateway_id, authorities, (&signer, NOW)).unwrap();
    member.lineage = Lineage::new(vec![first]);
    member
}

pub(crate) fn member(cluster: &str, bundle: TrustBundle) -> Member {
    Member {
        cluster: cluster.parse().unwrap(),
        gateway_id: parse_workload_id(&format!("spiffe://{}/landbridge/gateway", bundle.trust_domain)).unwrap(),
        advertise: vec!["gateway.example:15443".parse().unwrap()],
        bundle,
        region: String::new(),
        zone: String::new(),
        lineage: Lineage::default(),
        joined_at: Timestamp(0),
    }
}

/// A record with a bundle that is never looked at.
pub(crate) fn record(cluster: &str) -> MemberRecord {
    let trust_domain = TrustDomain::new(format!("{cluster}.example")).unwrap();
    let bundle = TrustBundle { trust_domain, sequence: 1, authorities: vec![vec![1, 2, 3].into()] };
    MemberRecord {
        member: member(cluster, bundle),
        software: "gateway/1".to_owned(),
        token: TokenId::random(),
        pending: false,
    }
}

pub(crate) fn here(state: &State) -> Here {
    let authority = state.federation.fingerprints().next().unwrap();
    Here { unix_millis: NOW.0 * 1000, authority, external: None, require_approval: false }
}

fn later(state: &State, by: Duration) -> Here {
    let here = here(state);
    Here { unix_millis: here.unix_millis + u64::try_from(by.as_millis()).unwrap(), ..here }
}

pub(crate) struct Issued {
    pub(crate) id: TokenId,
    pub(crate) secret: TokenSecret,
}

/// Makes a token for `cluster`; gives the state with it.
pub(crate) fn with_token(state: &State, cluster: &str) -> (State, Issued) {
    let secret = TokenSecret::random();
    let new = NewToken {
        id: TokenId::random(),
        secret: SecretHash::of(&secret),
        cluster: cluster.parse().unwrap(),
        ttl: Duration::ZERO,
    };
    let (writes, record) = state.create_token(new, RULES, NOW).unwrap();
    (state.applied(&writes), Issued { id: record.id, secret })
}

pub(crate) fn joining(state: &State, token: &Issued, cluster: &str, authority: &Arc<Authority>) -> Joining {
    let member = member_of(cluster, authority);
    let transcript = Transcript {
        token_id: &token.id,
        cluster: &member.cluster,
        gateway_id: &member.gateway_id,
        bundle: &member.bundle,
        federation: &here(state).authority,
    };
    Joining {
        token_id: token.id,
        secret: token.secret.clone(),
        proof: authority.prove(&transcript.bytes()).unwrap(),
        software: "gateway/1".to_owned(),
        unix_millis: NOW.0 * 1000,
        versions: 1..=1,
        signer: Vec::new(),
        member,
    }
}

/// A set with `cluster` in it, and the join that made it so.
pub(crate) fn with_member(state: &State, cluster: &str, authority: &Arc<Authority>) -> (State, Joining) {
    let (state, token) = with_token(state, cluster);
    let joining = joining(&state, &token, cluster, authority);
    let admitted = state.join(&joining, &here(&state)).unwrap();
    (state.applied(&admitted.writes), joining)
}

#[test]
fn a_join_spends_the_token_and_makes_the_member() {
    let west = authority("west.example");
    let (state, joining) = with_member(&empty_set(), "west", &west);
    let held = &state.members[&joining.member.cluster];
    assert_eq!((held.member.joined_at, held.token), (NOW, joining.token_id));
    assert_eq!(state.tokens[&joining.token_id].state(NOW), TokenState::Used);
    assert_eq!((state.revision, state.log.len()), (1, 1));
}

#[test]
fn a_repeated_join_gives_the_same_member_and_changes_nothing() {
    let west = authority("west.example");
    let (state, joining) = with_member(&empty_set(), "west", &west);
    let much_later = later(&state, Duration::from_secs(86_400));
    for here in [here(&state), much_later] {
        let Admitted { writes, record } = state.join(&joining, &here).unwrap();
        assert!(writes.is_empty());
        assert_eq!(record, state.members[&joining.member.cluster]);
    }
    let forged = Joining { proof: vec![0; 64], ..joining };
    assert_eq!(state.join(&forged, &here(&state)).unwrap_err().refusal(), Refusal::ProofInvalid);
}

#[test]
fn a_used_token_is_worth_nothing_to_another_authority_or_after_the_member_left() {
    let west = authority("west.example");
    let (state, first) = with_member(&empty_set(), "west", &west);
    let token = Issued { id: first.token_id, secret: first.secret.clone() };
    let thief = joining(&state, &token, "west", &authority("west.example"));
    assert_eq!(state.join(&thief, &here(&state)).unwrap_err().refusal(), Refusal::TokenUsed);
    let state = state.applied(&state.remove(&first.member.cluster).unwrap());
    let error = state.join(&first, &later(&state, Duration::from_secs(60))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token for cluster west was used 60s ago, and a token is good for one join: make a new one with `fedctl token create --cluster west`; if it was not you who used it, run `fedctl members remove west` first"
    );
}

#[test]
fn an_unknown_id_and_a_wrong_secret_look_the_same() {
    let west = authority("west.example");
    let (state, token) = with_token(&empty_set(), "west");
    let right = joining(&state, &token, "west", &west);
    let unknown = Joining { token_id: TokenId::random(), ..right.clone() };
    let wrong = Joining { secret: TokenSecret::random(), ..right };
    let refusals = [&unknown, &wrong].map(|joining| state.join(joining, &here(&state)).unwrap_err());
    assert_eq!(refusals[0], JoinRefusal::TokenUnknown);
    assert_eq!(refusals[0].to_string(), refusals[1].to_string());
    assert_eq!(state.check_join(&unknown, &here(&state)), state.check_join(&wrong, &here(&state)));
}

#[test]
fn tokens_that_cannot_be_spent_say_why_and_what_to_do() {
    let west = authority("west.example");
    let (state, token) = with_token(&empty_set(), "west");
    let asked = joining(&state, &token, "west", &west);
    let error = state.join(&asked, &later(&state, Duration::from_secs(960))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token for cluster west expired 60s ago: make a new one with `fedctl token create --cluster west`"
    );
    let elsewhere = joining(&state, &token, "east", &authority("east.example"));
    let error = state.join(&elsewhere, &here(&state)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the token is for cluster west, and this is cluster east: use it in cluster west, or make a new one with `fedctl token create --cluster east`"
    );
    let state = state.applied(&state.revoke_token(&token.id, NOW).unwrap().0);
    let error = state.join(&asked, &here(&state)).unwrap_err();
    assert_eq!(error.refusal(), Refusal::TokenRevoked);
}

#[test]
fn a_name_or_a_trust_domain_that_is_taken_names_its_owner() {
    let (state, _) = with_member(&empty_set(), "west", &authority("west.example"));
    let (state, token) = with_token(&state, "west");
    let imposter = joining(&state, &token, "west", &authority("other.example"));
    let error = state.join(&imposter, &here(&state)).unwrap_err();
    assert_eq!(error.refusal(), Refusal::ClusterTaken);
    assert!(error.to_string().contains("belongs to the member of trust domain west.example"), "{error}");

    let (state, token) = with_token(&state, "east");
    let squatter = joining(&state, &token, "east", &authority("west.example"));
    let error = state.join(&squatter, &here(&state)).unwrap_err();
    assert_eq!(error.refusal(), Refusal::TrustDomainTaken);
    assert!(error.to_string().starts_with("the trust domain west.example belongs to cluster west"), "{error}");

    let pretender = joining(&state, &token, "east", &authority("federation.internal"));
    let error = state.join(&pretender, &here(&state)).unwrap_err();
    assert_eq!(
        error,
        JoinRefusal::TrustDomainTaken { trust_domain: TrustDomain::new("federation.internal").unwrap(), by: None }
    );
}

#[test]
fn the_same_cluster_may_join_anew_with_a_new_token() {
    let west = authority("west.example");
    let (state, _) = with_member(&empty_set(), "west", &west);
    let (state, token) = with_token(&state, "west");
    let mut again = joining(&state, &token, "west", &west);
    again.member.advertise.clear();
    let admitted = state.join(&again, &later(&state, Duration::from_secs(10))).unwrap();
    assert_eq!(admitted.record.member.joined_at, NOW);
    assert!(admitted.record.member.advertise.is_empty());
    assert_eq!(state.applied(&admitted.writes).members.len(), 1);
}

#[test]
fn the_key_of_the_first_authority_must_be_proven_for_this_very_join() {
    let west = authority("west.example");
    let (state, token) = with_token(&empty_set(), "west");
    let mut moved = joining(&state, &token, "west", &west);
    moved.member.gateway_id = parse_workload_id("spiffe://west.example/elsewhere").unwrap();
    assert_eq!(state.join(&moved, &here(&state)).unwrap_err().refusal(), Refusal::ProofInvalid);
    let mut empty = joining(&state, &token, "west", &west);
    empty.member.bundle.authorities.clear();
    assert_eq!(state.join(&empty, &here(&state)).unwrap_err().refusal(), Refusal::BundleInvalid);
    let mut foreign = joining(&state, &token, "west", &west);
    foreign.member.bundle.authorities.extend(authority("east.example").bundle(1).authorities);
    assert_eq!(state.join(&foreign, &here(&state)).unwrap_err().refusal(), Refusal::BundleInvalid);
}

#[test]
fn a_cluster_does_not_join_with_a_key_of_another_one() {
    // An authority that names no trust domain could be anybody's.
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let shared = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone();
    let mut east = record("east");
    east.member.bundle.authorities = vec![shared.clone()];
    let state = empty_set().applied(&[Write::Member(east)]);
    let (state, token) = with_token(&state, "west");
    let mut west = joining(&state, &token, "west", &authority("west.example"));
    assert!(state.join(&west, &here(&state)).is_ok());
    west.member.bundle.authorities.push(shared);
    let refusal = state.join(&west, &here(&state)).unwrap_err();
    assert_eq!(refusal.refusal(), Refusal::BundleInvalid);
    assert!(refusal.detail().contains("west.example has the same key as one of east.example"), "{}", refusal.detail());
}

#[test]
fn a_key_that_another_cluster_published_first_is_refused_with_its_name_and_free_when_it_is_removed() {
    // A certificate for a key that its issuer does not hold: nobody asks for the signature of an authority.
    let west = authority("west.example");
    let key = rcgen::KeyPair::from_pem(west.key_pem().expose()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let issuer = rcgen::Issuer::from_params(&params, rcgen::KeyPair::generate().unwrap());
    let forged = params.signed_by(&key, &issuer).unwrap().der().clone();
    let mut east = record("east");
    east.member.bundle = authority("east.example").bundle(1);
    east.member.bundle.authorities.push(forged);
    let state = empty_set().applied(&[Write::Member(east)]);
    let (state, token) = with_token(&state, "west");
    let join = joining(&state, &token, "west", &west);
    let refusal = state.join(&join, &here(&state)).unwrap_err();
    assert_eq!(refusal.refusal(), Refusal::BundleInvalid);
    assert!(refusal.hint().contains("`fedctl members remove east`"), "{}", refusal.hint());
    let state = state.applied(&state.remove(&"east".parse().unwrap()).unwrap());
    assert!(state.join(&join, &here(&state)).is_ok());
}

#[test]
fn clocks_and_versions_are_compared_and_the_token_is_kept() {
    let west = authority("west.example");
    let (state, token) = with_token(&empty_set(), "west");
    let asked = joining(&state, &token, "west", &west);
    let late = Joining { unix_millis: asked.unix_millis - 61_000, ..asked.clone() };
    let error = state.join(&late, &here(&state)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the clock of the cluster is 61s behind that of the federation service: set both clocks by NTP and join again; the token is not spent"
    );
    let newer = Joining { versions: 2..=3, ..asked.clone() };
    assert_eq!(state.join(&newer, &here(&state)).unwrap_err().refusal(), Refusal::Version);
    assert!(state.join(&asked, &here(&state)).is_ok());
}

#[test]
fn a_check_tells_every_problem_at_once_and_spends_nothing() {
    let (state, _) = with_member(&empty_set(), "west", &authority("west.example"));
    let (state, token) = with_token(&state, "west");
    let asked = joining(&state, &token, "west", &authority("west.example"));
    let asked = Joining { unix_millis: asked.unix_millis + 6_000, versions: 7..=7, ..asked };
    let findings = state.check_join(&asked, &here(&state));
    let levels: Vec<_> = findings.iter().map(|finding| (finding.check.as_str(), finding.level)).collect();
    assert_eq!(
        levels,
        [
            ("join token", Level::Ok),
            ("protocol version", Level::Failed),
            ("clock", Level::Warning),
            ("trust bundle", Level::Ok),
            ("origin of the authority", Level::Ok),
            ("key of the cluster", Level::Ok),
            ("cluster name", Level::Failed),
            ("trust domain", Level::Ok),
            ("revocations", Level::Ok),
            ("room in the set", Level::Ok),
        ]
    );
    assert!(findings.iter().all(|finding| (finding.level == Level::Ok) == finding.hint.is_empty()));
}

#[test]
fn tokens_are_limited_in_number_and_life() {
    let new = |cluster: &str, ttl| NewToken {
        id: TokenId::random(),
        secret: SecretHash::from_bytes([7; 32]),
        cluster: cluster.parse().unwrap(),
        ttl,
    };
    let long = empty_set().create_token(new("west", Duration::from_secs(86_401)), RULES, NOW).unwrap_err();
    assert!(matches!(long, TokenRefusal::TtlTooLong { .. }));
    let mut state = empty_set();
    for _ in 0..MAX_READY {
        let (writes, _) = state.create_token(new("west", Duration::ZERO), RULES, NOW).unwrap();
        state = state.applied(&writes);
    }
    assert_eq!(state.create_token(new("west", Duration::ZERO), RULES, NOW).unwrap_err(), TokenRefusal::TooMany);
    let expired = NOW.after(RULES.ttl + Duration::from_secs(1));
    for _ in 0..MAX_READY {
        let (writes, _) = state.create_token(new("west", Duration::ZERO), RULES, expired).unwrap();
        state = state.applied(&writes);
    }
    assert!(state.tokens.len() <= MAX_READY + MAX_FINISHED, "{}", state.tokens.len());
}

#[test]
fn a_token_is_revoked_once_and_a_used_one_cannot_be() {
    let (state, token) = with_token(&empty_set(), "west");
    let (writes, record) = state.revoke_token(&token.id, NOW).unwrap();
    assert_eq!(record.state(NOW), TokenState::Revoked);
    let state = state.applied(&writes);
    assert!(state.revoke_token(&token.id, NOW).unwrap().0.is_empty());
    let (state, joining) = with_member(&state, "west", &authority("west.example"));
    let error = state.revoke_token(&joining.token_id, NOW).unwrap_err().to_string();
    assert!(error.contains("`fedctl members remove west`"), "{error}");
    assert!(matches!(state.revoke_token(&TokenId::random(), NOW), Err(TokenRefusal::Unknown(_))));
}

#[test]
fn a_publication_is_announced_only_when_it_concerns_others() {
    let state = empty_set().applied(&[Write::Member(record("west"))]);
    let west = "west".parse().unwrap();
    let held = &state.members[&west];
    let same = Publication {
        advertise: held.member.advertise.clone(),
        region: String::new(),
        zone: String::new(),
        software: held.software.clone(),
    };
    assert!(state.publish(&west, same.clone()).unwrap().is_empty());
    let newer = Publication { software: "gateway/2".to_owned(), ..same.clone() };
    let quiet = state.applied(&state.publish(&west, newer).unwrap());
    assert_eq!((quiet.revision, quiet.members[&west].software.as_str()), (state.revision, "gateway/2"));
    let moved = Publication { region: "north".to_owned(), ..same.clone() };
    assert_eq!(state.applied(&state.publish(&west, moved).unwrap()).revision, state.revision + 1);
    assert!(state.publish(&"east".parse().unwrap(), same).is_err());
}

#[test]
fn a_watcher_that_resumes_gets_each_missed_member_once_as_it_is_now() {
    let mut renamed = record("west");
    renamed.member.zone = "b".to_owned();
    let state = empty_set().applied(&[Write::Member(record("west")), Write::Member(record("east"))]);
    let seen = state.revision;
    let state = state.applied(&[
        Write::Member(renamed.clone()),
        Write::Member(record("north")),
        Write::MemberGone("north".parse().unwrap()),
        Write::MemberQuietly(record("east")),
    ]);
    let missed = state.since("store-1", seen);
    assert_eq!(
        missed,
        Missed {
            reset: false,
            revision: seen + 3,
            changes: vec![Change::Removed("north".parse().unwrap()), Change::Upsert(renamed.member)],
        }
    );
    assert_eq!(state.since("store-1", state.revision).changes, []);
}

#[test]
fn a_watcher_of_another_store_or_of_a_forgotten_revision_starts_over() {
    let mut state = empty_set().applied(&[Write::Member(record("west"))]);
    for _ in 0..MAX_LOG + 5 {
        state = state.applied(&[Write::Member(record("east"))]);
    }
    assert_eq!(state.log.len(), MAX_LOG);
    let oldest = state.revision - MAX_LOG as u64;
    assert!(!state.since("store-1", oldest).reset);
    for (store, revision) in
        [("store-1", oldest - 1), ("store-1", 0), ("store-2", state.revision), ("store-1", state.revision + 1)]
    {
        let missed = state.since(store, revision);
        assert!(missed.reset, "{store} {revision}");
        assert_eq!(missed.changes.len(), 1 + state.members.len());
    }
}

#[test]
fn a_replaced_authority_of_the_service_is_announced_with_the_next_sequence() {
    let state = empty_set();
    assert!(state.announce(&state.federation.clone()).is_empty());
    let next = state.applied(&state.announce(&authority("federation.internal").bundle(1)));
    assert_eq!((next.federation.sequence, next.revision), (2, 1));
    assert!(matches!(next.since("store-1", 1).changes[..], []));
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(u8, u8),
    Remove(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u8, any::<u8>()).prop_map(|(cluster, zone)| Step::Upsert(cluster, zone)),
        (0..4_u8).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    /// Whatever is missed, a watcher that applies what it is told knows the same members as one that was there.
    #[test]
    fn resuming_from_any_revision_leads_to_the_same_members(steps in steps(), pick in any::<prop::sample::Index>()) {
        let mut history = vec![empty_set()];
        for step in steps {
            let state = history.last().unwrap();
            let write = match step {
                Step::Upsert(cluster, zone) => {
                    let mut record = record(&format!("c{cluster}"));
                    record.member.zone = zone.to_string();
                    Write::Member(record)
                }
                Step::Remove(cluster) => Write::MemberGone(format!("c{cluster}").parse().unwrap()),
            };
            history.push(state.applied(&[write]));
        }
        let (seen, now) = (pick.get(&history), history.last().unwrap());
        let names = |state: &State| -> BTreeMap<_, _> {
            state.members.iter().map(|(name, record)| (name.clone(), record.member.clone())).collect()
        };
        let mut known = names(seen);
        let missed = now.since("store-1", seen.revision);
        if missed.reset {
            known.clear();
        }
        for change in missed.changes {
            match change {
                Change::Upsert(member) => {
                    known.insert(member.cluster.clone(), member);
                }
                Change::Removed(cluster) => {
                    known.remove(&cluster);
                }
                Change::Federation(_)
                | Change::Foreign(_)
                | Change::ForeignRemoved(_)
                | Change::Revoked(_)
                | Change::Reinstated(_) => {}
            }
        }
        prop_assert_eq!(known, names(now));
    }
}
