//! Which members are believed: the federation service carries their bundles, and cannot make them up.
//!
//! Owns the memory of every bundle that was ever believed here, and what of an update is refused because of it. Never asks
//! anybody: a person who knows better says so with `fedctl trust accept`.

use std::path::Path;

use anyhow::Context as _;
use federation_model::{lineage::SignedBundle, member::Member};
use federation_pki::continuity::{self, ContinuityError};
use federation_runtime::state::{self, StateError};
use prost::Message as _;
use proto::federation::v1::KnownBundles;

/// The file in the state directory. It outlives a membership: whoever comes back is held to what was believed before.
const FILE: &str = "known.pb";
/// Bundles of former members that are remembered: as many as a set may have members. The one signed longest ago is forgotten
/// first.
pub const MAX_KNOWN: usize = 1000;

/// A member of an update that is not believed.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// As it was told.
    pub member: Member,
    /// Why it is not believed.
    pub error: ContinuityError,
}

/// The last bundle of every cluster that was believed and is no member now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known(Vec<SignedBundle>);

impl Known {
    /// These bundles.
    #[must_use]
    pub fn new(bundles: Vec<SignedBundle>) -> Self {
        let mut known = Self(bundles);
        known.shrink();
        known
    }

    /// What was kept in a state directory.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn load(state_dir: &Path) -> anyhow::Result<Self> {
        let file = state_dir.join(FILE);
        let bytes = match state::read_private(&file) {
            Ok(bytes) => bytes,
            Err(StateError::Missing(_)) => return Ok(Self::default()),
            Err(error) => return Err(error.into()),
        };
        let decoded = KnownBundles::decode(bytes.as_slice()).map_err(anyhow::Error::from);
        let bundles = decoded.and_then(|message| {
            Ok(message.bundles.into_iter().map(TryInto::try_into).collect::<Result<Vec<SignedBundle>, _>>()?)
        });
        bundles.map(Self::new).with_context(|| {
            format!(
                "{} is damaged: restore it, or remove it and compare the fingerprints of clusters that come back by hand",
                file.display()
            )
        })
    }

    /// Keeps it in a state directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, state_dir: &Path) -> Result<(), StateError> {
        let bundles = self.0.iter().map(Into::into).collect();
        state::write_private(&state_dir.join(FILE), &KnownBundles { bundles }.encode_to_vec())
    }

    /// Remembers a member that goes.
    pub fn remember(&mut self, member: &Member) {
        self.forget(member);
        self.0.extend(member.lineage.newest().cloned());
        self.shrink();
    }

    /// Forgets what is known of a cluster and its trust domain.
    pub fn forget(&mut self, member: &Member) {
        self.0.retain(|bundle| !concerns(bundle, member));
    }

    fn of(&self, member: &Member) -> Option<&SignedBundle> {
        self.0.iter().find(|bundle| concerns(bundle, member))
    }

    fn shrink(&mut self) {
        while self.0.len() > MAX_KNOWN {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, bundle)| bundle.signed_at).map(|(index, _)| index);
            oldest.map(|index| self.0.swap_remove(index));
        }
    }
}

/// The same name or the same trust domain: neither may come back as somebody else's.
fn concerns(bundle: &SignedBundle, member: &Member) -> bool {
    bundle.cluster == member.cluster || bundle.bundle.trust_domain == member.bundle.trust_domain
}

/// Whether `offered` is believed, by what is held of it or was known.
///
/// # Errors
/// When it is not.
pub fn judge(held: Option<&Member>, known: &Known, offered: &Member) -> Result<(), ContinuityError> {
    continuity::check(&offered.cluster, &offered.lineage)?;
    let before = held.and_then(|member| member.lineage.newest()).or_else(|| known.of(offered));
    match before {
        Some(before) => continuity::advance(before, &offered.lineage).map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
