use proptest::prelude::*;

use super::{
    super::PolicyTable,
    random::{call, world},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_explanation_agrees_with_the_judgement(world in world(), call in call()) {
        let table = PolicyTable::compile(&world.policies, &world.root, &world.aliases);
        let judgement = table.judge(&call.call(), call.aspect());
        let explained = table.explain(&call.call(), call.aspect());
        prop_assert_eq!(explained.allowed, judgement.is_allowed());
        prop_assert_eq!(explained.remedy.is_none(), judgement.is_allowed());
        prop_assert_eq!(explained.omitted, 0);
        let said = |action| explained.policies.iter().any(move |policy| policy.action == action && policy.matched);
        let selected = |action| explained.policies.iter().any(move |policy| policy.action == action);
        if explained.allowed {
            prop_assert!(!said("STRICT") && !said("BROKEN") && !said("DENY"), "{:?}", explained);
            prop_assert_eq!(said("ALLOW"), selected("ALLOW"));
        }
        let deciding: Vec<_> = explained.policies.iter().filter(|policy| policy.decides).collect();
        prop_assert!(deciding.len() <= 1, "{:?}", deciding);
        for policy in deciding {
            let unread = explained.reason.contains("decides by path");
            prop_assert!(explained.reason.contains(&policy.policy) && (policy.matched || unread), "{:?}", explained);
        }
    }
}
