//! One step in one place: what its text becomes, and what a person should know of it.

use std::net::IpAddr;

use federation_model::sni::Zone;

use super::{
    Base, Place, Plan, Step, keeper,
    stub::{self, StubError},
    survey::{Config, OUR_KEY, Part, STUB_DOMAINS, is_asked},
};
use crate::{
    corefile::{Claim, Corefile, CorefileError, Delegation},
    install::{PART_OF, Refusal},
};

/// Our block into a text that CoreDNS reads.
pub(super) fn install(part: &Part<'_>, zone: &Zone, servers: &[IpAddr], force: bool) -> Step {
    let mut step = Step::on(part.config, part.key);
    if let Some((key, claim)) = part.elsewhere(zone).filter(|(_, claim)| claim.collides() || !force) {
        if is_asked(claim.servers(), servers) {
            step.notes = vec![stays(&format!("{key}: {claim}"))];
        } else {
            let remedy = format!("take it out of the key {key}, then the same command; or leave it, if it is right");
            step.plan = Plan::Refused(Refusal { reason: format!("{key}: {claim}"), remedy });
        }
        return step;
    }
    let (text, force_tcp) = (part.text(), part.is_node_local());
    let delegation = Delegation { zone: zone.clone(), servers: servers.to_vec(), force_tcp };
    let installed = Corefile::read(text).and_then(|corefile| corefile.install(&delegation, &part.listening(), force));
    match installed {
        Ok(after) if after == text => {}
        Ok(after) => {
            step.change(part.config, Some(after));
            step.notes = keeper::notes(part.config);
            step.restart = part.restart();
        }
        Err(CorefileError::Claimed(claim)) if is_asked(claim.servers(), servers) => {
            step.notes = vec![stays(&claim.to_string())];
        }
        Err(error) => step.plan = Plan::Refused(refusal(&error)),
    }
    step
}

/// Our block out of a text that CoreDNS reads.
pub(super) fn uninstall(part: &Part<'_>, zone: &Zone) -> Step {
    let (mut step, text) = (Step::on(part.config, part.key), part.text());
    match Corefile::read(text).and_then(|corefile| corefile.uninstall(zone)) {
        Ok(after) if after == text => {}
        Ok(after) => {
            // A file of ours that has nothing left to say goes.
            let empty = part.key == OUR_KEY && after.trim().is_empty();
            step.change(part.config, (!empty).then_some(after));
            step.restart = part.restart();
        }
        Err(error) => step.plan = Plan::Refused(refusal(&error)),
    }
    step
}

/// Our block out of a text, since the Corefile serves the zone.
pub(super) fn give_way(part: &Part<'_>, zone: &Zone) -> Step {
    Step { follows: true, ..uninstall(part, zone) }
}

/// A text as it is, since the Corefile cannot serve the zone.
pub(super) fn keep(part: &Part<'_>) -> Step {
    let notes = vec!["it stays until the Corefile has the block: it may be the only one".to_owned()];
    Step { notes, ..Step::on(part.config, part.key) }
}

/// The zone among the stub domains.
pub(super) fn install_stub(config: &Config, zone: &Zone, servers: &[IpAddr], force: bool) -> Step {
    let mut step = Step::on(config, STUB_DOMAINS);
    match config.stubs().and_then(|stubs| stubs.install(zone, servers, force)) {
        Ok(None) => {}
        Ok(Some(after)) => {
            step.change(config, Some(after));
            step.notes = keeper::notes(config);
            step.annotation = Some((stub::ANNOTATION, Some(stub::written(servers))));
        }
        Err(error) => step.plan = Plan::Refused(stub_refusal(&error)),
    }
    step
}

/// The zone no more among the stub domains.
pub(super) fn uninstall_stub(config: &Config, zone: &Zone) -> Step {
    let mut step = Step::on(config, STUB_DOMAINS);
    match config.stubs().map(|stubs| stubs.uninstall(zone)) {
        Ok(None) => {}
        Ok(Some(after)) => {
            step.change(config, after);
            step.annotation = Some((stub::ANNOTATION, None));
        }
        Err(error) => step.plan = Plan::Refused(stub_refusal(&error)),
    }
    step
}

impl Step {
    /// One that changes nothing yet.
    fn on(config: &Config, key: &str) -> Self {
        let ours = config.labels.get(PART_OF.0).is_some_and(|value| value == PART_OF.1);
        let goes = ours && config.data.keys().all(|other| other == key);
        let base = config.version.clone().map(|version| Base { version, goes });
        let place = Place::new(&config.name, key);
        Self { place, plan: Plan::Unchanged, notes: Vec::new(), restart: None, base, annotation: None, follows: false }
    }

    fn change(&mut self, config: &Config, after: Option<String>) {
        let before = config.data.get(&self.place.key).cloned();
        self.plan = Plan::Change { before, after };
    }
}

fn stays(claim: &str) -> String {
    format!("{claim}: these are the gateways, and it stays as it is")
}

fn refusal(error: &CorefileError) -> Refusal {
    let remedy = match error {
        CorefileError::Claimed(Claim::Block { .. }) => {
            "leave it, if it is right; --force puts ours in its place, and uninstall does not bring it back"
        }
        CorefileError::Claimed(Claim::Shared { .. }) => "take the zone out of that block, then the same command",
        CorefileError::Claimed(Claim::Multicluster { .. }) => {
            "nothing, where CoreDNS is to answer (docs/install.md#names says what it cannot); --force has the gateways asked"
        }
        CorefileError::Claimed(Claim::Below { .. } | Claim::Forward { .. }) => {
            "leave it, if it is right; --force puts ours beside it"
        }
        CorefileError::Quote { .. }
        | CorefileError::Brace { .. }
        | CorefileError::Unclosed { .. }
        | CorefileError::Unbraced { .. }
        | CorefileError::Directives { .. }
        | CorefileError::Marker { .. } => {
            "mend it, then the same command; or add the block by hand: docs/install.md#names"
        }
    };
    Refusal { reason: error.to_string(), remedy: remedy.to_owned() }
}

fn stub_refusal(error: &StubError) -> Refusal {
    let remedy = match error {
        StubError::Unread(_) => "mend it, then the same command",
        StubError::Claimed(_) => "leave it, if it is right; --force puts ours in its place",
    };
    Refusal { reason: error.to_string(), remedy: remedy.to_owned() }
}
