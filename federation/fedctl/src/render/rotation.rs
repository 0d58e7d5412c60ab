//! Where the rotation of an authority stands.

use federation_pki::rotation::Phase;
use proto::gateway::v1::{Blocker, RotationStanding};
use serde::Serialize;

use super::some;
use crate::{args::phase, clock};

/// Where a rotation stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RotationView {
    pub(crate) cluster: String,
    pub(crate) phase: String,
    pub(crate) done: bool,
    pub(crate) bundle_sequence: u64,
    pub(crate) authorities: Vec<String>,
    pub(crate) certificate: String,
    pub(crate) blockers: Vec<BlockerView>,
    pub(crate) behind: Vec<BlockerView>,
    pub(crate) slow_clocks: Vec<SlowClockView>,
    pub(crate) fault: Option<String>,
}

/// Who keeps it from going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct BlockerView {
    /// Nothing for the federation service.
    pub(crate) cluster: Option<String>,
    pub(crate) reason: String,
    pub(crate) consequence: String,
}

/// Whose clock does not accept the next certificate yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SlowClockView {
    pub(crate) cluster: String,
    pub(crate) wait_millis: u64,
}

impl BlockerView {
    fn new(blocker: Blocker) -> Self {
        Self { cluster: some(blocker.cluster), reason: blocker.reason, consequence: blocker.consequence }
    }

    fn line(&self) -> String {
        format!("{}: {}", self.cluster.as_deref().unwrap_or("federation"), self.reason)
    }
}

impl RotationView {
    pub(crate) fn new(standing: RotationStanding) -> Self {
        let clock = |clock: proto::gateway::v1::SlowClock| SlowClockView {
            cluster: clock.cluster,
            wait_millis: clock.wait_millis,
        };
        Self {
            cluster: standing.cluster,
            phase: standing.phase,
            done: standing.done,
            bundle_sequence: standing.sequence,
            authorities: standing.authorities,
            certificate: standing.certificate,
            blockers: standing.blockers.into_iter().map(BlockerView::new).collect(),
            behind: standing.behind.into_iter().map(BlockerView::new).collect(),
            slow_clocks: standing.clocks.into_iter().map(clock).collect(),
            fault: some(standing.fault),
        }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        phase(&self.phase) != Some(Phase::Settled)
    }

    /// What is being waited for.
    pub(crate) fn doing(&self) -> String {
        let waiting = self.blockers.iter().chain(&self.behind).map(BlockerView::line).next();
        waiting.map_or_else(|| self.phase.clone(), |line| format!("{}, waiting for {line}", self.phase))
    }

    /// What was not so before.
    pub(crate) fn news(&self, before: Option<&Self>) -> Vec<String> {
        let mut lines = Vec::new();
        if before.is_none_or(|before| before.bundle_sequence != self.bundle_sequence) {
            let authorities = super::count(self.authorities.len(), "authority", "authorities");
            lines.push(format!("version {} of the bundle is published, with {authorities}", self.bundle_sequence));
        }
        if before.is_some_and(|before| before.certificate != self.certificate) {
            lines.push("a new certificate is in use".to_owned());
        }
        let passed = before.into_iter().flat_map(|before| &before.blockers).filter_map(|blocker| {
            let still = self.blockers.iter().any(|now| now.cluster == blocker.cluster);
            (!still).then(|| format!("{} has followed", blocker.cluster.as_deref().unwrap_or("federation")))
        });
        lines.extend(passed);
        if let Some(fault) = self.fault.as_ref().filter(|fault| before.is_none_or(|b| b.fault.as_ref() != Some(fault)))
        {
            lines.push(format!("fault: {fault}"));
        }
        lines
    }

    /// What breaks when the gate is passed; empty when nobody blocks it.
    pub(crate) fn consequences(&self) -> String {
        self.blockers.iter().map(|blocker| format!("{}\n  then {}\n", blocker.line(), blocker.consequence)).collect()
    }

    pub(crate) fn text(&self) -> String {
        let mut text = match (self.done, self.is_under_way()) {
            (true, _) => format!("The authority of {} is settled: every member believes it.\n", self.cluster),
            (false, true) => format!("The rotation of {} is {}.\n", self.cluster, self.phase),
            (false, false) => format!("The authority of {} is settled; somebody does not know it yet.\n", self.cluster),
        };
        for authority in &self.authorities {
            text.push_str(&format!("  authority  {authority}\n"));
        }
        for blocker in &self.blockers {
            text.push_str(&format!("  waits for  {}\n", blocker.line()));
        }
        for behind in &self.behind {
            text.push_str(&format!("  behind     {}\n", behind.line()));
        }
        for slow in &self.slow_clocks {
            let wait = clock::span(std::time::Duration::from_millis(slow.wait_millis));
            text.push_str(&format!("  clock      {} accepts the next certificate in {wait}\n", slow.cluster));
        }
        if let Some(fault) = &self.fault {
            text.push_str(&format!("  fault      {fault}\n"));
        }
        let cluster = &self.cluster;
        text.push_str(&match (self.done, self.blockers.is_empty()) {
            (true, _) => "Next: fedctl certs\n".to_owned(),
            (false, false) => format!(
                "Next: look after those it waits for, then fedctl trust rotate {cluster}; --force passes the gate without them\n"
            ),
            (false, true) => format!("Next: fedctl trust rotate {cluster} --status\n"),
        });
        text
    }
}
