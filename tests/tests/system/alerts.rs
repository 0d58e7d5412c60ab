//! The alert rules under `deploy/alerts`, held against the programs: the metrics they look at, the commands they name.
//!
//! Owns the reading of the rules. What an expression means, only Prometheus knows: where `promtool` is installed, it is asked.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
};

use clap::CommandFactory as _;
use federation_fedctl::args::Cli;
use serde_json::Value;
use tests::skip;

const PREFIXES: [&str; 2] = ["landbridge_gateway_", "landbridge_federation_"];
/// What a histogram adds to its name.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];
const SEVERITIES: [&str; 2] = ["warning", "critical"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The rules, and their tests in the format of promtool.
fn files() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let entries = fs::read_dir(root().join("deploy/alerts")).unwrap().map(|entry| entry.unwrap().path());
    let (mut tests, mut files): (Vec<_>, Vec<_>) =
        entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).partition(|path| is_test(path));
    tests.sort();
    files.sort();
    assert!(!files.is_empty(), "there are no rules");
    (files, tests)
}

fn is_test(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".test.yaml"))
}

/// One alert.
struct Alert {
    name: String,
    rule: Value,
}

impl Alert {
    fn all() -> Vec<Self> {
        files().0.iter().flat_map(|file| Self::of(file)).collect()
    }

    fn of(file: &Path) -> Vec<Self> {
        let rules: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut alerts = Vec::new();
        for group in rules["groups"].as_array().unwrap() {
            assert!(group["name"].is_string(), "{group}");
            for rule in group["rules"].as_array().unwrap() {
                let name = rule["alert"].as_str().unwrap_or_else(|| panic!("{rule} has no name")).to_owned();
                alerts.push(Self { name, rule: rule.clone() });
            }
        }
        alerts
    }

    fn text(&self, section: &str, key: &str) -> &str {
        let text = self.rule[section][key].as_str().filter(|text| !text.is_empty());
        text.unwrap_or_else(|| panic!("{} has no {section}.{key}", self.name))
    }

    fn expression(&self) -> &str {
        self.rule["expr"].as_str().unwrap_or_else(|| panic!("{} has no expression", self.name))
    }
}

/// The names of our metrics in an expression.
fn metrics_in(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix))).collect()
}

/// The first cells of the tables of `docs/metrics.md`.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

/// The commands between backquotes, without `fedctl`.
fn commands_in(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|code| code.strip_prefix("fedctl ")).collect()
}

/// Follows the words of a command down the tree; what remains must be places to fill in, or options that exist.
fn check_command(words: &str) -> Result<(), String> {
    let tree = Cli::command();
    let mut at = &tree;
    for word in words.split_whitespace() {
        if let Some(below) = at.find_subcommand(word) {
            at = below;
        } else if let Some(option) = word.strip_prefix("--") {
            let known = at.get_arguments().any(|argument| argument.get_long() == Some(option));
            known.then_some(()).ok_or_else(|| format!("{} has no option --{option}", at.get_name()))?;
        } else if at.has_subcommands() || at.get_positionals().next().is_none() || word.chars().any(char::is_lowercase)
        {
            return Err(format!("{} knows no {word:?}", at.get_name()));
        }
    }
    if at.is_subcommand_required_set() { Err(format!("{words:?} is not a whole command")) } else { Ok(()) }
}

#[test]
fn every_metric_of_an_alert_is_one_that_the_programs_measure() {
    let documented = documented();
    assert!(documented.len() > 40, "docs/metrics.md was not understood: {documented:?}");
    for alert in Alert::all() {
        let metrics = metrics_in(alert.expression());
        assert!(!metrics.is_empty(), "{} looks at no metric", alert.name);
        for metric in metrics {
            let of_histogram = || OF_HISTOGRAMS.iter().filter_map(|end| metric.strip_suffix(end));
            let known = documented.contains(metric) || of_histogram().any(|name| documented.contains(name));
            assert!(known, "{} looks at {metric}, which is not in docs/metrics.md", alert.name);
        }
    }
}

#[test]
fn every_alert_says_how_bad_it_is_what_breaks_and_which_command_to_run_next() {
    let mut names = BTreeSet::new();
    for alert in Alert::all() {
        let name = &alert.name;
        assert!(names.insert(name.clone()), "{name} is there twice");
        let severity = alert.text("labels", "severity");
        assert!(SEVERITIES.contains(&severity), "{name} is {severity:?}");
        alert.text("annotations", "summary");
        let description = alert.text("annotations", "description");
        let commands = commands_in(description);
        assert!(!commands.is_empty(), "{name} names no fedctl command");
        for command in commands {
            check_command(command).unwrap_or_else(|error| panic!("{name}: fedctl {command}: {error}"));
        }
    }
}

#[test]
fn commands_that_do_not_exist_are_found() {
    assert_eq!(check_command("trust rotate CLUSTER --status"), Ok(()));
    for wrong in ["trust", "trust turn CLUSTER", "certs west", "check --loudly", "trust rotate west"] {
        assert!(check_command(wrong).is_err(), "{wrong}");
    }
}

/// Whether promtool accepts `files`, and why not; nothing where it is not installed.
fn promtool(command: &str, files: &[PathBuf]) -> Option<Result<(), String>> {
    let output = match Command::new("promtool").args([command, "rules"]).args(files).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            skip::say(
                &format!("promtool {command} rules"),
                "promtool is not installed (it comes with Prometheus); the alert rules were not run",
            );
            return None;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    let said = [output.stdout, output.stderr].concat();
    Some(if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) })
}

#[test]
fn prometheus_accepts_the_rules() {
    let (rules, _) = files();
    let Some(accepted) = promtool("check", &rules) else { return };
    accepted.unwrap_or_else(|said| panic!("{said}"));
}

#[test]
fn each_alert_of_trust_fires_when_it_should_and_only_then() {
    let (_, tests) = files();
    let text: String = tests.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for Alert { name, rule } in Alert::all() {
        let trust = ["certificate", "authority", "trust", "bundle", "revocation"];
        let of_trust = trust.iter().any(|word| rule["expr"].as_str().is_some_and(|e| e.contains(word)));
        assert!(
            !of_trust || text.contains(&format!("{name}\"")) || text.contains(&format!("alertname: {name}\n")),
            "{name} has no test"
        );
    }
    let Some(passed) = promtool("test", &tests) else { return };
    passed.unwrap_or_else(|said| panic!("{said}"));
}
