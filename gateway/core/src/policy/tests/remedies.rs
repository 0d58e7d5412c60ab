//! What a refusal advises, done, has the effect it promises.

use federation_model::policy::{
    AuthenticationMode, AuthorizationPolicy, PeerAuthentication, PolicyKey, SourceRule, TargetRule,
    pattern::{PrincipalPattern, ServicePattern, TextPattern},
};
use proptest::prelude::*;

use super::{
    super::{Closeness, Field, PolicyTable, Refusal, RefusedBy, Verdict},
    naive::World,
    random::{Owned, call, world},
    written::ALLOW,
};

fn refusal(world: &World, call: &Owned) -> Option<Refusal> {
    let table = PolicyTable::compile(&world.policies, &world.root, &world.aliases);
    match table.judge(&call.call(), call.aspect()).verdict {
        Verdict::Allowed(_) => None,
        Verdict::Refused(refusal) => Some(*refusal),
    }
}

fn named(call: &Owned) -> ServicePattern {
    ServicePattern { namespace: None, name: TextPattern::Exact(call.service.name.to_string()) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn naming_the_caller_where_it_is_advised_lets_it_pass(mut world in world(), call in call()) {
        let Some(Refusal { by: RefusedBy::NotAllowed { nearest, .. }, principal: Some(id), .. }) = refusal(&world, &call)
        else { return Ok(()) };
        let path = TextPattern::Exact(id.path().to_owned());
        let principals = vec![PrincipalPattern { trust_domain: Some(id.trust_domain().clone()), path }];
        let from = SourceRule { principals, ..SourceRule::default() };
        match (nearest.from, nearest.to) {
            (Some((_, Field::Assurance)), None) | (None, Some(_)) => return Ok(()),
            (Some(_), None) => world.policies.authorization.get_mut(&nearest.policy).unwrap().from.push(from),
            (Some(_), Some(_)) | (None, None) => {
                let key = PolicyKey { namespace: call.service.namespace.clone(), name: "one-more".to_owned() };
                let to = TargetRule { services: vec![named(&call)], ports: vec![call.port], ..TargetRule::default() };
                let policy = AuthorizationPolicy { key: key.clone(), action: ALLOW, from: vec![from], to: vec![to] };
                world.policies.authorization.insert(key, policy);
            }
        }
        prop_assert_eq!(refusal(&world, &call), None);
    }

    #[test]
    fn permitting_a_service_by_name_overrules_a_wider_strict(mut world in world(), call in call()) {
        let Some(Refusal { by: RefusedBy::Strict { closeness, .. }, .. }) = refusal(&world, &call) else { return Ok(()) };
        if closeness == Closeness::Service {
            return Ok(());
        }
        let key = PolicyKey { namespace: call.service.namespace.clone(), name: "one-more".to_owned() };
        let mode = AuthenticationMode::Permissive;
        let policy = PeerAuthentication { key: key.clone(), services: vec![named(&call)], mode };
        world.policies.authentication.insert(key, policy);
        let still = refusal(&world, &call).is_some_and(|refusal| matches!(refusal.by, RefusedBy::Strict { .. }));
        prop_assert!(!still);
    }
}
