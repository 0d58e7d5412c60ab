//! What holds for all policies and all calls.

use federation_model::{
    caller::Caller,
    policy::{Action, Effect, PolicyKey},
};
use proptest::prelude::*;

use super::{
    super::{Basis, PolicyTable, Verdict},
    naive::{Answer, World},
    random::{Owned, authorization, call, world},
};

fn compiled(world: &World) -> PolicyTable {
    PolicyTable::compile(&world.policies, &world.root, &world.aliases)
}

fn answer(world: &World, call: &Owned) -> Answer {
    compiled(world).judge(&call.call(), call.aspect()).into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_table_says_what_the_rules_say(world in world(), call in call()) {
        prop_assert_eq!(answer(&world, &call), world.judge(&call.call(), call.aspect()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn another_deny_never_allows_more(mut world in world(), mut more in authorization(), call in call()) {
        let before = answer(&world, &call);
        more.action = Action::Enforce(Effect::Deny);
        more.key.name = "one-more".to_owned();
        world.policies.authorization.insert(more.key.clone(), more);
        prop_assert!(before.allowed || !answer(&world, &call).allowed);
    }

    #[test]
    fn another_audit_changes_no_verdict(mut world in world(), mut more in authorization(), call in call()) {
        let before = answer(&world, &call);
        more.action = Action::Audit(more.action.effect());
        more.key.name = "one-more".to_owned();
        world.policies.authorization.insert(more.key.clone(), more);
        let after = answer(&world, &call);
        prop_assert_eq!((before.allowed, before.by), (after.allowed, after.by));
    }

    #[test]
    fn an_audited_deny_is_reported_just_when_it_would_refuse(mut world in world(), mut more in authorization(), call in call()) {
        more.key.name = "one-more".to_owned();
        let allowed_before = answer(&world, &call).allowed;
        let mut with = |action| {
            more.action = action;
            world.policies.authorization.insert(more.key.clone(), more.clone());
            answer(&world, &call)
        };
        let name = "/one-more";
        let reported = with(Action::Audit(Effect::Deny)).audited.iter().any(|rule| rule.split(' ').any(|word| word.ends_with(name)));
        let refused = allowed_before && !with(Action::Enforce(Effect::Deny)).allowed;
        prop_assert_eq!(reported, refused);
    }

    #[test]
    fn a_policy_of_another_namespace_changes_nothing(mut world in world(), mut more in authorization(), call in call()) {
        let before = answer(&world, &call);
        more.key = PolicyKey { namespace: "elsewhere".parse().unwrap(), name: "one-more".to_owned() };
        world.policies.authorization.insert(more.key.clone(), more);
        prop_assert_eq!(answer(&world, &call), before);
    }

    #[test]
    fn where_something_is_allowed_another_allow_refuses_nothing_more(mut world in world(), mut more in authorization(), call in call()) {
        let before = compiled(&world).judge(&call.call(), call.aspect());
        more.action = Action::Enforce(Effect::Allow);
        more.key.name = "one-more".to_owned();
        // Paths with several readings are refused once a policy has paths.
        more.to.iter_mut().for_each(|rule| rule.paths.clear());
        world.policies.authorization.insert(more.key.clone(), more);
        let by_a_rule = matches!(before.verdict, Verdict::Allowed(Basis::Rule(_)));
        prop_assert!(!by_a_rule || answer(&world, &call).allowed);
    }

    #[test]
    fn a_better_known_caller_is_never_refused_for_how_it_is_known(mut world in world(), call in call()) {
        for policy in world.policies.authorization.values_mut() {
            if policy.action == Action::Enforce(Effect::Deny) {
                policy.from.iter_mut().for_each(|rule| rule.assurance = None);
            }
        }
        if let Some(id) = call.caller.principal().cloned() {
            let before = answer(&world, &call);
            let after = answer(&world, &Owned { caller: Caller::Workload { id, certificate: None }, ..call });
            prop_assert!(after.allowed || !before.allowed, "{:?}, then {:?}", before, after);
        }
    }
}
