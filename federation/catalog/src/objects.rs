//! Kubernetes objects as plain values, whether they come from an API server or from a manifest directory.
//!
//! Owns the shape that [`crate::local`] compiles. Never parses YAML or JSON and names no Kubernetes type: that is
//! `federation-kube`, which drops what does not parse and says so.

use std::{collections::BTreeMap, fmt, net::IpAddr, sync::Arc};

use federation_model::{
    addr::{Port, Transport},
    catalog::SessionAffinity,
    names::{EndpointName, Namespace, PortName, ServiceKey, ServiceName},
    policy::{AuthorizationPolicy, PeerAuthentication, Policies},
    time::Timestamp,
};

/// The prefix of the annotations on a ServiceExport that Landbridge reads.
pub const ANNOTATION_PREFIX: &str = "landbridge.dev/";
/// How the destination sees the caller: `passthrough`, `plain`, `proxy-v2`, `http` or `tls`, also port by port.
pub const DELIVER: &str = "landbridge.dev/deliver";
/// The id that an endpoint delivered to over TLS must prove.
pub const TLS_SPIFFE_ID: &str = "landbridge.dev/tls-spiffe-id";
/// The name that an endpoint delivered to over TLS must prove.
pub const TLS_SERVER_NAME: &str = "landbridge.dev/tls-server-name";
/// What the gateway presents to an endpoint it delivers to over TLS: `gateway`, its own SVID.
pub const TLS_CLIENT_IDENTITY: &str = "landbridge.dev/tls-client-identity";
/// Preference among clusters, lower first.
pub const PRIORITY: &str = "landbridge.dev/priority";
/// Share among the clusters of one priority, 1 to 1000.
pub const WEIGHT: &str = "landbridge.dev/weight";

/// The clusters an export is for, separated by commas; without it every cluster, empty for none.
pub const EXPORT_TO: &str = "landbridge.dev/export-to";

/// The objects of one kind. What two versions have in common they share, so that a change among 50,000 pods costs a map of
/// pointers, and that nothing changed is seen without looking at any of them.
pub type Shared<K, V> = Arc<BTreeMap<K, Arc<V>>>;

/// Every object that decides what a cluster exports, whose pods call, and who may be called by whom. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Objects {
    /// `v1` Services.
    pub services: Shared<ServiceKey, ServiceObject>,
    /// `discovery.k8s.io/v1` EndpointSlices.
    pub endpoint_slices: Shared<ObjectKey, EndpointSliceObject>,
    /// `v1` Pods.
    pub pods: Shared<ObjectKey, PodObject>,
    /// `multicluster.x-k8s.io` ServiceExports.
    pub service_exports: Shared<ServiceKey, ServiceExportObject>,
    /// `policy.landbridge.dev` policies, and those of which no version could be read.
    pub policies: Arc<Policies>,
}

impl Objects {
    /// Adds or replaces a Service; whether that changed anything.
    pub fn insert_service(&mut self, service: ServiceObject) -> bool {
        put(&mut self.services, service.key.clone(), service)
    }

    /// Adds or replaces an EndpointSlice; whether that changed anything.
    pub fn insert_endpoint_slice(&mut self, slice: EndpointSliceObject) -> bool {
        put(&mut self.endpoint_slices, slice.key.clone(), slice)
    }

    /// Adds or replaces a Pod; whether that changed anything.
    pub fn insert_pod(&mut self, pod: PodObject) -> bool {
        put(&mut self.pods, pod.key.clone(), pod)
    }

    /// Adds or replaces a ServiceExport; whether that changed anything.
    pub fn insert_service_export(&mut self, export: ServiceExportObject) -> bool {
        put(&mut self.service_exports, export.key.clone(), export)
    }

    /// Adds or replaces an AuthorizationPolicy; whether that changed anything.
    pub fn insert_authorization_policy(&mut self, policy: AuthorizationPolicy) -> bool {
        if self.policies.authorization.get(&policy.key) == Some(&policy) {
            return false;
        }
        Arc::make_mut(&mut self.policies).authorization.insert(policy.key.clone(), policy);
        true
    }

    /// Adds or replaces a PeerAuthentication; whether that changed anything.
    pub fn insert_peer_authentication(&mut self, policy: PeerAuthentication) -> bool {
        if self.policies.authentication.get(&policy.key) == Some(&policy) {
            return false;
        }
        Arc::make_mut(&mut self.policies).authentication.insert(policy.key.clone(), policy);
        true
    }
}

/// What is replaced by its like stays what it is.
fn put<K: Ord + Clone, V: PartialEq>(objects: &mut Shared<K, V>, key: K, object: V) -> bool {
    if objects.get(&key).is_some_and(|known| **known == object) {
        return false;
    }
    Arc::make_mut(objects).insert(key, Arc::new(object));
    true
}

/// An object by namespace and name, where the name may be any Kubernetes name (RFC 1123 subdomain).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// `metadata.namespace`.
    pub namespace: Namespace,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceObject {
    /// `metadata.namespace` and `metadata.name`.
    pub key: ServiceKey,
    /// `spec.type`, and whether `spec.clusterIP` is `None`.
    pub service_type: ServiceType,
    /// `spec.ports`.
    pub ports: Vec<ServicePortObject>,
    /// `spec.sessionAffinity` and its configuration.
    pub session_affinity: SessionAffinity,
    /// `spec.internalTrafficPolicy`, when set.
    pub internal_traffic_policy: Option<String>,
    /// `spec.trafficDistribution`, when set.
    pub traffic_distribution: Option<String>,
}

/// The type of a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceType {
    /// `ClusterIP` with an address; the default.
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
    /// `ClusterIP` with `clusterIP: None`.
    Headless,
    /// `ExternalName`: cannot be exported.
    ExternalName,
}

/// One entry of `spec.ports` of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePortObject {
    /// `name`; empty in the object is `None` here.
    pub name: Option<PortName>,
    /// `protocol`, `TCP` unless set.
    pub protocol: Protocol,
    /// `port`.
    pub port: Port,
    /// `appProtocol`, when set.
    pub app_protocol: Option<String>,
    /// `targetPort`, when set; the same as `port` otherwise.
    pub target_port: Option<TargetPort>,
}

/// The protocol of a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP or UDP.
    Carried(Transport),
    /// A protocol that is not carried between clusters, such as `SCTP`.
    Other(String),
}

/// `targetPort` of a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetPort {
    /// A port number.
    Number(Port),
    /// The name of a container port, which may differ from pod to pod.
    Name(String),
}

/// An EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSliceObject {
    /// `metadata.namespace` and `metadata.name`.
    pub key: ObjectKey,
    /// The label `kubernetes.io/service-name`; a slice without it belongs to no service.
    pub service: Option<ServiceName>,
    /// Whether it is an import, which is never exported again: one with the label `multicluster.kubernetes.io/source-cluster`, or
    /// one that a gateway made.
    pub imported: bool,
    /// `addressType`.
    pub address_type: AddressType,
    /// `ports`; empty means that no port is known.
    pub ports: Vec<SlicePort>,
    /// `endpoints`; none of an import, nor of a slice that belongs to no service.
    pub endpoints: Vec<SliceEndpoint>,
}

/// The kind of addresses in an EndpointSlice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressType {
    /// IPv4 addresses.
    Ipv4,
    /// IPv6 addresses.
    Ipv6,
    /// Names: not delivered to.
    Fqdn,
}

/// One entry of `ports` of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// `name`: that of the service port, empty in the object is `None` here.
    pub name: Option<PortName>,
    /// `protocol`, `TCP` unless set.
    pub protocol: Protocol,
    /// `port`: the number the endpoints listen on; `None` means every port.
    pub port: Option<Port>,
}

/// One entry of `endpoints` of an EndpointSlice. Absent conditions have the meaning Kubernetes gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// `addresses`, those that are IP addresses.
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`; absent is read as true.
    pub ready: bool,
    /// `conditions.serving`; absent is read as `ready`.
    pub serving: bool,
    /// `conditions.terminating`; absent is read as false.
    pub terminating: bool,
    /// `hostname`, when set.
    pub hostname: Option<EndpointName>,
    /// `targetRef`, when it is a Pod.
    pub pod: Option<ObjectKey>,
}

/// A Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodObject {
    /// `metadata.namespace` and `metadata.name`.
    pub key: ObjectKey,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// `spec.serviceAccountName`; `default` when not set.
    pub service_account: Arc<str>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// `spec.hostNetwork`: its address is that of its node, so it says nothing of the caller.
    pub host_network: bool,
    /// Whether `metadata.deletionTimestamp` is set. Such a pod still owns its address until it is gone.
    pub deleted: bool,
}

/// How far the life of a pod is, as far as its address is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// `Pending`, `Unknown` or a word that is not known: it may have an address and use it, for its init containers run already.
    Unsettled,
    /// `Running`.
    Running,
    /// `Succeeded` or `Failed`: its address may be another pod's by now, whatever its status still says.
    Ended,
}

/// A ServiceExport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceExportObject {
    /// `metadata.namespace` and `metadata.name`: those of the Service it exports.
    pub key: ServiceKey,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `spec.exportedLabels`.
    pub exported_labels: BTreeMap<String, String>,
    /// `spec.exportedAnnotations`.
    pub exported_annotations: BTreeMap<String, String>,
    /// `metadata.annotations` that start with [`ANNOTATION_PREFIX`], under their full names.
    pub annotations: BTreeMap<String, String>,
}
