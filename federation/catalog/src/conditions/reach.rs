//! The conditions that say which other clusters an export has arrived in.
//!
//! Owns their reasons and messages, and the limit on how many clusters a message names. A cluster whose gateways do not say how
//! far they are is no failure: nothing is known to be wrong.

use federation_model::{names::ClusterName, report::ImportState};

use super::{Condition, ConditionKind, ConditionStatus};
use crate::reach::{ExportReach, Imported, Importer, Known};

/// The most clusters that a message names: two kilobytes of the 32 that Kubernetes takes.
const MAX_NAMED: usize = 20;

/// The conditions `Imported` and `Reachable` of an export, in this order.
#[must_use]
pub fn of_reach(reach: &ExportReach) -> [Condition; 2] {
    let imported = Asked {
        kind: ConditionKind::Imported,
        reasons: ["ImportedEverywhere", "PartlyImported", "NotImported"],
        known: Importer::imported,
        shown: |cluster, _| cluster.to_string(),
    };
    let reachable = Asked {
        kind: ConditionKind::Reachable,
        reasons: ["ReachableEverywhere", "PartlyReachable", "NotReachable"],
        known: Importer::reachable,
        shown: |cluster, importer| match importer.tunnel {
            Some(rtt) => format!("{cluster} {rtt}"),
            None => cluster.to_string(),
        },
    };
    [imported.of(reach), reachable.of(reach)]
}

/// What one condition asks of every importing cluster.
struct Asked {
    kind: ConditionKind,
    /// Everywhere, somewhere, nowhere.
    reasons: [&'static str; 3],
    known: fn(&Importer) -> Known,
    shown: fn(&ClusterName, &Importer) -> String,
}

impl Asked {
    fn of(&self, reach: &ExportReach) -> Condition {
        let (status, reason) = self.judge(reach);
        let message = match reach.importers().len() {
            0 => "there is no other cluster that the service is exported to".to_owned(),
            _ => self.message(reach),
        };
        Condition { kind: self.kind, status, reason: reason.to_owned(), message }
    }

    fn judge(&self, reach: &ExportReach) -> (ConditionStatus, &'static str) {
        let count = |known| reach.importers().filter(|(_, importer)| (self.known)(importer) == known).count();
        let [everywhere, partly, nowhere] = self.reasons;
        match [Known::Yes, Known::No, Known::NotYet, Known::Never].map(count) {
            [0, 0, 0, 0] => (ConditionStatus::Unknown, "NoPeers"),
            [0, 0, 0, _] => (ConditionStatus::Unknown, "NotReported"),
            [_, 0, 0, _] => (ConditionStatus::True, everywhere),
            [_, 0, _, _] => (ConditionStatus::Unknown, "Pending"),
            [0, _, _, _] => (ConditionStatus::False, nowhere),
            [_, _, _, _] => (ConditionStatus::False, partly),
        }
    }

    /// Where it is so, then where it is not and why. What is wrong is named before what is well, when there is no room for all.
    fn message(&self, reach: &ExportReach) -> String {
        let (mut well, mut wrong) = (Vec::new(), Vec::new());
        for (cluster, importer) in reach.importers() {
            match (self.known)(&importer) {
                Known::Yes => well.push((self.shown)(cluster, &importer)),
                Known::No | Known::NotYet | Known::Never => wrong.push(format!("{cluster}: {}", why_not(&importer))),
            }
        }
        let more = (well.len() + wrong.len()).saturating_sub(MAX_NAMED);
        wrong.truncate(MAX_NAMED);
        well.truncate(MAX_NAMED - wrong.len());
        let mut parts = Vec::with_capacity(wrong.len() + 1);
        if !well.is_empty() {
            parts.push(well.join(", "));
        }
        parts.append(&mut wrong);
        let named = parts.join("; ");
        if more == 0 { named } else { format!("{named}; and {more} more") }
    }
}

/// Why an export has not arrived in a cluster, or why that is not known; to be asked of those where it has not.
#[must_use]
pub fn why_not(importer: &Importer) -> &'static str {
    match (importer.import, importer.tunnel) {
        (Imported::Said(ImportState::NoNamespace), _) => "its namespace does not exist there",
        (Imported::Said(ImportState::PortConflict), _) => "older exports have its ports there",
        (Imported::Said(ImportState::TypeConflict), _) => "the oldest export there is headless, and this one is not",
        (Imported::Said(ImportState::Other), _) => "its gateway says something that this version does not know",
        (Imported::Said(ImportState::Ready | ImportState::NoAddress) | Imported::Pending | Imported::Unsaid, None) => {
            "no tunnel"
        }
        (Imported::Said(ImportState::Ready | ImportState::NoAddress), Some(_)) => "it has no address there yet",
        (Imported::Pending, Some(_)) => "its gateway has not said yet",
        (Imported::Unsaid, Some(_)) => "unknown: its gateway does not say",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reach::Rtt;

    fn importer(import: Imported, millis: Option<u64>) -> Importer {
        Importer { import, tunnel: millis.map(|millis| Rtt::of(Duration::from_millis(millis), None)) }
    }

    fn reach(importers: &[(&str, Importer)]) -> ExportReach {
        importers.iter().map(|(name, importer)| (name.parse().unwrap(), *importer)).collect()
    }

    fn told(importers: &[(&str, Importer)]) -> [String; 2] {
        of_reach(&reach(importers)).map(|condition| {
            let Condition { kind, status, reason, message } = condition;
            format!("{kind}={status} {reason}: {message}")
        })
    }

    const READY: Imported = Imported::Said(ImportState::Ready);

    #[test]
    fn an_export_that_has_arrived_everywhere_is_told_with_its_distances() {
        let all = [("north", importer(READY, Some(20))), ("west", importer(READY, Some(4)))];
        assert_eq!(
            told(&all),
            [
                "landbridge.dev/Imported=True ImportedEverywhere: north, west",
                "landbridge.dev/Reachable=True ReachableEverywhere: north 20 ms, west 5 ms",
            ]
        );
    }

    #[test]
    fn what_is_imported_and_cannot_be_reached_is_told_apart() {
        let some = [
            ("far", importer(READY, None)),
            ("late", importer(Imported::Said(ImportState::NoAddress), Some(1))),
            ("west", importer(READY, Some(5))),
        ];
        assert_eq!(
            told(&some),
            [
                "landbridge.dev/Imported=True ImportedEverywhere: far, late, west",
                "landbridge.dev/Reachable=False PartlyReachable: west 5 ms; far: no tunnel; late: it has no address there yet",
            ]
        );
    }

    #[test]
    fn what_is_refused_counts_against_it_and_what_is_not_said_does_not() {
        let refused = importer(Imported::Said(ImportState::NoNamespace), Some(1));
        let (old, new) = (importer(Imported::Unsaid, Some(1)), importer(Imported::Pending, Some(1)));
        let first = |importers: &[(&str, Importer)]| told(importers)[0].clone();
        let cases = [
            (first(&[]), "Unknown NoPeers: there is no other cluster that the service is exported to"),
            (first(&[("old", old)]), "Unknown NotReported: old: unknown: its gateway does not say"),
            (
                first(&[("old", old), ("west", importer(READY, Some(1)))]),
                "True ImportedEverywhere: west; old: unknown: its gateway does not say",
            ),
            (
                first(&[("new", new), ("west", importer(READY, Some(1)))]),
                "Unknown Pending: west; new: its gateway has not said yet",
            ),
            (
                first(&[("a", refused), ("new", new)]),
                "False NotImported: a: its namespace does not exist there; new: its gateway has not said yet",
            ),
            (
                first(&[("a", refused), ("west", importer(READY, Some(1)))]),
                "False PartlyImported: west; a: its namespace does not exist there",
            ),
        ];
        for (told, wanted) in cases {
            assert_eq!(told, format!("landbridge.dev/Imported={wanted}"));
        }
    }

    #[test]
    fn a_message_names_twenty_clusters_those_with_a_fault_first() {
        let names: Vec<String> = (0..100).map(|number| format!("c{number:02}")).collect();
        let state = |number| importer(READY, if number % 20 == 0 { None } else { Some(1) });
        let all: Vec<(&str, Importer)> = names.iter().enumerate().map(|(n, name)| (name.as_str(), state(n))).collect();
        let message = told(&all)[1].clone();
        assert!(message.ends_with("; c80: no tunnel; and 80 more"), "{message}");
        assert_eq!((message.matches(" 1 ms").count(), message.matches("no tunnel").count()), (15, 5));
        let longest = "x".repeat(63);
        let mut reach = ExportReach::default();
        for _ in 0..1000 {
            let state = importer(Imported::Said(ImportState::Other), Some(1));
            reach = reach
                .importers()
                .map(|(name, i)| (name.clone(), i))
                .chain([(longest.parse().unwrap(), state)])
                .collect();
        }
        assert!(of_reach(&reach).iter().all(|condition| condition.message.len() < 4096));
    }
}
