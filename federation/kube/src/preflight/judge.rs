//! What the facts of a cluster mean for a gateway that is to run there.
//!
//! Owns the limits and the words. Never asks the API server.

use federation_model::{finding::Finding, time::Timestamp};
use k8s_openapi::{apimachinery::pkg::version::Info, jiff};
use serde_json::Value;

use super::rights::{self, Right};
use crate::{call::CallError, install::Manifest};

/// The least version: pods of a gateway end with a `sleep` before they stop, which older ones do not have.
const LEAST: (u32, u32) = (1, 30);
/// Clocks further apart are told, seconds: half of what certificates allow at their start.
const APART: u64 = 30;
/// What certificates allow, seconds.
const ALLOWED: u64 = 60;

/// What was found out.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) address: &'a str,
    pub(super) server: Result<Server, CallError>,
    pub(super) missing: Result<Missing, CallError>,
    pub(super) definitions: Vec<(Wanted, Result<Option<Definition>, CallError>)>,
}

/// What an API server says of itself.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) version: Info,
    /// None when it did not say.
    pub(super) clock: Option<Clock>,
}

/// What an API server takes for the time, and what it was here before and after that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) server: Timestamp,
    pub(super) before: Timestamp,
    pub(super) after: Timestamp,
}

/// Rights that the person lacks.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// To install the objects.
    pub(super) needed: Vec<Right>,
    /// What the gateway gets and the person does not hold.
    pub(super) grants: Vec<Right>,
}

/// A definition that a gateway needs.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// The version that is used where it is served.
    pub(super) version: String,
    /// Those that are used where it is not.
    pub(super) older: Vec<String>,
}

/// A definition in the cluster.
#[derive(Debug)]
pub(super) struct Definition {
    /// Whether it came with Landbridge.
    pub(super) ours: bool,
    /// Who wrote it, as the API server knows it.
    pub(super) by: Option<String>,
    /// The versions it serves.
    pub(super) served: Vec<String>,
}

impl Wanted {
    /// What a definition of ours stores is what is used; it serves what else can be.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let json = manifest.json();
        let versions = json["spec"]["versions"].as_array();
        let stored = versions.into_iter().flatten().find(|version| version["storage"] == true);
        let version = stored.and_then(|version| version["name"].as_str()).unwrap_or_default().to_owned();
        let older = served(&json).into_iter().filter(|served| *served != version).collect();
        Self { name: manifest.name().to_owned(), version, older }
    }
}

/// The versions that a definition serves.
pub(super) fn served(definition: &Value) -> Vec<String> {
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true);
    served.filter_map(|version| version["name"].as_str()).map(str::to_owned).collect()
}

/// Every finding, in the order in which things are needed.
pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    match &facts.server {
        Ok(Server { version, clock }) => {
            found.push(of_version(version, facts.address));
            found.extend(clock.as_ref().map(of_clock));
        }
        Err(error) => found.push(unknown("Kubernetes version", error)),
    }
    found.push(match &facts.missing {
        Ok(missing) => of_rights(missing),
        Err(error) => unknown("rights", error),
    });
    found.extend(of_definitions(&facts.definitions));
    found
}

fn unknown(check: &str, error: &CallError) -> Finding {
    Finding::warning(check, format!("not known: {error}"), "a context that may ask for it")
}

fn of_version(version: &Info, address: &str) -> Finding {
    const CHECK: &str = "Kubernetes version";
    let Info { git_version, major, minor, .. } = version;
    let (Some(number), (least_major, least_minor)) = (number(major).zip(number(minor)), LEAST) else {
        return Finding::warning(
            CHECK,
            format!("{address} says {git_version:?}, which names no version"),
            format!("kubectl version; a gateway needs {}.{} or newer", LEAST.0, LEAST.1),
        );
    };
    if number < LEAST {
        return Finding::failed(
            CHECK,
            format!(
                "{git_version}, and a gateway needs {least_major}.{least_minor}: its pods end with a preStop sleep"
            ),
            "an update of the cluster",
        );
    }
    Finding::ok(CHECK, format!("{git_version}, at {address}"))
}

/// The number that a part of a version begins with: some clouds write `30+`.
fn number(part: &str) -> Option<u32> {
    let digits = part.bytes().take_while(u8::is_ascii_digit).count();
    part[..digits].parse().ok()
}

fn of_clock(clock: &Clock) -> Finding {
    const CHECK: &str = "clock";
    let Clock { server, before, after } = *clock;
    let apart = server.0.saturating_sub(after.0).max(before.0.saturating_sub(server.0));
    if apart <= APART {
        return Finding::ok(CHECK, "the API server and this machine agree");
    }
    Finding::warning(
        CHECK,
        format!(
            "the API server has {}, this machine {}: {apart} s apart, and a certificate is believed at most {ALLOWED} s before \
             it begins",
            date(server),
            date(after)
        ),
        "timedatectl status on this machine and on the nodes: both need NTP",
    )
}

fn date(time: Timestamp) -> String {
    let date = i64::try_from(time.0).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    date.map_or_else(|| format!("{} s", time.0), |date| date.to_string())
}

fn of_rights(missing: &Missing) -> Finding {
    const CHECK: &str = "rights";
    let Missing { needed, grants } = missing;
    let mut parts = Vec::new();
    if !needed.is_empty() {
        parts.push(format!("not allowed {}", rights::told(needed)));
    }
    if !grants.is_empty() {
        parts.push(format!("not held, so not to be granted to the gateway, {}", rights::told(grants)));
    }
    if parts.is_empty() {
        return Finding::ok(CHECK, "everything that fedctl install gateway and fedctl join do is allowed");
    }
    Finding::failed(
        CHECK,
        parts.join("; "),
        "a context of the ClusterRole cluster-admin; without one fedctl install gateway --namespaces, after who administers the \
         cluster has run fedctl install crds (docs/install.md)",
    )
}

/// One finding for each that is known, and one for all others: they mostly have one reason.
fn of_definitions(definitions: &[(Wanted, Result<Option<Definition>, CallError>)]) -> Vec<Finding> {
    let (mut found, mut unseen) = (Vec::new(), None);
    for (wanted, definition) in definitions {
        let check = format!("definition {}", wanted.name);
        match definition {
            Ok(None) => found.push(Finding::ok(&check, "not there yet; fedctl install gateway brings it")),
            Ok(Some(definition)) => found.push(of_definition(&check, wanted, definition)),
            Err(error) => unseen = Some(error),
        }
    }
    found.extend(unseen.map(|error| unknown("definitions", error)));
    found
}

fn of_definition(check: &str, wanted: &Wanted, there: &Definition) -> Finding {
    let Wanted { version, older, .. } = wanted;
    let whose = match (&there.ours, &there.by) {
        (true, _) => "of Landbridge".to_owned(),
        (false, Some(by)) => format!("of another program, written by {by}"),
        (false, None) => "of another program".to_owned(),
    };
    let remedy = if there.ours {
        "fedctl install crds".to_owned()
    } else {
        format!("a newer one from who has brought it, that serves {version}")
    };
    if there.served.contains(version) {
        return Finding::ok(check, format!("{whose}, serves {version}"));
    }
    let served = there.served.join(", ");
    match older.iter().find(|older| there.served.contains(older)) {
        Some(older) => Finding::warning(
            check,
            format!(
                "{whose}, serves {served} and not {version}: the gateway uses {older}, and fields that it lacks are lost"
            ),
            remedy,
        ),
        None => Finding::failed(check, format!("{whose}, serves {served}, and the gateway needs {version}"), remedy),
    }
}

#[cfg(test)]
mod tests;
