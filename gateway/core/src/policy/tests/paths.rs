use proptest::prelude::*;

use super::super::path::{AmbiguousPath, canonical_path};

#[test]
fn unreserved_characters_are_decoded_and_nothing_else() {
    let cases = [
        ("/", "/"),
        ("*", "*"),
        ("/a/b/", "/a/b/"),
        ("/%61%2D%2e%5f%7E", "/a-._~"),
        ("/a%20b", "/a%20b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/100%25", "/100%25"),
        ("/a%3Fb", "/a%3Fb"),
        ("/shop.Api/List", "/shop.Api/List"),
        ("/a+b=c&d@e:f!$'()*,", "/a+b=c&d@e:f!$'()*,"),
    ];
    for (path, canonical) in cases {
        assert_eq!(canonical_path(path).as_deref(), Ok(canonical), "{path}");
    }
}

#[test]
fn what_servers_read_differently_is_refused() {
    use AmbiguousPath as A;
    let cases = [
        ("", A::NotAbsolute),
        ("admin", A::NotAbsolute),
        ("http://host/", A::NotAbsolute),
        ("/a//b", A::EmptySegment),
        ("//", A::EmptySegment),
        ("/a/../b", A::DotSegment),
        ("/.", A::DotSegment),
        ("/a/%2e%2E/b", A::DotSegment),
        ("/a/.%2e", A::DotSegment),
        ("/a\\b", A::Backslash),
        ("/a%5cb", A::EncodedDelimiter),
        ("/a%2Fb", A::EncodedDelimiter),
        ("/a%00", A::EncodedDelimiter),
        ("/a%0d%0a", A::EncodedDelimiter),
        ("/a/..;/b", A::Parameter),
        ("/a/..%3bx/b", A::EncodedDelimiter),
        ("/a%", A::BrokenEscape),
        ("/a%2", A::BrokenEscape),
        ("/a%zz", A::BrokenEscape),
        ("/a%+1", A::BrokenEscape),
        ("/a%u002e", A::BrokenEscape),
        ("/a%252e", A::EncodedTwice),
        ("/a%25%32%65", A::EncodedTwice),
        ("/%c0%ae%c0%ae/b", A::NotUtf8),
        ("/%e9", A::NotUtf8),
        ("/caf\u{e9}", A::BareCharacter),
        ("/a b", A::BareCharacter),
        ("/a\tb", A::BareCharacter),
        ("/a?b", A::BareCharacter),
        ("/a#b", A::BareCharacter),
    ];
    for (path, problem) in cases {
        assert_eq!(canonical_path(path), Err(problem), "{path:?}");
    }
}

proptest! {
    #[test]
    fn a_canonical_path_is_its_own_canonical_path(path in prop_oneof!["\\PC*", "/[a./%25;2eF\\\\]{0,12}", "/(%[0-9a-fA-F]{2}|[a-c./]){0,8}"]) {
        if let Ok(canonical) = canonical_path(&path) {
            let again = canonical_path(&canonical);
            prop_assert_eq!(again.as_deref(), Ok(canonical.as_ref()));
        }
    }

    #[test]
    fn a_canonical_path_has_no_segment_that_moves(path in "/(%2[eEfF]|%5[cC]|%25|[.a/]){0,8}") {
        if let Ok(canonical) = canonical_path(&path) {
            prop_assert!(canonical.split('/').all(|segment| segment != ".." && segment != "."));
            prop_assert!(!canonical.contains("//") && !canonical.contains('\\'));
        }
    }
}
