//! The JSON of a bundle document, read strictly where it matters and leniently where the specification demands it.
//!
//! Owns the syntax: a name that stands twice in an object makes the document ambiguous and is refused, an entry of a kind or
//! use that is not known is passed over whatever it holds. Never looks into a certificate.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

/// The parts of a document that are read.
#[derive(Debug)]
pub(super) struct Read {
    /// What stands in `keys`, in order.
    pub(super) entries: Vec<Entry>,
    /// `spiffe_sequence`, when there is one.
    pub(super) sequence: Option<u64>,
    /// `spiffe_refresh_hint` in seconds, when there is one.
    pub(super) refresh_hint: Option<u64>,
}

/// One JWK; only these three members are looked at.
#[derive(Debug, Default)]
pub(super) struct Entry {
    kty: Value,
    usage: Value,
    x5c: Value,
}

impl Entry {
    /// Whether it has this use, and a kind of key that certificates of today have.
    pub(super) fn is_for(&self, usage: &str) -> bool {
        matches!(self.kty.as_str(), Some("EC" | "RSA" | "OKP")) && self.usage == usage
    }

    /// The texts in `x5c`; none when it is not a list of texts.
    pub(super) fn certificates(&self) -> Vec<&str> {
        let texts = self.x5c.as_array().map(|values| values.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        texts.flatten().unwrap_or_default()
    }
}

/// The names of one object, each once.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    fn once<E: Error>(&mut self, name: &str) -> Result<(), E> {
        if self.0.insert(name.to_owned()) {
            return Ok(());
        }
        let shown: String = name.chars().take(40).collect();
        Err(E::custom(format_args!("{shown:?} stands twice in one object")))
    }
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Document)
    }
}

struct Document;

impl<'de> Visitor<'de> for Document {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"keys\"")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Read, M::Error> {
        let (mut names, mut entries, mut sequence, mut refresh_hint) = (Names::default(), None, None, None);
        while let Some(name) = map.next_key::<String>()? {
            names.once::<M::Error>(&name)?;
            match name.as_str() {
                "keys" => entries = Some(map.next_value()?),
                "spiffe_sequence" => sequence = Some(map.next_value()?),
                "spiffe_refresh_hint" => refresh_hint = Some(map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Read { entries: entries.ok_or_else(|| M::Error::missing_field("keys"))?, sequence, refresh_hint })
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Jwk)
    }
}

struct Jwk;

impl<'de> Visitor<'de> for Jwk {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON Web Key")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entry, M::Error> {
        let (mut names, mut entry) = (Names::default(), Entry::default());
        while let Some(name) = map.next_key::<String>()? {
            names.once::<M::Error>(&name)?;
            match name.as_str() {
                "kty" => entry.kty = map.next_value()?,
                "use" => entry.usage = map.next_value()?,
                "x5c" => entry.x5c = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(entry)
    }
}
