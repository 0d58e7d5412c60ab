//! One immutable snapshot of everything that routes, resolves and admits.
//!
//! Owns the lookups of the data path and of DNS. Never changes: a change of anything is a new snapshot, and a connection
//! keeps the one it began with. Making one is cheap, since it shares its inputs and looks the rest up when asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use federation_model::{
    addr::{Port, Transport},
    catalog::{ServicePort, SessionAffinity},
    export::{Audience, Deliver, Endpoint, EndpointState, LocalExport},
    import::{
        Import, ImportKind, ImportSource, Imports,
        address::{AddressKey, address_keys},
    },
    member::Member,
    names::{ClusterName, EndpointName, ServiceKey},
    outcome::Outcome,
    revocation::{Revocation, Revocations},
    sni::{SniTarget, Zone},
    spiffe::SpiffeId,
};

use crate::{names::NameTable, places::Places, policy::PolicyTable};

mod ports;
mod report;
pub mod view;

use ports::{plain_port, tls_port};

/// What a snapshot is made of.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Grows with every snapshot; the serial number of the zone.
    pub generation: u64,
    /// This cluster.
    pub cluster: ClusterName,
    /// The zone of the cluster set.
    pub zone: Zone,
    /// The merged exports of all clusters, this one among them.
    pub imports: Arc<Imports>,
    /// What this cluster exports.
    pub exports: Arc<BTreeMap<ServiceKey, LocalExport>>,
    /// Whose address is whose.
    pub pods: Arc<BTreeMap<IpAddr, Arc<SpiffeId>>>,
    /// The other members of the set.
    pub members: Arc<BTreeMap<ClusterName, Member>>,
    /// What is not to be believed any more.
    pub revocations: Arc<Revocations>,
    /// Who may reach what this cluster exports.
    pub policies: Arc<PolicyTable>,
    /// The clusters with a tunnel that takes new streams.
    pub reachable: Arc<BTreeSet<ClusterName>>,
    /// Where the imports are reached in this cluster.
    pub places: Places,
    /// The addresses at which the name server answers.
    pub nameservers: Arc<[IpAddr]>,
}

/// The snapshot. A clone shares everything.
#[derive(Debug, Clone)]
pub struct Tables {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    inputs: Inputs,
    names: NameTable,
}

/// Where a connection may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The service.
    pub service: ServiceKey,
    /// Its port.
    pub port: Port,
    /// TCP or UDP.
    pub transport: Transport,
    /// The one endpoint that is meant, of a headless service.
    pub endpoint: Option<EndpointName>,
    /// Client affinity of the service.
    pub affinity: SessionAffinity,
    /// The clusters that can take it, in order of name; never empty.
    pub candidates: Vec<Candidate>,
}

/// A cluster that can take a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The cluster.
    pub cluster: ClusterName,
    /// Whether it is this cluster.
    pub local: bool,
    /// Lower is preferred.
    pub priority: u32,
    /// Share within one priority.
    pub weight: u32,
    /// Ready endpoints; 0 when only terminating ones are left anywhere.
    pub ready: u32,
}

impl Tables {
    /// A snapshot of `inputs`.
    #[must_use]
    pub fn compile(inputs: Inputs) -> Self {
        let names = NameTable::new(
            inputs.zone.clone(),
            inputs.imports.clone(),
            inputs.places.clone(),
            inputs.nameservers.clone(),
            // Serial numbers wrap around (RFC 1982), so the low half is the right half.
            (inputs.generation & u64::from(u32::MAX)) as u32,
        );
        Self { inner: Arc::new(Inner { inputs, names }) }
    }

    /// The route of a connection that arrived at `local`, the address of an import or a port allocated for it.
    ///
    /// # Errors
    /// [`Outcome::UnknownService`], [`Outcome::UnknownPort`] or [`Outcome::NoHealthyCluster`].
    pub fn by_address(&self, local: SocketAddr, transport: Transport) -> Result<Route, Outcome> {
        let (key, port) = self.inner.inputs.places.destination(local, transport).ok_or(Outcome::UnknownService)?;
        let import = self.import(key.service())?;
        let port = port.ok_or(Outcome::UnknownPort)?;
        match (key, import.kind) {
            (AddressKey::Service(service), ImportKind::ClusterSetIp) => {
                self.route(service, import, (port, transport), None)
            }
            (AddressKey::Endpoint(service, cluster, endpoint), ImportKind::Headless) => {
                self.route(service, import, (port, transport), Some((cluster, endpoint)))
            }
            // The service changed its type since: its old addresses lead nowhere.
            (AddressKey::Service(_), ImportKind::Headless) | (AddressKey::Endpoint(..), ImportKind::ClusterSetIp) => {
                Err(Outcome::UnknownService)
            }
        }
    }

    /// The route of a TLS connection by its server name. Without a port in the name, it is the TLS port of the service.
    ///
    /// # Errors
    /// [`Outcome::UnknownService`], [`Outcome::UnknownPort`] or [`Outcome::NoHealthyCluster`].
    pub fn by_name(&self, target: &SniTarget) -> Result<Route, Outcome> {
        let import = self.import(&target.service)?;
        let port = match target.port {
            Some(port) => port,
            None => tls_port(&import.ports).ok_or(Outcome::UnknownPort)?.port,
        };
        self.route(&target.service, import, (port, Transport::Tcp), None)
    }

    /// The port that the server name of a connection means whose TLS ends at this gateway: what follows is not TLS any more.
    ///
    /// # Errors
    /// [`Outcome::UnknownService`] or [`Outcome::UnknownPort`].
    pub fn port_behind(&self, target: &SniTarget) -> Result<&ServicePort, Outcome> {
        let ports = &self.import(&target.service)?.ports;
        let found = match target.port {
            Some(named) => ports.iter().find(|port| port.port == named && port.transport == Transport::Tcp),
            None => plain_port(ports),
        };
        found.ok_or(Outcome::UnknownPort)
    }

    fn import(&self, service: &ServiceKey) -> Result<&Import, Outcome> {
        self.inner.inputs.imports.get(service).ok_or(Outcome::UnknownService)
    }

    fn route(
        &self,
        service: &ServiceKey,
        import: &Import,
        (port, transport): (Port, Transport),
        endpoint: Option<(&ClusterName, &EndpointName)>,
    ) -> Result<Route, Outcome> {
        if !import.ports.iter().any(|p| p.port == port && p.transport == transport) {
            return Err(Outcome::UnknownPort);
        }
        let meant = |cluster: &ClusterName, source: &ImportSource| match endpoint {
            None => true,
            Some((only, name)) => only == cluster && source.endpoints.contains(name),
        };
        let exposing = || {
            import.sources.iter().filter(|(cluster, source)| {
                source.ports.contains(&(port, transport)) && self.is_reachable(cluster) && meant(cluster, source)
            })
        };
        let mut candidates: Vec<Candidate> =
            exposing().filter(|(_, source)| source.health.ready > 0).map(|found| self.candidate(found)).collect();
        if candidates.is_empty() {
            // Endpoints that are going away still serve while there is nothing else (KEP-1669).
            let serving = |(_, source): &(&ClusterName, &ImportSource)| source.health.terminating > 0;
            candidates = exposing().filter(serving).map(|found| self.candidate(found)).collect();
        }
        if candidates.is_empty() {
            return Err(Outcome::NoHealthyCluster);
        }
        let endpoint = endpoint.map(|(_, name)| name.clone());
        let affinity = import.session_affinity;
        Ok(Route { service: service.clone(), port, transport, endpoint, affinity, candidates })
    }

    fn candidate(&self, (cluster, source): (&ClusterName, &ImportSource)) -> Candidate {
        Candidate {
            cluster: cluster.clone(),
            local: *cluster == self.inner.inputs.cluster,
            priority: source.priority,
            weight: source.weight,
            ready: source.health.ready,
        }
    }

    /// Whether connections can go to `cluster`: it is this one, or has a tunnel.
    #[must_use]
    pub fn is_reachable(&self, cluster: &ClusterName) -> bool {
        *cluster == self.inner.inputs.cluster || self.inner.inputs.reachable.contains(cluster)
    }

    /// The endpoints of this cluster for a connection, and how it is delivered to them: the ready ones, or those that still
    /// serve while they go away when none is ready.
    ///
    /// # Errors
    /// [`Outcome::NotExported`], [`Outcome::UnknownPort`] or [`Outcome::NoEndpoint`].
    pub fn local_endpoints(
        &self,
        service: &ServiceKey,
        port: Port,
        transport: Transport,
        endpoint: Option<&EndpointName>,
    ) -> Result<(Vec<SocketAddr>, Deliver), Outcome> {
        let export = self.inner.inputs.exports.get(service).ok_or(Outcome::NotExported)?;
        if !export.service.ports.iter().any(|p| p.port == port && p.transport == transport) {
            return Err(Outcome::UnknownPort);
        }
        let meant = |candidate: &&Endpoint| endpoint.is_none_or(|name| candidate.name == *name);
        let in_state = |state: EndpointState| -> Vec<SocketAddr> {
            let found = export.endpoints.iter().filter(meant).filter(|candidate| candidate.state == state);
            found.filter_map(|candidate| candidate.target(port, transport)).collect()
        };
        let mut addresses = in_state(EndpointState::Ready);
        if addresses.is_empty() {
            addresses = in_state(EndpointState::Terminating);
        }
        if addresses.is_empty() {
            return Err(Outcome::NoEndpoint);
        }
        Ok((addresses, export.deliver.mode_of(port).clone()))
    }

    /// Whether this cluster exports the port of the service, over TCP or UDP, to `cluster`; to itself whatever it exports.
    #[must_use]
    pub fn exports_to(&self, service: &ServiceKey, port: Port, cluster: &ClusterName) -> bool {
        let export = self.inner.inputs.exports.get(service);
        export.is_some_and(|export| {
            let told = *cluster == self.inner.inputs.cluster || export.audience.includes(cluster);
            told && export.service.ports.iter().any(|p| p.port == port)
        })
    }

    /// The clusters that a service of this cluster is exported to; nothing when it is not exported.
    #[must_use]
    pub fn audience(&self, service: &ServiceKey) -> Option<&Audience> {
        self.inner.inputs.exports.get(service).map(|export| &export.audience)
    }

    /// How a port of an exported service is delivered.
    #[must_use]
    pub fn delivery(&self, service: &ServiceKey, port: Port) -> Option<&Deliver> {
        self.inner.inputs.exports.get(service).map(|export| export.deliver.mode_of(port))
    }

    /// What this cluster exports.
    #[must_use]
    pub fn local_exports(&self) -> &BTreeMap<ServiceKey, LocalExport> {
        &self.inner.inputs.exports
    }

    /// The services this cluster exports.
    pub fn exported_services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.inner.inputs.exports.keys()
    }

    /// The ports of an exported service.
    pub fn exported_ports(&self, service: &ServiceKey) -> impl Iterator<Item = Port> {
        let export = self.inner.inputs.exports.get(service);
        export.into_iter().flat_map(|export| export.service.ports.iter().map(|port| port.port))
    }

    /// The workloads that own addresses of this cluster; one with several addresses comes several times.
    pub fn principals(&self) -> impl Iterator<Item = &SpiffeId> {
        self.inner.inputs.pods.values().map(Arc::as_ref)
    }

    /// How many services this cluster exports.
    #[must_use]
    pub fn exported(&self) -> usize {
        self.inner.inputs.exports.len()
    }

    /// The workload that owns an address of this cluster.
    #[must_use]
    pub fn principal_of(&self, ip: IpAddr) -> Option<&SpiffeId> {
        self.inner.inputs.pods.get(&ip.to_canonical()).map(Arc::as_ref)
    }

    /// Where connections to imports are accepted.
    #[must_use]
    pub fn listeners(&self) -> BTreeSet<(IpAddr, Port, Transport)> {
        self.inner.inputs.places.listeners(&self.inner.inputs.imports)
    }

    /// The names of the cluster set.
    #[must_use]
    pub fn names(&self) -> &NameTable {
        &self.inner.names
    }

    /// The merged exports of all clusters.
    #[must_use]
    pub fn imports(&self) -> &Imports {
        &self.inner.inputs.imports
    }

    /// The other members of the set.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<ClusterName, Member> {
        &self.inner.inputs.members
    }

    /// Whether `cluster` is another member of the set.
    #[must_use]
    pub fn is_member(&self, cluster: &ClusterName) -> bool {
        self.inner.inputs.members.contains_key(cluster)
    }

    /// Why `id` may neither call nor go on, when it was revoked.
    #[must_use]
    pub fn revoked(&self, id: &SpiffeId) -> Option<&Revocation> {
        self.inner.inputs.revocations.of_id(id).map(|revocation| &**revocation)
    }

    /// What is not to be believed any more.
    #[must_use]
    pub fn revocations(&self) -> &Revocations {
        &self.inner.inputs.revocations
    }

    /// The addresses of a service, those of its endpoints when it is headless.
    #[must_use]
    pub fn addresses_of(&self, service: &ServiceKey) -> Vec<IpAddr> {
        let Some(import) = self.inner.inputs.imports.get(service) else {
            return Vec::new();
        };
        let one = Imports::from([(service.clone(), import.clone())]);
        address_keys(&one).iter().flat_map(|key| self.inner.inputs.places.addresses(key)).copied().collect()
    }

    /// Who may reach what this cluster exports.
    #[must_use]
    pub fn policies(&self) -> &PolicyTable {
        &self.inner.inputs.policies
    }

    /// This cluster.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.inner.inputs.cluster
    }

    /// The number of this snapshot.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.inputs.generation
    }
}

#[cfg(test)]
pub(crate) mod tests;
