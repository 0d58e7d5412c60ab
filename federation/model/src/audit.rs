//! The audit log as a value: who did what to the cluster set, in an order that cannot be changed unnoticed.
//!
//! Owns the words of an entry, the bytes its hash is made of, and its one line of JSON. Each hash covers the entry and the
//! hash before it, so the last one covers the whole log. Never knows where entries are kept, never signs: the seal of an
//! exported log is `federation_pki::seal`.
//!
//! ```text
//! start(store) <── entry 1 <── entry 2 <── ... <── entry N = head
//!    hash(N) = SHA-256("landbridge audit entry v1\0", then each with its length in eight bytes before it:
//!              hash(N-1), N, time, actor, action, subject, detail)
//! ```

use std::{fmt, net::IpAddr, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{names::ClusterName, time::Timestamp};

mod action;
mod chain;
mod text;

pub use action::{Action, UnknownAction};
pub use chain::{Chain, ChainFault, Start, verify};
pub use text::{Text, TextError};

/// The longest name of an operator, in bytes.
pub const MAX_NAME: usize = 128;
/// The longest subject, in bytes: a cluster name, a SPIFFE trust domain.
pub const MAX_SUBJECT: usize = 256;
/// The longest detail, in bytes: some sentences, with the addresses of a member in them.
pub const MAX_DETAIL: usize = 1024;
/// First bytes of everything an entry's hash is made of; nothing else that is hashed here starts so.
const ENTRY: &[u8] = b"landbridge audit entry v1\0";
/// The same for the hash before the first entry.
const START: &[u8] = b"landbridge audit start v1\0";

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An operator, by the name in the credential.
    Operator(Text<MAX_NAME>),
    /// A member, by the certificate of its gateway; for a join, the cluster that proved to hold the key of its authority.
    Member(ClusterName),
    /// The federation service by itself.
    Service,
    /// Somebody who proved nothing, by the address of the connection.
    Stranger(IpAddr),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Member(cluster) => write!(f, "member:{cluster}"),
            Self::Service => f.write_str("service"),
            Self::Stranger(address) => write!(f, "stranger:{address}"),
        }
    }
}

/// A text that names no actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an actor: operator:NAME, member:CLUSTER, service or stranger:ADDRESS")]
pub struct ActorError(String);

impl FromStr for Actor {
    type Err = ActorError;
    fn from_str(text: &str) -> Result<Self, ActorError> {
        let fail = || ActorError(text.chars().take(80).collect());
        match text.split_once(':') {
            Some(("operator", name)) => Text::try_from(name.to_owned()).map(Self::Operator).map_err(|_| fail()),
            Some(("member", cluster)) => cluster.parse().map(Self::Member).map_err(|_| fail()),
            Some(("stranger", address)) => address.parse().map(Self::Stranger).map_err(|_| fail()),
            None if text == "service" => Ok(Self::Service),
            Some(_) | None => Err(fail()),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who did it.
    pub actor: Actor,
    /// What was done.
    pub action: Action,
    /// To whom: mostly the name of a cluster.
    pub subject: Text<MAX_SUBJECT>,
    /// Whatever else is to be known of it.
    pub detail: Text<MAX_DETAIL>,
}

impl Event {
    /// An event; texts that are too long are cut, and what cannot be printed is escaped.
    #[must_use]
    pub fn new(actor: Actor, action: Action, subject: &str, detail: &str) -> Self {
        Self { actor, action, subject: Text::fitting(subject), detail: Text::fitting(detail) }
    }
}

/// SHA-256, written as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    fn of(domain: &[u8], fields: &[&[u8]]) -> Self {
        let mut bytes = domain.to_vec();
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
            bytes.extend_from_slice(field);
        }
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        Self(out)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// A text that is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash: it has 64 lowercase hexadecimal digits")]
pub struct HashError(String);

impl FromStr for Hash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, HashError> {
        let fail = || HashError(text.chars().take(80).collect());
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return Err(fail());
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(fail()) };
            *byte = high << 4 | low;
        }
        Ok(Self(out))
    }
}

impl TryFrom<String> for Hash {
    type Error = HashError;
    fn try_from(text: String) -> Result<Self, HashError> {
        text.parse()
    }
}

/// The end of a log: it stands for everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The number of the last entry; 0 before the first.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Head {
    /// Where the log of a store begins, so that entries of one store are none of another.
    #[must_use]
    pub fn start(store_id: &str) -> Self {
        Self { index: 0, hash: Hash::of(START, &[store_id.as_bytes()]) }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub struct Entry {
    /// Its number; the first has 1.
    pub index: u64,
    /// When it was written, by the clock of the service: later entries may have an earlier time.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
    /// The hash before it.
    pub previous: Hash,
    /// Its own.
    pub hash: Hash,
}

impl Entry {
    /// The entry that follows `head`.
    #[must_use]
    pub fn next(head: &Head, at: Timestamp, event: Event) -> Self {
        let mut entry = Self { index: head.index.saturating_add(1), at, event, previous: head.hash, hash: head.hash };
        entry.hash = entry.computed();
        entry
    }

    /// The head of a log that ends with this entry.
    #[must_use]
    pub fn head(&self) -> Head {
        Head { index: self.index, hash: self.hash }
    }

    /// What the hash must be.
    fn computed(&self) -> Hash {
        let Event { actor, action, subject, detail } = &self.event;
        Hash::of(
            ENTRY,
            &[
                self.previous.as_bytes(),
                &self.index.to_be_bytes(),
                &self.at.0.to_be_bytes(),
                actor.to_string().as_bytes(),
                action.label().as_bytes(),
                subject.as_bytes(),
                detail.as_bytes(),
            ],
        )
    }

    /// The entry as one line of JSON, without the end of the line.
    #[must_use]
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers alone always serialize")
    }

    /// Reads what [`Entry::to_line`] wrote, and nothing that is written in another way.
    ///
    /// # Errors
    /// When it is not an entry, or not written as entries are.
    pub fn from_line(line: &str) -> Result<Self, LineError> {
        let entry: Self = serde_json::from_str(line).map_err(|error| LineError::Json(error.to_string()))?;
        if entry.to_line() == line { Ok(entry) } else { Err(LineError::Form) }
    }
}

/// Why a line is not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not the JSON of an entry.
    #[error("{0}")]
    Json(String),
    /// It says what an entry says, in another form.
    #[error("it is not written as the federation service writes entries")]
    Form,
}

/// The fields of an entry, in the order they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: u64,
    at: Timestamp,
    actor: String,
    action: Action,
    subject: Text<MAX_SUBJECT>,
    detail: Text<MAX_DETAIL>,
    previous: Hash,
    hash: Hash,
}

impl From<Entry> for Line {
    fn from(entry: Entry) -> Self {
        let Event { actor, action, subject, detail } = entry.event;
        let (index, at, previous, hash) = (entry.index, entry.at, entry.previous, entry.hash);
        Self { index, at, actor: actor.to_string(), action, subject, detail, previous, hash }
    }
}

impl TryFrom<Line> for Entry {
    type Error = ActorError;
    fn try_from(line: Line) -> Result<Self, ActorError> {
        let Line { index, at, actor, action, subject, detail, previous, hash } = line;
        Ok(Self { index, at, event: Event { actor: actor.parse()?, action, subject, detail }, previous, hash })
    }
}

#[cfg(test)]
mod tests;
