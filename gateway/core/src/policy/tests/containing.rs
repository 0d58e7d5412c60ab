use federation_model::policy::{Effect, pattern::TextPattern};
use proptest::prelude::*;

use super::{
    super::{
        containment::{covers, covers_source, covers_target},
        fields::{Facts, selects, source_mismatch, target_mismatch},
    },
    random::{call, source, target},
};

fn text() -> impl Strategy<Value = TextPattern> {
    let affix = || "[ab]{1,3}";
    prop_oneof![
        Just(TextPattern::Any),
        affix().prop_map(TextPattern::Exact),
        affix().prop_map(TextPattern::Prefix),
        affix().prop_map(TextPattern::Suffix),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_a_covered_pattern_matches_the_wider_one_matches(wide in text(), narrow in text(), word in "[ab]{0,5}") {
        prop_assert!(covers(&wide, &wide));
        if covers(&wide, &narrow) {
            prop_assert!(!narrow.matches(&word) || wide.matches(&word));
        }
    }

    #[test]
    fn patterns_that_are_not_covered_match_something_more(wide in text(), narrow in text()) {
        let least = match &narrow {
            TextPattern::Any => "c".to_owned(),
            TextPattern::Exact(text) => text.clone(),
            TextPattern::Prefix(start) => format!("{start}c"),
            TextPattern::Suffix(end) => format!("c{end}"),
        };
        prop_assert!(narrow.matches(&least));
        prop_assert!(covers(&wide, &narrow) || !wide.matches(&least), "{} {} {}", wide, narrow, least);
    }

    #[test]
    fn callers_that_meet_a_covered_entry_meet_the_wider_one(wide in source(), narrow in source(), call in call()) {
        prop_assert!(covers_source(&wide, &wide));
        let call_ = call.call();
        let facts = Facts::new(&call_, call.aspect());
        if covers_source(&wide, &narrow) && source_mismatch(&narrow, &facts, None).is_none() {
            prop_assert_eq!(source_mismatch(&wide, &facts, None), None);
        }
    }

    #[test]
    fn calls_that_meet_a_covered_entry_meet_the_wider_one(
        wide in target(), narrow in target(), scopes in prop::sample::select(vec![(true, true), (true, false), (false, false)]), call in call(),
    ) {
        let own = Some("shop".parse().unwrap());
        let scope = |root: bool| if root { None } else { own.clone() };
        let (of_wide, of_narrow) = (scope(scopes.0), scope(scopes.1));
        let call_ = call.call();
        let facts = Facts::new(&call_, call.aspect());
        if covers_target((&wide, &of_wide), (&narrow, &of_narrow)) {
            for effect in [Effect::Allow, Effect::Deny] {
                // A rule without requests is met by the connection, one with them by each request.
                let met = selects(&narrow, &of_narrow, facts.service) && target_mismatch(&narrow, effect, &facts).is_none();
                if met {
                    prop_assert!(selects(&wide, &of_wide, facts.service));
                    prop_assert_eq!(target_mismatch(&wide, effect, &facts), None);
                }
            }
        }
    }
}
