//! Who keeps a ConfigMap as it was shipped, and so may undo what we write.

use super::survey::Config;

/// What marks a ConfigMap, and what that means for an edit of it.
const KEEPERS: [(&str, Option<&str>, &str); 4] = [
    (
        "eks.amazonaws.com/component",
        None,
        "an update of the EKS add-on coredns may overwrite it: update with --resolve-conflicts PRESERVE, or put the block into the \
         corefile of the add-on's configuration values too",
    ),
    (
        "addonmanager.kubernetes.io/mode",
        Some("Reconcile"),
        "the add-on manager puts it back as it was shipped: use what the provider of the cluster has for own blocks, such as a \
         ConfigMap coredns-custom",
    ),
    (
        "app.kubernetes.io/managed-by",
        Some("Helm"),
        "the next helm upgrade overwrites it: put the block into the values of the chart too",
    ),
    ("objectset.rio.cattle.io/hash", None, "k3s puts it back as it was shipped at its next start"),
];

/// What a person should know before they edit it.
pub(super) fn notes(config: &Config) -> Vec<String> {
    let keeps = |(label, value, _): &&(&str, Option<&str>, &str)| {
        config.labels.get(*label).is_some_and(|is| value.is_none_or(|value| is == value))
    };
    KEEPERS.iter().filter(keeps).map(|(_, _, note)| format!("{}: {note}", config.name)).collect()
}
