//! The patterns of policies, and the paths that they are compared with.

use std::{
    fmt::{Debug, Display},
    str::FromStr,
};

use federation_model::policy::pattern::{PrincipalPattern, ServicePattern, TextPattern};
use gateway_core::policy::canonical_path;

/// What follows is written in a policy where a pattern stands.
pub fn pattern(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(pattern) = read_again::<TextPattern>(&text) {
        assert_eq!(pattern.to_string(), text);
        assert!(pattern.matches(&text.replace('*', "x")), "{pattern}");
    }
    if let Some(pattern) = read_again::<ServicePattern>(&text) {
        assert_eq!(pattern.to_string(), text);
    }
    if let Some(pattern) = read_again::<PrincipalPattern>(&text) {
        assert!(!matches!(pattern.path, TextPattern::Suffix(_)), "{pattern}");
    }
}

/// The value, which is the same when it is written and read again.
fn read_again<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = text.parse().map_err(|error: T::Err| error.to_string()).ok()?;
    let again = value.to_string().parse::<T>().map_err(|error| error.to_string());
    assert_eq!(again.as_ref(), Ok(&value), "{text:?}");
    Some(value)
}

/// What follows is the path of a request.
pub fn path(data: &[u8]) {
    let path = String::from_utf8_lossy(data);
    let canonical = match canonical_path(&path) {
        Ok(canonical) => canonical,
        Err(problem) => return drop(problem.to_string()),
    };
    assert_eq!(canonical_path(&canonical).as_ref(), Ok(&canonical), "{path:?} has one reading");
    assert!(canonical.len() <= path.len() && canonical.bytes().all(|b| b.is_ascii_graphic()), "{canonical:?}");
    let (decoded, original) = (decode(&canonical), decode(&path));
    assert_eq!(decoded, original, "{path:?} is not another path");
    if *path == *"*" {
        return;
    }
    let segments: Vec<_> = decoded.split(|b| *b == b'/').collect();
    let (first, rest) = segments.split_first().unwrap();
    assert!(first.is_empty() && !rest.is_empty(), "{path:?} is absolute");
    let (_, inner) = rest.split_last().unwrap();
    assert!(inner.iter().all(|segment| !segment.is_empty()), "{path:?}");
    assert!(rest.iter().all(|segment| **segment != *b"." && **segment != *b".."), "{path:?}");
    assert!(!decoded.iter().any(|b| matches!(b, b'\\' | b';' | 0..=0x1f | 0x7f)), "{path:?}");
    assert_eq!(decode_bytes(&decoded), decoded, "{path:?} is not encoded twice");
}

/// As a server decodes a path: every escape, once.
fn decode(path: &str) -> Vec<u8> {
    decode_bytes(path.as_bytes())
}

fn decode_bytes(mut path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    while let Some((first, rest)) = path.split_first() {
        let digits = rest.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            decoded.push(byte);
            path = &rest[2..];
        } else {
            decoded.push(*first);
            path = rest;
        }
    }
    decoded
}
