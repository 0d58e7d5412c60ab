//! What one cluster exports, as values.
//!
//! Owns the shape of a catalog, its limits and its digest. Never knows where services come from nor how catalogs travel.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::{
    addr::{Port, Transport},
    names::{ClusterName, EndpointName, PortName, ServiceKey},
    time::Timestamp,
};

/// The most services one cluster may export.
pub const MAX_SERVICES: usize = 10_000;
/// The most ports of one exported service.
pub const MAX_PORTS: usize = 64;
/// The most ready endpoints of a headless service that are told to other clusters.
pub const MAX_HEADLESS_ENDPOINTS: usize = 256;
/// The most labels or annotations exported with one service, and the most bytes of one of their values.
pub const MAX_METADATA: usize = 32;
/// The most bytes of one exported label or annotation, of one `appProtocol` and of one traffic policy.
pub const MAX_METADATA_BYTES: usize = 512;
/// The greatest share of one cluster ([`ExportedService::weight`]); the least is 1.
pub const MAX_WEIGHT: u32 = 1000;
/// The longest client affinity, in seconds (that of Kubernetes).
pub const MAX_AFFINITY_SECONDS: u32 = 86_400;

/// The number of a catalog state within one run of a gateway; grows with every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// SHA-256 over the services of a catalog, the same for equal services in any run of any gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogDigest(pub [u8; 32]);

impl std::fmt::Debug for CatalogDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0[..8].iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Everything one cluster exports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The exporting cluster.
    pub cluster: ClusterName,
    /// The exported services.
    pub services: BTreeMap<ServiceKey, ExportedService>,
}

/// One exported service as other clusters see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedService {
    /// `metadata.creationTimestamp` of the ServiceExport: the oldest one wins conflicts (KEP-1645).
    pub exported_at: Timestamp,
    /// ClusterSetIP or Headless.
    pub kind: ServiceKind,
    /// The exported ports, at most [`MAX_PORTS`].
    pub ports: Vec<ServicePort>,
    /// Endpoints by state.
    pub health: EndpointCounts,
    /// Client affinity.
    pub session_affinity: SessionAffinity,
    /// Preference among clusters: lower first (`landbridge.dev/priority`).
    pub priority: u32,
    /// Share among clusters of one priority (`landbridge.dev/weight`), 1 to [`MAX_WEIGHT`].
    pub weight: u32,
    /// `spec.internalTrafficPolicy`, when set.
    pub internal_traffic_policy: Option<String>,
    /// `spec.trafficDistribution`, when set.
    pub traffic_distribution: Option<String>,
    /// `spec.exportedLabels` of the ServiceExport.
    pub labels: BTreeMap<String, String>,
    /// `spec.exportedAnnotations` of the ServiceExport.
    pub annotations: BTreeMap<String, String>,
}

/// Whether a service has one address or one for each endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceKind {
    /// One address for the whole service.
    ClusterSetIp,
    /// An address for every ready endpoint; these are the endpoints of this cluster, sorted, without duplicates.
    Headless(Vec<EndpointName>),
}

impl ServiceKind {
    /// Whether both are headless or both are not.
    #[must_use]
    pub fn same_type(&self, other: &Self) -> bool {
        matches!(self, Self::Headless(_)) == matches!(other, Self::Headless(_))
    }
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServicePort {
    /// The name; a service with one port may leave it out.
    pub name: Option<PortName>,
    /// TCP or UDP.
    pub transport: Transport,
    /// The number clients use.
    pub port: Port,
    /// `appProtocol`, when set.
    pub app_protocol: Option<String>,
}

/// How many endpoints a cluster has for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EndpointCounts {
    /// Ready for new connections.
    pub ready: u32,
    /// Still serving, but going away.
    pub terminating: u32,
}

/// Client affinity of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum SessionAffinity {
    /// Every connection is placed anew.
    #[default]
    None,
    /// Connections of one client address stay together for this many seconds.
    ClientIp {
        /// `sessionAffinityConfig.clientIP.timeoutSeconds`, 1 to [`MAX_AFFINITY_SECONDS`].
        timeout_seconds: u32,
    },
}

/// Why a catalog is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The catalog says it is of another cluster than the one whose tunnel carries it.
    #[error("the catalog claims to be of cluster {claimed}, but came over the tunnel of {tunnel}")]
    WrongCluster {
        /// The name in the catalog.
        claimed: ClusterName,
        /// The name of the authenticated peer.
        tunnel: ClusterName,
    },
    /// Too many services.
    #[error("{0} services are claimed, {MAX_SERVICES} are accepted")]
    TooManyServices(usize),
    /// A part of one service is over its limit.
    #[error("service {service} claims {count} {what}, {limit} are accepted")]
    TooMany {
        /// The service.
        service: ServiceKey,
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many are accepted.
        limit: usize,
    },
}

impl Catalog {
    /// A catalog without services.
    #[must_use]
    pub fn empty(cluster: ClusterName) -> Self {
        Self { cluster, services: BTreeMap::new() }
    }

    /// Accepts a catalog received over the tunnel of `peer`.
    ///
    /// # Errors
    /// When it names another cluster or is over a limit.
    pub fn accepted_from(self, peer: &ClusterName) -> Result<Self, CatalogError> {
        if self.cluster != *peer {
            return Err(CatalogError::WrongCluster { claimed: self.cluster, tunnel: peer.clone() });
        }
        if self.services.len() > MAX_SERVICES {
            return Err(CatalogError::TooManyServices(self.services.len()));
        }
        self.services.iter().try_for_each(|(key, service)| service.check(key))?;
        Ok(self)
    }

    /// The digest of the services.
    #[must_use]
    pub fn digest(&self) -> CatalogDigest {
        let bytes = serde_json::to_vec(&self.services)
            .expect("a map with string keys and values without floats or foreign types always serializes");
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        CatalogDigest(out)
    }
}

impl ExportedService {
    /// Checks the limits of one service.
    ///
    /// # Errors
    /// When a list or a number is over its limit.
    pub fn check(&self, key: &ServiceKey) -> Result<(), CatalogError> {
        let longest = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| k.len() + v.len()).max().unwrap_or(0);
        let headless = match &self.kind {
            ServiceKind::ClusterSetIp => 0,
            ServiceKind::Headless(endpoints) => endpoints.len(),
        };
        let words = [&self.internal_traffic_policy, &self.traffic_distribution];
        let words = words.into_iter().chain(self.ports.iter().map(|port| &port.app_protocol));
        let longest_word = words.flatten().map(String::len).max().unwrap_or(0);
        let affinity = match self.session_affinity {
            SessionAffinity::None => 0,
            SessionAffinity::ClientIp { timeout_seconds } => timeout_seconds,
        };
        for (what, count, limit) in [
            ("ports", self.ports.len(), MAX_PORTS),
            ("headless endpoints", headless, MAX_HEADLESS_ENDPOINTS),
            ("labels", self.labels.len(), MAX_METADATA),
            ("annotations", self.annotations.len(), MAX_METADATA),
            ("bytes in one label", longest(&self.labels), MAX_METADATA_BYTES),
            ("bytes in one annotation", longest(&self.annotations), MAX_METADATA_BYTES),
            ("bytes in one traffic policy or appProtocol", longest_word, MAX_METADATA_BYTES),
            ("seconds of client affinity", affinity as usize, MAX_AFFINITY_SECONDS as usize),
            ("shares (landbridge.dev/weight)", self.weight as usize, MAX_WEIGHT as usize),
        ] {
            if count > limit {
                return Err(CatalogError::TooMany { service: key.clone(), what, count, limit });
            }
        }
        Ok(())
    }
}
