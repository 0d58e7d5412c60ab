//! What there is of DNS in a cluster, and what is to be done in which place.
//!
//! Owns the choice of the place: where CoreDNS reads blocks of others from a ConfigMap of its own, that one, since it survives
//! upgrades; else the Corefile. Decides from what was read, and reads nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use federation_model::sni::Zone;

use super::{Action, Intent, Place, Plan, Step, edit, stub::Stubs};
use crate::corefile::{Claim, Corefile, Listening, Standing};

pub(super) const COREDNS: &str = "coredns";
pub(super) const CUSTOM: &str = "coredns-custom";
pub(super) const KUBE_DNS: &str = "kube-dns";
pub(super) const NODE_LOCAL: &str = "node-local-dns";
pub(super) const COREFILE: &str = "Corefile";
/// Our key where CoreDNS reads `*.server`.
pub(super) const OUR_KEY: &str = "clusterset.server";
pub(super) const STUB_DOMAINS: &str = "stubDomains";

/// A ConfigMap, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) name: String,
    /// The version that was read; none where it is not there.
    pub(super) version: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) data: BTreeMap<String, String>,
}

/// The ConfigMaps with which the DNS of a cluster is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    pub(super) core: Option<Config>,
    pub(super) custom: Config,
    pub(super) kube_dns: Option<Config>,
    pub(super) node_local: Option<Config>,
}

/// How it stands with the zone in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where.
    pub place: Place,
    /// How.
    pub state: State,
    /// Who is asked there, as it is written.
    pub servers: Vec<String>,
}

/// How it stands with the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Ours, with the addresses of the gateways.
    Current,
    /// Ours, with addresses that are not, or not all, those of the gateways.
    Outdated,
    /// Somebody else's, which asks the gateways.
    Fitting,
    /// CoreDNS answers itself, from ServiceImports.
    Itself(String),
    /// Somebody else's, which does not.
    Claimed(String),
    /// Nobody's.
    Missing,
    /// Ours, where it is not read any more, or one too many.
    Unused,
    /// The text was not understood.
    Unread(String),
}

impl Survey {
    pub(super) fn is_empty(&self) -> bool {
        self.core.is_none() && self.kube_dns.is_none() && self.node_local.is_none()
    }

    /// What is to be done, place by place.
    #[must_use]
    pub fn plan(&self, intent: &Intent) -> Vec<Step> {
        let Intent { zone, action } = intent;
        match action {
            Action::Install { servers, force } => self.install(zone, servers, *force),
            Action::Uninstall => self.uninstall(zone),
        }
    }

    /// How it stands, place by place, where the gateways have these addresses.
    #[must_use]
    pub fn standing(&self, zone: &Zone, servers: &[IpAddr]) -> Vec<Found> {
        let corefiles = self.corefiles(zone).into_iter().map(|part| {
            let (state, asked) = match Corefile::read(part.text()).and_then(|corefile| corefile.standing(zone)) {
                Ok(Standing::Missing) => (State::Missing, Vec::new()),
                Ok(Standing::Ours(asked)) if is_asked(&asked, servers) => (State::Current, asked),
                Ok(Standing::Ours(asked)) => (State::Outdated, asked),
                Ok(Standing::Claimed(claim)) if is_asked(claim.servers(), servers) => {
                    (State::Fitting, claim.servers().to_vec())
                }
                Ok(Standing::Claimed(claim @ Claim::Multicluster { .. })) => {
                    (State::Itself(claim.to_string()), Vec::new())
                }
                Ok(Standing::Claimed(claim)) => (State::Claimed(claim.to_string()), claim.servers().to_vec()),
                Err(error) => (State::Unread(error.to_string()), Vec::new()),
            };
            let state = match part.role {
                Role::Wanted | Role::Kept => state,
                Role::Unused => State::Unused,
            };
            Found { place: part.place(), state, servers: asked }
        });
        corefiles.chain(self.stubs().map(|config| stub_standing(config, zone, servers))).collect()
    }

    fn install(&self, zone: &Zone, servers: &[IpAddr], force: bool) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for part in self.corefiles(zone) {
            // The Corefile comes before what it takes the place of.
            let refused = steps.last().is_some_and(|step| matches!(step.plan, Plan::Refused(_)));
            steps.push(match part.role {
                Role::Wanted => edit::install(&part, zone, servers, force),
                Role::Unused | Role::Kept if refused => edit::keep(&part),
                Role::Unused | Role::Kept => edit::give_way(&part, zone),
            });
        }
        steps.into_iter().chain(self.stubs().map(|config| edit::install_stub(config, zone, servers, force))).collect()
    }

    fn uninstall(&self, zone: &Zone) -> Vec<Step> {
        let corefiles = self.corefiles(zone).into_iter().map(|part| edit::uninstall(&part, zone));
        corefiles.chain(self.stubs().map(|config| edit::uninstall_stub(config, zone))).collect()
    }

    /// The Corefiles that matter: where the zone is, or else where it belongs.
    fn corefiles(&self, zone: &Zone) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        if let Some(core) = &self.core {
            let role = self.custom_role(core, zone);
            if role != Role::Wanted {
                parts.push(Part { config: core, key: COREFILE, main: core, role: Role::Wanted });
            }
            if role == Role::Wanted || self.custom.data.contains_key(OUR_KEY) {
                parts.push(Part { config: &self.custom, key: OUR_KEY, main: core, role });
            }
        }
        let node_local = self.node_local.iter();
        parts.extend(node_local.map(|config| Part { config, key: COREFILE, main: config, role: Role::Wanted }));
        parts
    }

    /// What the file of others' blocks is for, by what the Corefile says.
    fn custom_role(&self, core: &Config, zone: &Zone) -> Role {
        let read = Corefile::read(core.text(COREFILE));
        let read = read.and_then(|corefile| Ok((corefile.imports_custom(), corefile.standing(zone)?)));
        let Ok((imports, standing)) = read else { return Role::Kept };
        match standing {
            Standing::Missing if imports => Role::Wanted,
            // Of a wider block and one of the zone, CoreDNS takes that of the zone: ours, where it is there already.
            Standing::Claimed(claim) if imports && !claim.collides() && self.has_custom(zone) => Role::Wanted,
            Standing::Claimed(_) if imports => Role::Kept,
            Standing::Missing | Standing::Ours(_) | Standing::Claimed(_) => Role::Unused,
        }
    }

    fn has_custom(&self, zone: &Zone) -> bool {
        let standing = Corefile::read(self.custom.text(OUR_KEY)).and_then(|corefile| corefile.standing(zone));
        matches!(standing, Ok(Standing::Ours(_)))
    }

    /// The stub domains that matter: those of kube-dns where no CoreDNS is in its place.
    fn stubs(&self) -> impl Iterator<Item = &Config> {
        self.kube_dns.iter().filter(|_| self.core.is_none())
    }
}

impl Config {
    /// One that is not there.
    pub(super) fn missing(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// The text of a key; empty where there is none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.data.get(key).map_or("", String::as_str)
    }

    pub(super) fn stubs(&self) -> Result<Stubs<'_>, super::stub::StubError> {
        let ours = self.annotations.get(super::stub::ANNOTATION).map(String::as_str);
        Stubs::read(self.data.get(STUB_DOMAINS).map(String::as_str), ours)
    }
}

/// One text that CoreDNS reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) config: &'a Config,
    pub(super) key: &'static str,
    /// That which imports it, or it itself.
    pub(super) main: &'a Config,
    pub(super) role: Role,
}

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Our block belongs here.
    Wanted,
    /// It is not read, or ours is in the Corefile as well.
    Unused,
    /// It may be read, and the only one: what is ours there stays until the Corefile serves the zone.
    Kept,
}

impl<'a> Part<'a> {
    pub(super) fn text(&self) -> &'a str {
        self.config.text(self.key)
    }

    pub(super) fn place(&self) -> Place {
        Place::new(&self.config.name, self.key)
    }

    pub(super) fn is_node_local(&self) -> bool {
        self.config.name == NODE_LOCAL
    }

    /// Where a block has to listen.
    pub(super) fn listening(&self) -> Listening {
        Corefile::read(self.main.text(COREFILE)).map(|corefile| corefile.listening()).unwrap_or_default()
    }

    /// The workload to restart, where it does not follow what it reads.
    pub(super) fn restart(&self) -> Option<String> {
        let followed = Corefile::read(self.main.text(COREFILE)).is_ok_and(|corefile| corefile.is_followed());
        let kind = if self.is_node_local() { "daemonset" } else { "deployment" };
        (!followed).then(|| format!("{kind}/{}", self.main.name))
    }

    /// Who serves the zone in another file beside ours: CoreDNS starts with one alone.
    pub(super) fn elsewhere(&self, zone: &Zone) -> Option<(&'a str, Claim)> {
        let beside = |key: &&String| self.key == OUR_KEY && key.as_str() != OUR_KEY && key.ends_with(".server");
        self.config.data.iter().filter(|(key, _)| beside(key)).find_map(|(key, text)| {
            let claim = match Corefile::read(text).and_then(|corefile| corefile.standing(zone)) {
                Ok(Standing::Ours(servers)) => Claim::Block { line: 1, servers },
                Ok(Standing::Claimed(claim)) => claim,
                // What CoreDNS cannot read either is not ours to judge.
                Ok(Standing::Missing) | Err(_) => return None,
            };
            Some((key.as_str(), claim))
        })
    }
}

fn stub_standing(config: &Config, zone: &Zone, servers: &[IpAddr]) -> Found {
    let (state, asked) = match config.stubs().map(|stubs| stubs.asked(zone)) {
        Ok(None) => (State::Missing, Vec::new()),
        Ok(Some((asked, ours))) => {
            let state = match (ours, is_asked(&asked, servers)) {
                (true, true) => State::Current,
                (true, false) => State::Outdated,
                (false, true) => State::Fitting,
                (false, false) => {
                    State::Claimed(format!("an entry that is not ours has the zone asked of {}", asked.join(" and ")))
                }
            };
            (state, asked)
        }
        Err(error) => (State::Unread(error.to_string()), Vec::new()),
    };
    Found { place: Place::new(&config.name, STUB_DOMAINS), state, servers: asked }
}

/// Whether exactly these servers are asked, in any order and with or without the port of DNS.
pub(super) fn is_asked(asked: &[String], servers: &[IpAddr]) -> bool {
    let address = |asked: &String| -> Option<IpAddr> {
        let with_port = || asked.parse::<SocketAddr>().ok().filter(|address| address.port() == 53);
        asked.parse().ok().or_else(|| with_port().map(|address| address.ip()))
    };
    let asked: Option<BTreeSet<IpAddr>> = asked.iter().map(address).collect();
    asked.is_some_and(|asked| !asked.is_empty() && asked == servers.iter().copied().collect())
}

#[cfg(test)]
mod tests;
