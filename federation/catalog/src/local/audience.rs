//! Which clusters an export is for: the annotation `landbridge.dev/export-to`.
//!
//! Owns its grammar: names of clusters, separated by commas; empty for no other cluster. Never guesses, and never takes less
//! than all of it: a value that cannot be read must not open a service to clusters it was closed to.

use std::collections::BTreeSet;

use federation_model::{
    export::Audience,
    names::{ClusterName, NameError},
};

use crate::objects::{EXPORT_TO, ServiceExportObject};

/// The most clusters that one export names: more are better served by a set of their own.
const MAX_CLUSTERS: usize = 64;

/// Why it is not known which clusters an export is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AudienceFault {
    #[error(
        "the annotation landbridge.dev/export-to is not a list of clusters ({0}); write their names, separated by commas: north, west"
    )]
    Name(#[from] NameError),
    #[error(
        "the annotation landbridge.dev/export-to names more than {MAX_CLUSTERS} clusters; name fewer, or leave it out to export to every cluster"
    )]
    TooMany,
}

/// Which clusters `export` is for.
pub(super) fn of(export: &ServiceExportObject) -> Result<Audience, AudienceFault> {
    let Some(text) = export.annotations.get(EXPORT_TO).map(|text| text.trim()) else {
        return Ok(Audience::Everyone);
    };
    let mut clusters: BTreeSet<ClusterName> = BTreeSet::new();
    for name in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
        clusters.insert(name.parse()?);
        if clusters.len() > MAX_CLUSTERS {
            return Err(AudienceFault::TooMany);
        }
    }
    Ok(Audience::Only(clusters))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use federation_model::time::Timestamp;

    use super::*;

    fn export(value: &str) -> ServiceExportObject {
        ServiceExportObject {
            key: "shop/web".parse().unwrap(),
            created: Timestamp(1),
            exported_labels: BTreeMap::new(),
            exported_annotations: BTreeMap::new(),
            annotations: [(EXPORT_TO.to_owned(), value.to_owned())].into(),
        }
    }

    fn read(value: &str) -> Result<Audience, AudienceFault> {
        of(&export(value))
    }

    fn clusters(value: &str) -> String {
        read(value).unwrap().to_string()
    }

    #[test]
    fn names_are_trimmed_and_counted_once() {
        assert_eq!(clusters("west"), "west");
        assert_eq!(clusters(" west ,north,west "), "north, west");
        let many: Vec<String> = (0..MAX_CLUSTERS).map(|number| format!("c{number}")).collect();
        let twice = format!("{0},{0}", many.join(","));
        assert!(read(&twice).is_ok(), "as many as there may be, twice each");
        assert_eq!(read(&format!("{twice},one-more")), Err(AudienceFault::TooMany));
    }

    #[test]
    fn an_empty_value_is_no_other_cluster() {
        assert_eq!(read(""), Ok(Audience::Only(BTreeSet::new())));
        assert_eq!(read("  "), Ok(Audience::Only(BTreeSet::new())));
    }

    #[test]
    fn a_value_with_anything_that_is_no_name_is_not_read_at_all() {
        for value in ["West", "west,", "west,,north", ",", "*", "west north", "west;north", "west, !north"] {
            let fault = read(value).unwrap_err().to_string();
            assert!(fault.contains("landbridge.dev/export-to") && fault.contains("north, west"), "{value}: {fault}");
        }
    }
}
