use std::collections::{BTreeMap, BTreeSet};

use federation_model::{
    addr::Port,
    caller::Assurance,
    finding::Level::{Failed, Warning},
    names::ServiceKey,
    policy::AuthenticationMode::Strict,
    spiffe::{SpiffeId, TrustDomain},
};
use proptest::prelude::*;

use super::{
    super::{PolicyFinding, PolicyTable, Surroundings, TrustDomainAliases, analyze},
    naive::{Answer, World, has_ambiguous_path},
    random::{ROOT, call, world},
    written::{ALLOW, AUDIT_DENY, CART, DENY, FRONTEND, Written, from, key, known_at_least, on, requests, to},
};

fn known() -> Surroundings {
    let services = ["shop/api", "shop/web"].map(|text| text.parse::<ServiceKey>().unwrap());
    let ids = [FRONTEND, CART].map(|text| SpiffeId::new(text).unwrap());
    Surroundings {
        http_ports: Some([(services[0].clone(), Port::new(80).unwrap())].into()),
        services: Some(services.into()),
        principals: BTreeMap::from([(TrustDomain::new("east.example").unwrap(), BTreeSet::from(ids))]),
    }
}

fn findings(written: &Written) -> Vec<PolicyFinding> {
    analyze(&written.0, &ROOT.parse().unwrap(), &TrustDomainAliases::default(), &known())
}

fn policies() -> Written {
    Written::default()
}

#[test]
fn sound_policies_give_no_findings() {
    let written = policies()
        .policy("shop/a", ALLOW, &[from(&[FRONTEND])], &[to(&["api"]), on(&["web"], 443)])
        .policy("shop/b", ALLOW, &[from(&["spiffe://west.example/*"])], &[requests(&["api"], &["GET"], &["/v1/*"])])
        .policy("shop/c", DENY, &[from(&["spiffe://*/ns/test/*"])], &[])
        .policy("landbridge-system/a", AUDIT_DENY, &[known_at_least(Assurance::Attested)], &[to(&["shop/*"])])
        .mode("shop/a", Strict, &["web"]);
    // The port of the second one is not written, and its service has one that is delivered as http.
    assert_eq!(findings(&written), []);
}

#[test]
fn each_mistake_is_found_with_its_place_and_severity() {
    let one = |from, to| policies().policy("shop/a", ALLOW, from, to);
    let (frontend, api) = ([from(&[FRONTEND])], [to(&["api"])]);
    let cases = [
        (one(&frontend, &[to(&["cart"])]), Warning, "to[0].services: cart selects no service"),
        (
            one(&frontend, &[to(&["api"]), to(&["other/web"])]),
            Failed,
            "to[1].services: other/web means services of another",
        ),
        (policies().policy("other/a", ALLOW, &frontend, &[]), Warning, "no service of namespace other"),
        (policies().mode("shop/a", Strict, &["cart"]), Warning, "services: cart selects no service"),
        (one(&[from(&["spiffe://east.example/ns/shop/sa/frontnd"])], &api), Warning, "sa/frontnd matches no principal"),
        (one(&[], &api), Warning, "it allows everybody"),
        (
            one(&frontend, &[requests(&["web"], &["GET"], &[])]),
            Failed,
            "allows nothing on shop/web, which is not delivered",
        ),
        (one(&frontend, &[requests(&["api"], &["get"], &[])]), Failed, "get is not GET"),
        (one(&frontend, &[requests(&["api"], &[], &["/a/../b"])]), Failed, "/a/../b has a dot segment"),
        (one(&frontend, &[requests(&["api"], &[], &["a*"])]), Failed, "a* does not start with /"),
        (one(&[from(&["*"]), from(&[FRONTEND])], &api), Warning, "from[1] means nothing that from[0] does not mean"),
        (one(&frontend, &[to(&["api"]), to(&["*"])]), Warning, "to[0] means nothing that to[1] does not mean"),
        (
            one(&frontend, &api).policy("shop/b", ALLOW, &[from(&["spiffe://*/ns/shop/*"])], &[to(&["a*"])]),
            Warning,
            "it says nothing that AuthorizationPolicy shop/b does not say",
        ),
        (
            one(&frontend, &api).policy("shop/b", DENY, &frontend, &api),
            Failed,
            "AuthorizationPolicy shop/b denies all that it allows, in the same words",
        ),
        (
            one(&[from(&[FRONTEND]), from(&[CART])], &api).policy("landbridge-system/b", DENY, &[from(&[CART])], &[]),
            Warning,
            "from[1] is in vain: AuthorizationPolicy landbridge-system/b denies",
        ),
        (
            one(&[known_at_least(Assurance::Attested)], &api).mode("shop/a", Strict, &[]),
            Warning,
            "PeerAuthentication shop/a is STRICT there",
        ),
        (policies().broken("shop/a", &[]), Failed, "spec.acton is not a field"),
    ];
    for (written, severity, text) in cases {
        let found = findings(&written);
        let shown = found.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(
            found.iter().any(|finding| finding.severity == severity && finding.text.contains(text)),
            "{text}: {shown:#?}"
        );
        assert!(found.iter().all(|finding| !finding.remedy.is_empty()), "{shown:#?}");
    }
}

#[test]
fn what_is_not_known_is_not_missed() {
    let written = policies().policy(
        "shop/a",
        ALLOW,
        &[from(&["spiffe://east.example/ns/shop/sa/frontnd"])],
        &[requests(&["cart"], &["GET"], &[])],
    );
    let found = analyze(&written.0, &ROOT.parse().unwrap(), &TrustDomainAliases::default(), &Surroundings::default());
    assert_eq!(found, []);
}

#[test]
fn of_two_policies_that_say_the_same_the_later_one_is_reported() {
    let (frontend, api) = ([from(&[FRONTEND])], [to(&["api"])]);
    let written = policies().policy("shop/a", ALLOW, &frontend, &api).policy("shop/b", ALLOW, &frontend, &api);
    let found: Vec<_> = findings(&written).into_iter().map(|finding| finding.policy).collect();
    assert_eq!(found, ["shop/b"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_policy_that_is_said_to_repeat_another_can_be_deleted(world in world(), calls in prop::collection::vec(call(), 8)) {
        let judge = |world: &World| {
            let table = PolicyTable::compile(&world.policies, &world.root, &world.aliases);
            // That paths with several readings are refused ends with the last policy that has paths, superfluous or not.
            let plain = calls.iter().filter(|call| !has_ambiguous_path(call.aspect()));
            plain.map(|call| Answer::from(table.judge(&call.call(), call.aspect())).allowed).collect::<Vec<_>>()
        };
        let found = analyze(&world.policies, &world.root, &world.aliases, &Surroundings::default());
        for finding in found.iter().filter(|finding| finding.text.starts_with("it says nothing")) {
            let mut without = world.clone();
            prop_assert!(without.policies.authorization.remove(&key(&finding.policy)).is_some());
            prop_assert_eq!(judge(&without), judge(&world), "{}", finding);
        }
    }

    #[test]
    fn what_is_said_to_be_denied_is_never_allowed(world in world(), calls in prop::collection::vec(call(), 8)) {
        let table = PolicyTable::compile(&world.policies, &world.root, &world.aliases);
        let found = analyze(&world.policies, &world.root, &world.aliases, &Surroundings::default());
        for finding in found.iter().filter(|finding| finding.text.contains("denies all that it allows") && finding.severity == Failed) {
            for call in &calls {
                let answer = Answer::from(table.judge(&call.call(), call.aspect()));
                let named = answer.by.split(' ').any(|word| word == finding.policy);
                // A connection passes before the first of its requests is denied.
                let judged_later = matches!(call.aspect, super::random::OwnedAspect::Connection);
                prop_assert!(judged_later || !(answer.allowed && named), "{}: {:?}", finding, answer);
            }
        }
    }
}
