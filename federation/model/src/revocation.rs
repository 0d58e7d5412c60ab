//! What is no longer believed: clusters, SPIFFE IDs and certificates that were revoked.
//!
//! Owns the record of a revocation and the set of them, with the lookups that handshakes and connections make. Never decides
//! about a revocation (the federation service does) and never cuts anything (the gateways do).
//!
//! ```text
//! Revocations ── of_id ───── exact id, every prefix of whole path segments, the whole trust domain
//!             ├─ of_serial ─ one certificate of a trust domain
//!             └─ of_cluster  a name that may not join again
//! ```

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    names::ClusterName,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};

mod subject;

pub use subject::{IdPrefix, MAX_SERIAL, Serial, SerialError, Subject, SubjectError};

/// The most revocations of one set. Each is some hundred bytes, and a change copies the index of all.
pub const MAX_REVOCATIONS: usize = 10_000;
/// The longest reason, in bytes: it ends up in close frames and log lines.
pub const MAX_LINE: usize = 256;

/// The name of a revocation, 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RevocationId(u64);

impl RevocationId {
    /// The id with these bits, which its maker draws at random.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RevocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is not the id of a revocation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a revocation: it has 16 hexadecimal digits, see fedctl revoke list")]
pub struct RevocationIdError(String);

impl FromStr for RevocationId {
    type Err = RevocationIdError;
    fn from_str(text: &str) -> Result<Self, RevocationIdError> {
        let hex = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = if hex { u64::from_str_radix(text, 16).ok() } else { None };
        number.map(Self).ok_or_else(|| RevocationIdError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for RevocationId {
    type Error = RevocationIdError;
    fn try_from(text: String) -> Result<Self, RevocationIdError> {
        text.parse()
    }
}

impl From<RevocationId> for String {
    fn from(id: RevocationId) -> Self {
        id.to_string()
    }
}

/// What a person wrote on one line: at most [`MAX_LINE`] bytes, no control characters; may be empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(String);

impl Line {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is too long.
    #[error("{0} bytes, {MAX_LINE} are accepted")]
    TooLong(usize),
    /// It has a line break, or another control character.
    #[error("control characters are not accepted: write one line of text")]
    Control,
}

impl FromStr for Line {
    type Err = LineError;
    fn from_str(text: &str) -> Result<Self, LineError> {
        if text.len() > MAX_LINE {
            return Err(LineError::TooLong(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(LineError::Control);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Line {
    type Error = LineError;
    fn try_from(text: String) -> Result<Self, LineError> {
        text.parse()
    }
}

impl From<Line> for String {
    fn from(line: Line) -> Self {
        line.0
    }
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Its name.
    pub id: RevocationId,
    /// What is revoked.
    pub subject: Subject,
    /// Why.
    pub reason: Line,
    /// The operator who revoked it.
    pub by: Line,
    /// When.
    pub at: Timestamp,
}

impl fmt::Display for Revocation {
    /// As it is told to whoever is refused by it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was revoked", self.subject)?;
        if !self.reason.as_str().is_empty() {
            write!(f, " ({})", self.reason)?;
        }
        write!(f, ", revocation {}", self.id)
    }
}

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are {MAX_REVOCATIONS} revocations, which is the most: lift those that are not needed with fedctl revoke reinstate"
)]
pub struct TooManyRevocations;

/// An immutable set of revocations, at most [`MAX_REVOCATIONS`]; a change gives another set.
#[derive(Debug, Clone, Default)]
pub struct Revocations {
    all: BTreeMap<RevocationId, Arc<Revocation>>,
    clusters: BTreeMap<ClusterName, Arc<Revocation>>,
    domains: BTreeMap<TrustDomain, Domain>,
}

/// What is revoked of one trust domain. Of several revocations of one subject the first is named.
#[derive(Debug, Clone, Default)]
struct Domain {
    whole: Option<Arc<Revocation>>,
    /// By path.
    ids: BTreeMap<String, Arc<Revocation>>,
    /// By path, never empty.
    prefixes: BTreeMap<String, Arc<Revocation>>,
    serials: BTreeMap<Serial, Arc<Revocation>>,
}

// The indexes follow from the records, but for the order in which equal subjects came.
impl PartialEq for Revocations {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Eq for Revocations {}

impl Revocations {
    /// The set of these.
    ///
    /// # Errors
    /// When there are more than [`MAX_REVOCATIONS`].
    pub fn of(revocations: impl IntoIterator<Item = Arc<Revocation>>) -> Result<Self, TooManyRevocations> {
        let mut set = Self::default();
        revocations.into_iter().try_for_each(|revocation| set.add(revocation))?;
        Ok(set)
    }

    /// Adds one; one that is there already stays as it is.
    ///
    /// # Errors
    /// When there is no room.
    pub fn add(&mut self, revocation: Arc<Revocation>) -> Result<(), TooManyRevocations> {
        if self.all.contains_key(&revocation.id) {
            return Ok(());
        }
        if self.all.len() >= MAX_REVOCATIONS {
            return Err(TooManyRevocations);
        }
        self.index(&revocation);
        self.all.insert(revocation.id, revocation);
        Ok(())
    }

    /// Lifts one; whether it was there.
    pub fn lift(&mut self, id: &RevocationId) -> bool {
        if self.all.remove(id).is_none() {
            return false;
        }
        // Another one may cover the same subject.
        (self.clusters, self.domains) = (BTreeMap::new(), BTreeMap::new());
        let left: Vec<_> = self.all.values().cloned().collect();
        left.iter().for_each(|revocation| self.index(revocation));
        true
    }

    fn index(&mut self, revocation: &Arc<Revocation>) {
        let domain = self.domains.entry(revocation.subject.trust_domain().clone()).or_default();
        let entry = || Arc::clone(revocation);
        match &revocation.subject {
            Subject::Cluster { cluster, .. } => {
                self.clusters.entry(cluster.clone()).or_insert_with(entry);
                domain.whole.get_or_insert_with(entry);
            }
            Subject::Id(id) => drop(domain.ids.entry(id.path().to_owned()).or_insert_with(entry)),
            Subject::Prefix(prefix) if prefix.path().is_empty() => drop(domain.whole.get_or_insert_with(entry)),
            Subject::Prefix(prefix) => {
                domain.prefixes.entry(prefix.path().to_owned()).or_insert_with(entry);
            }
            Subject::Serial { serial, .. } => {
                domain.serials.entry(serial.clone()).or_insert_with(entry);
            }
        }
    }

    /// What covers `id`, if anything does.
    #[must_use]
    pub fn of_id(&self, id: &SpiffeId) -> Option<&Arc<Revocation>> {
        let domain = self.domains.get(id.trust_domain())?;
        let path = id.path();
        domain.whole.as_ref().or_else(|| domain.ids.get(path)).or_else(|| domain.prefix_of(path))
    }

    /// What covers the certificate of `trust_domain` with this serial number, by its number alone.
    #[must_use]
    pub fn of_serial(&self, trust_domain: &TrustDomain, serial: &Serial) -> Option<&Arc<Revocation>> {
        self.domains.get(trust_domain)?.serials.get(serial)
    }

    /// What covers the cluster of this name.
    #[must_use]
    pub fn of_cluster(&self, cluster: &ClusterName) -> Option<&Arc<Revocation>> {
        self.clusters.get(cluster)
    }

    /// What covers the whole trust domain.
    #[must_use]
    pub fn of_trust_domain(&self, trust_domain: &TrustDomain) -> Option<&Arc<Revocation>> {
        self.domains.get(trust_domain)?.whole.as_ref()
    }

    /// The revocation of exactly this subject.
    #[must_use]
    pub fn of_subject(&self, subject: &Subject) -> Option<&Arc<Revocation>> {
        self.all.values().find(|revocation| revocation.subject == *subject)
    }

    /// One by its name.
    #[must_use]
    pub fn named(&self, id: &RevocationId) -> Option<&Arc<Revocation>> {
        self.all.get(id)
    }

    /// Every one, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Revocation>> {
        self.all.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Domain {
    /// The prefix of whole segments that covers a path, the longest first.
    fn prefix_of(&self, path: &str) -> Option<&Arc<Revocation>> {
        if self.prefixes.is_empty() {
            return None;
        }
        let ends = std::iter::once(path.len()).chain(path.rmatch_indices('/').map(|(at, _)| at));
        ends.filter_map(|end| path.get(..end)).find_map(|prefix| self.prefixes.get(prefix))
    }
}

#[cfg(test)]
mod tests;
