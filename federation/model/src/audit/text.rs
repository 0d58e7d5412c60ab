//! Short texts that a person can read wherever they are shown.
//!
//! Owns their limit and which characters they may have. Never wraps or translates.

use std::{fmt, ops::Deref};

use serde::{Deserialize, Serialize};

/// Stands at the end of a text that was cut.
const CUT: char = '…';

/// A text of at most `MAX` bytes without control characters, and without those that change the order or the width of
/// what stands beside them: nothing in a log may look like something else.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// The text as far as there is room for it, unprintable characters escaped: what has happened is recorded whatever it
    /// is called.
    #[must_use]
    pub fn fitting(text: &str) -> Self {
        let mut out = String::new();
        for character in text.chars() {
            let piece = if is_hidden(character) { character.escape_unicode().to_string() } else { character.into() };
            if out.len() + piece.len() > MAX {
                while out.len() + CUT.len_utf8() > MAX {
                    out.pop();
                }
                out.push(CUT);
                break;
            }
            out.push_str(&piece);
        }
        Self(out)
    }
}

/// Control characters, zero-width ones, and those that turn the direction of the text (Unicode, UAX 9).
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Why a text is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Too long.
    #[error("a text has {0} bytes, {1} are accepted")]
    TooLong(usize, usize),
    /// It has a character that cannot be seen.
    #[error("a text has the character {0:?}, which cannot be printed")]
    Hidden(char),
}

impl<const MAX: usize> TryFrom<String> for Text<MAX> {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        if text.len() > MAX {
            return Err(TextError::TooLong(text.len(), MAX));
        }
        match text.chars().find(|character| is_hidden(*character)) {
            Some(hidden) => Err(TextError::Hidden(hidden)),
            None => Ok(Self(text)),
        }
    }
}

impl<const MAX: usize> From<Text<MAX>> for String {
    fn from(text: Text<MAX>) -> Self {
        text.0
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
