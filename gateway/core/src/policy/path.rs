//! The one reading of a request's path that policies are compared with.
//!
//! Owns which paths have only one reading. Servers disagree about dot segments, doubled slashes, encoded slashes and more:
//! a path that some would read as another one is ambiguous, and where paths decide it is refused. Never decodes what is
//! reserved (RFC 3986 section 2.2), and never rewrites the request itself.

use std::{borrow::Cow, fmt::Write as _};

use federation_model::policy::pattern::TextPattern;
use serde::Serialize;

/// Why servers may read a path differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum AmbiguousPath {
    /// It does not start with `/`.
    #[error("does not start with /")]
    NotAbsolute,
    /// A character that RFC 3986 section 3.3 does not have in a path: a control, a blank, one beyond ASCII, `?` or `#`.
    #[error("has a character that must be percent-encoded")]
    BareCharacter,
    /// A `\`, which some servers take for `/`.
    #[error("has a backslash")]
    Backslash,
    /// A `;`, behind which some servers drop the rest of the segment.
    #[error("has a path parameter (;)")]
    Parameter,
    /// `//`
    #[error("has an empty segment (//)")]
    EmptySegment,
    /// A `.` or `..` segment, encoded or not.
    #[error("has a dot segment")]
    DotSegment,
    /// A `%` that two hexadecimal digits do not follow.
    #[error("has a % that two hexadecimal digits do not follow")]
    BrokenEscape,
    /// A `/`, `\`, `;` or control character in encoded form.
    #[error("has an encoded slash, backslash, semicolon or control character")]
    EncodedDelimiter,
    /// `%25` before two hexadecimal digits.
    #[error("is percent-encoded twice")]
    EncodedTwice,
    /// What the escapes encode is not UTF-8.
    #[error("encodes bytes that are not UTF-8")]
    NotUtf8,
}

/// The path with its unreserved characters decoded (RFC 3986 section 6.2.2) and the digits of the other escapes in upper
/// case. `*`, the target of `OPTIONS` to a server as a whole, stays as it is.
///
/// # Errors
/// When servers may read the path differently.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(AmbiguousPath::NotAbsolute);
    }
    path.bytes().try_for_each(check_bare)?;
    let path = decode_unreserved(path)?;
    check_segments(&path)?;
    Ok(path)
}

fn check_bare(byte: u8) -> Result<(), AmbiguousPath> {
    match byte {
        b'\\' => Err(AmbiguousPath::Backslash),
        b';' => Err(AmbiguousPath::Parameter),
        b'?' | b'#' | 0..=b' ' | 0x7f.. => Err(AmbiguousPath::BareCharacter),
        _ => Ok(()),
    }
}

fn check_segments(path: &str) -> Result<(), AmbiguousPath> {
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(AmbiguousPath::DotSegment),
            "" if segments.peek().is_some() => return Err(AmbiguousPath::EmptySegment),
            _ => {}
        }
    }
    Ok(())
}

fn decode_unreserved(path: &str) -> Result<Cow<'_, str>, AmbiguousPath> {
    let Some(first) = path.find('%') else { return Ok(Cow::Borrowed(path)) };
    let mut canonical = String::with_capacity(path.len());
    canonical.push_str(&path[..first]);
    // Overlong forms of / and . are not UTF-8, and some servers decode them all the same.
    let mut encoded = Vec::new();
    let mut rest = &path[first..];
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        if character != '%' {
            canonical.push(character);
            encoded.push(b' ');
            continue;
        }
        let byte = escape(rest).ok_or(AmbiguousPath::BrokenEscape)?;
        rest = &rest[2..];
        encoded.push(byte);
        match byte {
            b'/' | b'\\' | b';' | 0..=0x1f | 0x7f => return Err(AmbiguousPath::EncodedDelimiter),
            byte if is_unreserved(byte) => canonical.push(char::from(byte)),
            byte => push_escape(&mut canonical, byte),
        }
    }
    if std::str::from_utf8(&encoded).is_err() {
        return Err(AmbiguousPath::NotUtf8);
    }
    if canonical.match_indices("%25").any(|(at, escaped)| escape(&canonical[at + escaped.len()..]).is_some()) {
        return Err(AmbiguousPath::EncodedTwice);
    }
    Ok(if canonical == path { Cow::Borrowed(path) } else { Cow::Owned(canonical) })
}

/// The byte that the first two characters say in hexadecimal.
fn escape(text: &str) -> Option<u8> {
    let digits = text.get(..2)?;
    let both = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    both.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn push_escape(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "%{byte:02X}");
}

/// The pattern as canonical paths are compared with it: escapes as [`canonical_path`] leaves them, and what a path cannot
/// hold bare as escapes. A text that is no part of any canonical path is left as it is, and matches none.
pub(super) fn canonical_pattern(pattern: &TextPattern) -> TextPattern {
    match pattern {
        TextPattern::Any => TextPattern::Any,
        TextPattern::Exact(text) => TextPattern::Exact(canonical_part(text)),
        TextPattern::Prefix(text) => TextPattern::Prefix(canonical_part(text)),
        TextPattern::Suffix(text) => TextPattern::Suffix(canonical_part(text)),
    }
}

fn canonical_part(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'?' | b'#' | 0..=b' ' | 0x7f.. => push_escape(&mut encoded, byte),
            byte => encoded.push(char::from(byte)),
        }
    }
    decode_unreserved(&encoded).map_or_else(|_| text.to_owned(), Cow::into_owned)
}
/// Why no request that is judged by its path can match the pattern.
///
/// # Errors
/// When none can.
pub(super) fn check_pattern(pattern: &TextPattern) -> Result<(), AmbiguousPath> {
    let sample = match canonical_pattern(pattern) {
        TextPattern::Any => return Ok(()),
        TextPattern::Exact(text) => text,
        // A part of a segment, or a segment of its own, may follow: whatever is allowed there.
        TextPattern::Prefix(text) => format!("{text}x"),
        TextPattern::Suffix(text) if text.starts_with('/') => text,
        TextPattern::Suffix(text) => format!("/x{text}"),
    };
    canonical_path(&sample).map(|_| ())
}
