//! Join tokens: everything a cluster needs to join, in one word.
//!
//! Owns their text form, their secret and how the secret is stored. Never decides whether a token is still good: the
//! federation service does.
//!
//! ```text
//! lbj1.<base64url of: length (2), check of the length (1), body, SHA-256 over all before, first 4 bytes>
//! ```
//! The length comes first, so that a token cut short when it was copied is told apart from one with a typing error.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use federation_model::{addr::GatewayAddr, bundle::Fingerprint, names::ClusterName, time::Timestamp};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The most addresses of the federation service in one token.
pub const MAX_ADDRESSES: usize = 8;
/// The longest token accepted, in bytes: eight addresses of 260 bytes, and the rest.
pub const MAX_TOKEN: usize = 4096;
const PREFIX: &str = "lbj";
const VERSION: &str = "1";
const HEAD: usize = 3;
const CHECK: usize = 4;

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else.
    #[error("this is not a join token: it starts with lbj1. and is printed by fedctl token create")]
    NotAToken,
    /// Another version.
    #[error(
        "this join token has version {0:?}, this program reads version {VERSION}: use fedctl and gateway of the version that made it, or make a new token"
    )]
    Version(String),
    /// The end is missing.
    #[error("the join token is cut short: {have} of {want} characters are there; copy all of it, it is one line")]
    Truncated {
        /// How many there are.
        have: usize,
        /// How many there should be.
        want: usize,
    },
    /// Something follows.
    #[error("the join token is followed by {0} characters that do not belong to it: copy the token alone")]
    TooLong(usize),
    /// A character that tokens do not have.
    #[error(
        "the join token has the character {character:?} at position {position}, which tokens do not have: copy it again, as one line"
    )]
    Character {
        /// Which.
        character: char,
        /// Where, from 1.
        position: usize,
    },
    /// The checksum differs.
    #[error("the join token has a typing error (its checksum differs): copy it again instead of typing it")]
    Mistyped,
    /// The checksum is right, the contents are not.
    #[error(
        "the join token was made by a program that writes it differently ({0}): make a new one with fedctl token create of this version"
    )]
    Contents(&'static str),
    /// Too much for one token.
    #[error("a join token holds 1 to {MAX_ADDRESSES} addresses of the federation service, not {0}")]
    Addresses(usize),
}

/// The public name of a token, 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId([u8; 8]);

impl TokenId {
    /// A new id.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is not a token id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a token id: it has 16 hexadecimal digits, see fedctl token list")]
pub struct TokenIdError(String);

impl FromStr for TokenId {
    type Err = TokenIdError;
    fn from_str(text: &str) -> Result<Self, TokenIdError> {
        let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = if hex { u64::from_str_radix(text, 16).ok() } else { None };
        number.map(|n| Self(n.to_be_bytes())).ok_or_else(|| TokenIdError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenIdError;
    fn try_from(text: String) -> Result<Self, TokenIdError> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

/// The secret of a token: 256 random bits. Wiped when dropped, not shown by `Debug`.
#[derive(Clone)]
pub struct TokenSecret(Zeroizing<[u8; 32]>);

impl TokenSecret {
    /// A new secret.
    #[must_use]
    pub fn random() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// The secret in these bytes, when there are 32 of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
    }

    /// The bytes, for the join request.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(hidden)")
    }
}

/// What is stored of a secret. The secret has 256 bits of its own, so one round of SHA-256 is enough.
#[derive(Debug, Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &TokenSecret) -> Self {
        Self(sha256(&[b"landbridge token secret\0".as_slice(), secret.expose()].concat()))
    }

    /// A stored hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the hash of `secret`, in constant time.
    #[must_use]
    pub fn matches(&self, secret: &TokenSecret) -> bool {
        verify_slices_are_equal(&self.0, &Self::of(secret).0).is_ok()
    }
}

/// An invitation into a cluster set. Its text is a secret: `Display` shows it, `Debug` does not.
#[derive(Debug, Clone)]
pub struct JoinToken {
    /// Where the federation service listens, 1 to [`MAX_ADDRESSES`].
    pub addresses: Vec<GatewayAddr>,
    /// The fingerprint of the federation's authority.
    pub pin: Fingerprint,
    /// The public name of the token.
    pub id: TokenId,
    /// Its secret.
    pub secret: TokenSecret,
    /// Until when it may be spent.
    pub expires_at: Timestamp,
    /// The cluster it is for.
    pub cluster: ClusterName,
}

impl JoinToken {
    /// The token's body: fixed fields, then texts with their lengths.
    fn body(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(256));
        out.extend_from_slice(self.pin.as_bytes());
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(self.secret.expose());
        out.extend_from_slice(&self.expires_at.0.to_be_bytes());
        let addresses = self.addresses.iter().take(MAX_ADDRESSES).map(ToString::to_string);
        for text in std::iter::once(self.cluster.to_string()).chain(addresses) {
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    fn from_body(mut body: &[u8]) -> Result<Self, TokenError> {
        let pin = Fingerprint::from_bytes(take(&mut body)?);
        let id = TokenId(take(&mut body)?);
        let secret = TokenSecret(Zeroizing::new(take(&mut body)?));
        let expires_at = Timestamp(u64::from_be_bytes(take(&mut body)?));
        let cluster = take_text(&mut body)?.parse().map_err(|_| TokenError::Contents("cluster name"))?;
        let mut addresses = Vec::new();
        while !body.is_empty() {
            addresses.push(take_text(&mut body)?.parse().map_err(|_| TokenError::Contents("address"))?);
        }
        if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
            return Err(TokenError::Addresses(addresses.len()));
        }
        Ok(Self { addresses, pin, id, secret, expires_at, cluster })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        let length = u16::try_from(body.len()).map_err(|_| fmt::Error)?.to_be_bytes();
        let mut bytes = Zeroizing::new(vec![length[0], length[1], length_check(length)]);
        bytes.extend_from_slice(&body);
        let check = sha256(&bytes);
        bytes.extend_from_slice(&check[..CHECK]);
        let text = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(&*bytes));
        write!(f, "{PREFIX}{VERSION}.{}", *text)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (version, encoded) =
            text.strip_prefix(PREFIX).and_then(|t| t.split_once('.')).ok_or(TokenError::NotAToken)?;
        if version != VERSION {
            let number = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit());
            let version = version.chars().take(10).collect();
            return Err(if number { TokenError::Version(version) } else { TokenError::NotAToken });
        }
        let skipped = text.chars().count() - encoded.chars().count();
        for (index, character) in encoded.chars().enumerate() {
            if !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_')) {
                return Err(TokenError::Character { character, position: skipped + index + 1 });
            }
        }
        let bytes = decode(encoded, skipped)?;
        Self::from_body(&bytes[HEAD..bytes.len() - CHECK])
    }
}

/// The bytes of an encoded token whose length and checksum are right.
fn decode(encoded: &str, skipped: usize) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    // Three bytes of head are exactly four characters.
    let Some(head) = encoded.get(..4).and_then(|head| BASE64_URL_SAFE_NO_PAD.decode(head).ok()) else {
        return Err(TokenError::Truncated { have: skipped + encoded.len(), want: skipped + MIN_ENCODED });
    };
    let &[high, low, check] = head.as_slice() else { return Err(TokenError::Mistyped) };
    if length_check([high, low]) != check {
        return Err(TokenError::Mistyped);
    }
    let want = ((HEAD + usize::from(u16::from_be_bytes([high, low])) + CHECK) * 4).div_ceil(3);
    if want > MAX_TOKEN {
        return Err(TokenError::Contents("length"));
    }
    if encoded.len() < want {
        return Err(TokenError::Truncated { have: skipped + encoded.len(), want: skipped + want });
    }
    if encoded.len() > want {
        return Err(TokenError::TooLong(encoded.len() - want));
    }
    let bytes = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Mistyped)?);
    let (rest, check) = bytes.split_at(bytes.len() - CHECK);
    if sha256(rest)[..CHECK] != *check {
        return Err(TokenError::Mistyped);
    }
    Ok(bytes)
}

/// Characters of the shortest token: 80 bytes of fixed fields, a cluster of one letter, an address of three.
const MIN_ENCODED: usize = ((HEAD + 80 + 3 + 5 + CHECK) * 4).div_ceil(3);

/// Differs after any change to a single character: the two bytes share no bit position within one.
fn length_check(length: [u8; 2]) -> u8 {
    length[0] ^ length[1] ^ 0x5a
}

fn take<const N: usize>(body: &mut &[u8]) -> Result<[u8; N], TokenError> {
    let (head, rest) = body.split_first_chunk().ok_or(TokenError::Contents("a field is missing"))?;
    *body = rest;
    Ok(*head)
}

fn take_text<'a>(body: &mut &'a [u8]) -> Result<&'a str, TokenError> {
    let length = usize::from(u16::from_be_bytes(take(body)?));
    let (text, rest) = body.split_at_checked(length).ok_or(TokenError::Contents("a field is missing"))?;
    *body = rest;
    std::str::from_utf8(text).map_err(|_| TokenError::Contents("text"))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system's random source does not fail once it has started");
    bytes
}

#[cfg(test)]
mod tests;
