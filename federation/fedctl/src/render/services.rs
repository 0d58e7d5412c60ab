//! The services a gateway serves.

use proto::gateway::v1::{Service, Source};
use serde::Serialize;

use super::{Look, Mood, mood_cell, text_of};

/// One service of the cluster set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ServiceView {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) headless: bool,
    pub(crate) addresses: Vec<String>,
    pub(crate) ports: Vec<String>,
    pub(crate) sources: Vec<SourceView>,
    pub(crate) conflicts: Vec<String>,
}

/// A cluster that exports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct SourceView {
    pub(crate) cluster: String,
    pub(crate) ready: u32,
    pub(crate) local: bool,
    pub(crate) reachable: bool,
    pub(crate) priority: u32,
    pub(crate) weight: u32,
}

impl From<Service> for ServiceView {
    fn from(service: Service) -> Self {
        let Service { namespace, name, host, headless, addresses, ports, sources, conflicts } = service;
        let mut sources: Vec<_> = sources.into_iter().map(SourceView::from).collect();
        sources.sort_by(|a, b| (!a.local, a.priority, &a.cluster).cmp(&(!b.local, b.priority, &b.cluster)));
        Self { namespace, name, host, headless, addresses, ports, sources, conflicts }
    }
}

impl From<Source> for SourceView {
    fn from(source: Source) -> Self {
        let Source { cluster, ready, local, reachable, priority, weight } = source;
        Self { cluster, ready, local, reachable, priority, weight }
    }
}

impl ServiceView {
    fn mood(&self) -> Mood {
        let usable = |source: &&SourceView| source.reachable && source.ready > 0;
        match (self.sources.iter().find(usable), self.conflicts.is_empty()) {
            (None, _) => Mood::Bad,
            (Some(_), false) => Mood::Doubtful,
            (Some(_), true) => Mood::Good,
        }
    }

    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl SourceView {
    fn text(&self) -> String {
        let place = match (self.local, self.reachable) {
            (true, _) => " (here)",
            (false, true) => "",
            (false, false) => " (unreachable)",
        };
        format!("{}: {} ready{place}", self.cluster, self.ready)
    }
}

/// The services, one a line, and their conflicts.
pub(crate) fn table(services: &[ServiceView], look: Look) -> String {
    if services.is_empty() {
        return "No services. Next: export one with a ServiceExport beside its Service\n".to_owned();
    }
    let mut table = look.table(&["SERVICE", "HOST", "ADDRESS", "PORTS", "CLUSTERS"]);
    for service in services {
        let address = match (service.headless, service.addresses.as_slice()) {
            (true, addresses) => format!("headless ({})", addresses.len()),
            (false, []) => "-".to_owned(),
            (false, addresses) => addresses.join(" "),
        };
        let sources: Vec<_> = service.sources.iter().map(SourceView::text).collect();
        table.add_row([
            mood_cell(service.key(), service.mood()),
            service.host.as_str().into(),
            address.into(),
            service.ports.join(" ").into(),
            sources.join(", ").into(),
        ]);
    }
    let mut text = text_of(table);
    for service in services {
        for conflict in &service.conflicts {
            text.push_str(&format!("\n{}: conflict: {conflict}", service.key()));
        }
    }
    if services.iter().any(|service| !service.conflicts.is_empty()) {
        text.push_str("\nThe oldest export counts; make the exports equal to end a conflict.\n");
    }
    text
}
