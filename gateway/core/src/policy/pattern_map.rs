//! A map from patterns to values that finds every pattern a text matches without trying them one after another.
//!
//! Owns the order of tries: everything, the exact text, its beginnings, its ends. Never allocates on a look-up, and its
//! cost grows with the patterns that match and with the logarithm of those that do not.

use std::{
    collections::{BTreeMap, HashMap},
    iter,
};

use federation_model::policy::pattern::TextPattern;

pub(super) struct PatternMap<V> {
    any: Option<V>,
    exact: HashMap<Box<str>, V>,
    prefixes: AffixMap<V>,
    suffixes: AffixMap<V>,
}

impl<V> Default for PatternMap<V> {
    fn default() -> Self {
        Self::new(BTreeMap::new())
    }
}

impl<V> PatternMap<V> {
    pub(super) fn new(entries: BTreeMap<TextPattern, V>) -> Self {
        let (mut any, mut exact) = (None, HashMap::new());
        let (mut prefixes, mut suffixes) = (BTreeMap::new(), BTreeMap::new());
        for (pattern, value) in entries {
            match pattern {
                TextPattern::Any => any = Some(value),
                TextPattern::Exact(text) => {
                    exact.insert(text.into(), value);
                }
                TextPattern::Prefix(text) => {
                    prefixes.insert(text.bytes().collect(), value);
                }
                TextPattern::Suffix(text) => {
                    suffixes.insert(text.bytes().rev().collect(), value);
                }
            }
        }
        Self { any, exact, prefixes: AffixMap::new(prefixes), suffixes: AffixMap::new(suffixes) }
    }

    /// The values of all patterns that `text` matches.
    pub(super) fn matching<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a V> {
        (self.any.iter())
            .chain(self.exact.get(text))
            .chain(self.prefixes.matching(text.bytes()))
            .chain(self.suffixes.matching(text.bytes().rev()))
    }
}

/// Beginnings in the order of their bytes, each with the longest other one that it begins with. Whatever a text begins
/// with is the last entry that is not greater than the text, or one that this entry begins with.
struct AffixMap<V> {
    entries: Box<[Affix<V>]>,
}

struct Affix<V> {
    text: Box<[u8]>,
    shorter: Option<usize>,
    value: V,
}

impl<V> AffixMap<V> {
    fn new(sorted: BTreeMap<Box<[u8]>, V>) -> Self {
        let mut entries: Vec<Affix<V>> = Vec::with_capacity(sorted.len());
        for (text, value) in sorted {
            let last = entries.len().checked_sub(1);
            let mut shorter = iter::successors(last, |at| entries[*at].shorter);
            let shorter = shorter.find(|at| text.starts_with(&entries[*at].text));
            entries.push(Affix { text, shorter, value });
        }
        Self { entries: entries.into() }
    }

    fn matching<'a, B>(&'a self, bytes: B) -> impl Iterator<Item = &'a V>
    where
        B: Iterator<Item = u8> + Clone + 'a,
    {
        let not_greater = self.entries.partition_point(|entry| entry.text.iter().copied().le(bytes.clone()));
        let chain = iter::successors(not_greater.checked_sub(1), |at| self.entries[*at].shorter);
        let begins = move |entry: &&Affix<V>| {
            let mut rest = bytes.clone();
            entry.text.iter().all(|byte| rest.next() == Some(*byte))
        };
        chain.map(|at| &self.entries[at]).filter(begins).map(|entry| &entry.value)
    }
}
