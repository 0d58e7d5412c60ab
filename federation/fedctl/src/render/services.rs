//! The services a gateway serves.

use proto::gateway::v1::{Export, Service, Source};
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
    /// The export of this cluster; nothing when it does not export the service.
    pub(crate) export: Option<ExportView>,
}

/// The export of this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ExportView {
    /// The clusters it is for; nothing for every cluster.
    pub(crate) clusters: Option<Vec<String>>,
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
        let Service { namespace, name, host, headless, addresses, ports, sources, conflicts, export } = service;
        let mut sources: Vec<_> = sources.into_iter().map(SourceView::from).collect();
        sources.sort_by(|a, b| (!a.local, a.priority, &a.cluster).cmp(&(!b.local, b.priority, &b.cluster)));
        let export = export.map(ExportView::from);
        Self { namespace, name, host, headless, addresses, ports, sources, conflicts, export }
    }
}

impl From<Export> for ExportView {
    fn from(Export { restricted, clusters }: Export) -> Self {
        Self { clusters: restricted.then_some(clusters) }
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

    /// What its line does not say.
    fn notes(&self) -> impl Iterator<Item = String> {
        let export = self.export.as_ref().and_then(ExportView::note).into_iter();
        let conflicts = self.conflicts.iter().map(|conflict| format!("conflict: {conflict}"));
        export.chain(conflicts).map(|note| format!("{}: {note}", self.key()))
    }
}

impl ExportView {
    /// What is not as usual; nothing when it is for every cluster.
    fn note(&self) -> Option<String> {
        self.clusters.as_ref().map(|clusters| match clusters.as_slice() {
            [] => "exported to no other cluster".to_owned(),
            some => format!("exported to {}", some.join(", ")),
        })
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
    let notes: Vec<String> = services.iter().flat_map(ServiceView::notes).collect();
    if !notes.is_empty() {
        text.push_str(&format!("\n{}\n", notes.join("\n")));
    }
    if services.iter().any(|service| !service.conflicts.is_empty()) {
        text.push_str("The oldest export counts; make the exports equal to end a conflict.\n");
    }
    text
}
