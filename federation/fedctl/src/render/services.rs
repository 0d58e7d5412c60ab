//! The services a gateway serves.

use proto::gateway::v1::{Export, Importer, Service, Source};
use serde::Serialize;

use super::{Look, Mood, mood_cell, some, text_of};

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
    /// How far it is in each member that it is for.
    pub(crate) importers: Vec<ImporterView>,
}

/// A cluster that imports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ImporterView {
    pub(crate) cluster: String,
    pub(crate) state: String,
    pub(crate) reached: bool,
    pub(crate) why_not: Option<String>,
    pub(crate) distance: Option<String>,
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
    fn from(Export { restricted, clusters, importers }: Export) -> Self {
        let importers = importers.into_iter().map(ImporterView::from).collect();
        Self { clusters: restricted.then_some(clusters), importers }
    }
}

impl From<Importer> for ImporterView {
    fn from(Importer { cluster, state, reached, why_not, distance }: Importer) -> Self {
        Self { cluster, state, reached, why_not: some(why_not), distance: some(distance) }
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
        let export = self.export.iter().flat_map(ExportView::notes);
        let conflicts = self.conflicts.iter().map(|conflict| format!("conflict: {conflict}"));
        export.chain(conflicts).map(|note| format!("{}: {note}", self.key()))
    }
}

impl ExportView {
    /// Which clusters it is for, unless that is all, and where it has arrived.
    fn notes(&self) -> impl Iterator<Item = String> {
        let audience = self.clusters.as_ref().map(|clusters| match clusters.as_slice() {
            [] => "exported to no other cluster".to_owned(),
            some => format!("exported to {}", some.join(", ")),
        });
        let (reached, others): (Vec<_>, Vec<_>) = self.importers.iter().partition(|importer| importer.reached);
        let reached: Vec<String> = reached.into_iter().map(ImporterView::near).collect();
        let others: String = others.into_iter().map(ImporterView::missing).collect();
        let reach = match (self.importers.is_empty(), reached.is_empty()) {
            (true, _) => None,
            (false, true) => Some(format!("reached from no other cluster{others}")),
            (false, false) => Some(format!("reached from {}{others}", reached.join(", "))),
        };
        audience.into_iter().chain(reach)
    }
}

impl ImporterView {
    fn near(&self) -> String {
        self.distance.as_ref().map_or_else(|| self.cluster.clone(), |distance| format!("{} ({distance})", self.cluster))
    }

    fn missing(&self) -> String {
        format!("; {}: {}", self.cluster, self.why_not.as_ref().unwrap_or(&self.state))
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
