//! The reference pages under `docs`, held against the programs by their tests.
//!
//! Owns the form of the tables in `docs/metrics.md` and `docs/config.md`. Not part of any program: the feature `reference` is
//! on in tests alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use prometheus_client::{encoding::text::encode, registry::Registry};
use serde::de::DeserializeOwned;

use crate::config::{self, ConfigError};

/// The variable that makes [`agree`] rewrite a page.
pub const UPDATE: &str = "UPDATE_DOCS";

/// A page under `docs`, from the directory of a crate (`CARGO_MANIFEST_DIR`).
///
/// # Panics
/// When no directory above `crate_dir` has the page: it does not belong to this project.
#[must_use]
pub fn page(crate_dir: &str, name: &str) -> PathBuf {
    let above = Path::new(crate_dir).ancestors().map(|dir| dir.join("docs").join(name));
    above.into_iter().find(|file| file.is_file()).expect("the crate is part of this project, which has the page")
}

/// Compares the part of `page` between `<!-- section -->` and `<!-- end of section -->` with `text`; rewrites it when
/// `UPDATE_DOCS=1`.
///
/// # Errors
/// What differs, and how to bring the page up to date.
pub fn agree(page: &Path, section: &str, text: &str) -> Result<(), String> {
    let (begin, end) = (format!("<!-- {section} -->\n"), format!("<!-- end of {section} -->"));
    let whole = std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    let parts = whole.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?)));
    let Some((head, (now, tail))) = parts else {
        return Err(format!("{} has no section between {begin} and {end}", page.display()));
    };
    let text = format!("\n{}\n\n", text.trim());
    if now == text {
        return Ok(());
    }
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        let written = std::fs::write(page, format!("{head}{begin}{text}{end}{tail}"));
        return written.map_err(|error| format!("{}: {error}", page.display()));
    }
    let differs = text.lines().find(|line| !now.contains(line)).unwrap_or("a line too many");
    Err(format!("{} is not up to date ({differs}); run the test with {UPDATE}=1", page.display()))
}

#[derive(Debug, Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The table of the metrics of a program. Every metric must have a sample: names of labels are found in samples alone.
///
/// # Errors
/// The metrics without a sample.
pub fn metrics(registry: &Registry) -> Result<String, String> {
    let mut exposition = String::new();
    encode(&mut exposition, registry).map_err(|error| error.to_string())?;
    let mut metrics: BTreeMap<&str, Metric> = BTreeMap::new();
    let mut current = "";
    for line in exposition.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                current = name;
                help.trim_end_matches('.').clone_into(&mut metrics.entry(name).or_default().help);
            }
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                current = name;
                kind.clone_into(&mut metrics.entry(name).or_default().kind);
            }
            _ => metrics.entry(current).or_default().labels.extend(labels(line)),
        }
    }
    metrics.remove("");
    let unseen: Vec<String> =
        names(registry).into_iter().filter(|name| !metrics.keys().any(|m| m.ends_with(name))).collect();
    if !unseen.is_empty() {
        return Err(format!("these metrics have no sample: {}", unseen.join(", ")));
    }
    let mut table = "| metric | type | labels | what |\n|---|---|---|---|\n".to_owned();
    for (name, Metric { kind, help, labels }) in &metrics {
        let name = if kind == "counter" { format!("{name}_total") } else { (*name).to_owned() };
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(table, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).map_err(|error| error.to_string())?;
    }
    Ok(table)
}

/// The names of the labels of a sample; `le` is part of the type.
fn labels(sample: &str) -> BTreeSet<String> {
    let Some((inside, _)) = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')) else {
        return BTreeSet::new();
    };
    // What stands before `="` behind a quote and a comma, or at the start.
    let names = inside.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name.to_owned());
    names.filter(|name| name != "le").collect()
}

/// The names in a registry, also of metrics without a sample, which an exposition leaves out.
fn names(registry: &Registry) -> BTreeSet<String> {
    let text = format!("{registry:?}");
    let named = text.split("Descriptor { name: \"").skip(1);
    named.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

/// The settings of the section `heading` of `docs/config.md` with their defaults, in TOML; no default is `None`.
#[must_use]
pub fn documented(page: &str, heading: &str) -> BTreeMap<String, Option<String>> {
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap_or_default();
    let code = |cell: &str| cell.trim().strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).map(str::to_owned);
    section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.splitn(3, '|');
            Some((code(cells.next()?)?, code(cells.next()?)))
        })
        .collect()
}

/// Every key that `T` reads, `section.key`, where `required` is the least it accepts.
///
/// # Errors
/// When `required` is not enough.
pub fn keys<T: DeserializeOwned>(required: &str) -> Result<BTreeSet<String>, String> {
    /// A key that no setting has.
    const NONE: &str = "no-such-key";
    let known = |text: &str| match config::from_text::<T>(text) {
        Err(ConfigError::UnknownKey { known, .. }) => Ok(known),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err(format!("unknown keys are accepted: {text}")),
    };
    let mut keys = BTreeSet::new();
    for section in known(&format!("{NONE} = 1\n{required}"))? {
        keys.extend(known(&format!("{section}.{NONE} = 1\n{required}"))?);
    }
    Ok(keys)
}

/// Whether giving every documented default changes nothing.
///
/// # Errors
/// When a default is not accepted, or is not the default.
pub fn are_defaults<T>(documented: &BTreeMap<String, Option<String>>, required: &str) -> Result<(), String>
where
    T: DeserializeOwned + std::fmt::Debug,
{
    let read = |text: &str| config::from_text::<T>(text).map(|it| format!("{it:?}")).map_err(|error| error.to_string());
    let plain = read(required)?;
    for (key, default) in documented.iter().filter_map(|(key, default)| Some((key, default.as_ref()?))) {
        if read(&format!("{key} = {default}\n{required}"))? != plain {
            return Err(format!("the default of `{key}` is not {default}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

    type Labelled = Family<Vec<(String, String)>, Counter>;

    #[test]
    fn the_table_has_type_labels_and_help_of_every_metric() {
        let mut registry = Registry::with_prefix("program");
        let family = Labelled::default();
        let labels = vec![("peer".to_owned(), "a=\"{,}".to_owned()), ("side".to_owned(), "x".to_owned())];
        family.get_or_create(&labels).inc();
        registry.register("things", "Things", family);
        registry.sub_registry_with_prefix("part").register("open", "Open ones", Gauge::<i64>::default());
        let table = metrics(&registry).unwrap();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        let expected = [
            "| `program_part_open` | gauge |  | Open ones |",
            "| `program_things_total` | counter | `peer`, `side` | Things |",
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_metric_without_a_sample_is_named() {
        let mut registry = Registry::default();
        registry.register("silent", "Nothing yet", Labelled::default());
        assert_eq!(metrics(&registry).unwrap_err(), "these metrics have no sample: silent");
    }

    #[test]
    fn a_page_that_differs_is_told_with_the_way_to_mend_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("page.md");
        std::fs::write(&file, "# Page\n<!-- a -->\n\nold\n\n<!-- end of a -->\nmore\n").unwrap();
        assert_eq!(agree(&file, "a", "old"), Ok(()));
        assert!(agree(&file, "a", "new").unwrap_err().contains(UPDATE));
        assert!(agree(&file, "b", "new").unwrap_err().contains("no section"));
    }

    #[test]
    fn documented_settings_are_read_from_the_table_of_their_program() {
        let page = "# Settings\n## a.toml\n| key | default | what |\n|---|---|---|\n| `x.y` | `[1]` | z |\n| `x.z` | required | z |\n## b.toml\n| `c` | `1` | d |\n";
        let expected = [("x.y".to_owned(), Some("[1]".to_owned())), ("x.z".to_owned(), None)].into();
        assert_eq!(documented(page, "a.toml"), expected);
    }
}
