//! Text that nobody meant as a pattern, thrown at the parsers: all of it is policy input.

use federation_model::{
    policy::pattern::{PrincipalPattern, ServicePattern, TextPattern},
    spiffe::SpiffeId,
};
use proptest::prelude::*;

use super::super::path::canonical_pattern;

/// What once went wrong somewhere, or looks as if it could.
const CORPUS: &[&str] = &[
    "",
    "*",
    "**",
    "*a*",
    "a*b",
    "/",
    "//",
    "*/",
    "/*",
    "*/*",
    "a/b/c",
    "\u{0}",
    "\u{feff}*",
    "é*",
    "*é",
    "%",
    "%2",
    "%zz*",
    "spiffe://",
    "spiffe://*",
    "spiffe:///",
    "spiffe://*/*",
    "spiffe://a/*",
    "SPIFFE://a/b",
    "spiffe://a/b/",
    "spiffe://a//b",
    "spiffe://a/%2e",
    "spiffe://a:1/b",
    "spiffe://u@a/b",
    "a/ns/b/sa/c",
    "a/ns/*",
    "*/ns/b/sa/c",
    "a/ns/",
    ".serviceaccount.identity.",
    "a.b.serviceaccount.identity.c.d",
    "a.b.serviceaccount.identity.",
    "..serviceaccount.identity..",
];

fn parse_all(text: &str) {
    if let Ok(pattern) = text.parse::<TextPattern>() {
        assert_eq!(pattern.to_string(), text);
        let canonical = canonical_pattern(&pattern);
        assert_eq!(canonical_pattern(&canonical), canonical, "{text:?}");
    }
    if let Ok(pattern) = text.parse::<ServicePattern>() {
        assert_eq!(pattern.to_string(), text);
    }
    if let Ok(pattern) = text.parse::<PrincipalPattern>() {
        assert_eq!(pattern.to_string().parse().as_ref(), Ok(&pattern), "{text:?}");
        assert!(!matches!(pattern.path, TextPattern::Suffix(_)), "{text:?}");
    }
}

#[test]
fn no_text_of_the_corpus_upsets_a_parser() {
    CORPUS.iter().for_each(|text| parse_all(text));
    for (one, other) in CORPUS.iter().flat_map(|one| CORPUS.iter().map(move |other| (one, other))) {
        parse_all(&format!("{one}{other}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn no_text_upsets_a_parser(text in prop_oneof!["\\PC*", "[a*/.:%]{0,12}", "(spiffe://)?[a.*]{0,3}(/ns|/sa|/[a*]|//){0,4}"]) {
        parse_all(&text);
    }

    #[test]
    fn every_id_is_a_pattern_of_itself_alone(domain in "[a-z]{1,5}", path in "(/[a-z.]{1,3}[a-z]){1,3}", other in "[a-z]") {
        let id = SpiffeId::new(format!("spiffe://{domain}{path}")).unwrap();
        let pattern: PrincipalPattern = id.to_string().parse().unwrap();
        prop_assert!(pattern.matches(&id));
        let longer = SpiffeId::new(format!("{id}{other}")).unwrap();
        prop_assert!(!pattern.matches(&longer));
    }
}
