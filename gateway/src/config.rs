//! The settings of a gateway: one struct for each component, each passed to its component alone.
//!
//! Owns the names of the configuration contract and their defaults. Never loads a file: `federation-runtime` does.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use federation_client::workload::AgentSocket;
use federation_model::{
    addr::GatewayAddr,
    member::MAX_ADVERTISED,
    names::{ClusterName, Namespace},
    policy::ROOT_NAMESPACE,
    sni::Zone,
    spiffe::{SpiffeId, TrustDomain, as_text},
};
use federation_runtime::telemetry::LogConfig;
use gateway_core::policy::TrustDomainAliases;
use ipnet::IpNet;
use serde::Deserialize;

mod conflict;
mod kubernetes;

pub use conflict::ConfigConflict;
use kubernetes::MAX_NAMESPACES;
pub use kubernetes::{KubernetesConfig, OwnNamespaceError};

/// `gateway.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this cluster is.
    pub cluster: ClusterConfig,
    /// Tunnels to other gateways.
    #[serde(default)]
    pub tunnel: TunnelConfig,
    /// Where applications connect to.
    #[serde(default)]
    pub outbound: OutboundConfig,
    /// The DNS server.
    #[serde(default)]
    pub dns: DnsConfig,
    /// The read-only HTTP listener.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Where exports come from.
    #[serde(default)]
    pub catalog: CatalogConfig,
    /// The API server that objects are read from.
    #[serde(default)]
    pub kubernetes: KubernetesConfig,
    /// How endpoints of this cluster are reached.
    #[serde(default)]
    pub delivery: DeliveryConfig,
    /// Where the cluster's certificate authority comes from.
    #[serde(default)]
    pub identity: IdentityConfig,
    /// How the federation service is reached.
    #[serde(default)]
    pub federation: FederationConfig,
    /// How policies are read.
    #[serde(default)]
    pub policy: PolicyConfig,
    /// What survives a restart.
    #[serde(default)]
    pub state: StateConfig,
    /// Logging.
    #[serde(default)]
    pub log: LogConfig,
    /// Limits and time-outs.
    #[serde(default)]
    pub limits: Limits,
}

/// `[cluster]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The cluster's name in its set.
    pub name: ClusterName,
    /// The cluster's SPIFFE trust domain, its own alone.
    #[serde(with = "as_text")]
    pub trust_domain: TrustDomain,
    /// Region, shown to people and used for preference.
    #[serde(default)]
    pub region: String,
    /// Zone within the region.
    #[serde(default)]
    pub zone: String,
}

impl ClusterConfig {
    /// The id this cluster's gateways present on tunnels.
    ///
    /// # Panics
    /// Never: the path is constant and valid.
    #[must_use]
    pub fn gateway_id(&self) -> SpiffeId {
        SpiffeId::from_segments(self.trust_domain.clone(), &["landbridge", "gateway"])
            .expect("a valid trust domain and two constant segments make a valid id")
    }
}

/// `[tunnel]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelConfig {
    /// The UDP address of the tunnel endpoint.
    pub listen: SocketAddr,
    /// Where other clusters reach it; empty when this cluster only dials out.
    pub advertise: Vec<GatewayAddr>,
    /// A tunnel that hears nothing for this long is gone.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How often an idle tunnel is kept alive.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Duration,
    /// A peer that says nothing on its control stream for this long is not sent new connections.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How long the services of a lost peer stay in the tables.
    #[serde(with = "humantime_serde")]
    pub hold_down: Duration,
    /// Congestion control: `cubic`, or `bbr` towards lossy paths.
    pub congestion: Congestion,
}

/// Congestion control of the tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// RFC 9438.
    Cubic,
    /// BBR version 1: keeps its rate on lossy paths.
    Bbr,
}

impl Default for TunnelConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 15443).into(),
            advertise: Vec::new(),
            idle_timeout: Duration::from_secs(5),
            keep_alive: Duration::from_secs(1),
            lease: Duration::from_secs(2),
            hold_down: Duration::ZERO,
            congestion: Congestion::Cubic,
        }
    }
}

/// `[outbound]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundConfig {
    /// The range import addresses are taken from.
    pub vip_cidr: IpNet,
    /// The shared listener that routes by TLS server name alone; off when empty.
    pub sni_listen: Option<SocketAddr>,
    /// The listener that ends the TLS of clients and has them prove who they are; off when empty.
    pub mtls_listen: Option<SocketAddr>,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            vip_cidr: IpNet::new_assert(Ipv4Addr::new(127, 80, 0, 0).into(), 16),
            sni_listen: Some((Ipv4Addr::LOCALHOST, 15080).into()),
            mtls_listen: None,
        }
    }
}

/// `[dns]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// The address, UDP and TCP.
    pub listen: SocketAddr,
    /// The zone of the cluster set.
    #[serde(with = "as_text")]
    pub zone: Zone,
    /// Time to live of answers.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 15053).into(), zone: Zone::default(), ttl: Duration::from_secs(5) }
    }
}

/// `[admin]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// The HTTP address.
    pub listen: SocketAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 15000).into() }
    }
}

/// `[catalog]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogConfig {
    /// Where objects are read from.
    pub source: CatalogSource,
    /// The directory of manifests.
    pub dir: PathBuf,
}

/// Where objects are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatalogSource {
    /// A directory of YAML files, followed live.
    Manifests,
    /// The API server of a cluster, watched.
    Kubernetes,
}

impl CatalogSource {
    /// The word in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Manifests => "manifests",
            Self::Kubernetes => "kubernetes",
        }
    }
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self { source: CatalogSource::Manifests, dir: "./manifests".into() }
    }
}

/// `[delivery]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryConfig {
    /// A PEM file with the roots that endpoints reached over TLS are believed by about their names; without it, those of the
    /// system.
    pub tls_roots: Option<PathBuf>,
}

/// `[identity]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Where the cluster's certificate authority comes from.
    pub source: IdentitySource,
    /// The directory of the source `files`.
    pub dir: Option<PathBuf>,
    /// The agent's socket of the source `spire`; without it, that of the specification's variable.
    #[serde(deserialize_with = "optional_socket")]
    pub socket: Option<AgentSocket>,
    /// Lifetime of the gateway's certificate, where the gateway issues it.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
}

/// Where the cluster's certificate authority comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentitySource {
    /// Made at the first start and kept in the state directory.
    SelfSigned,
    /// Read from a directory in the layout of a Kubernetes TLS Secret, and followed.
    Files,
    /// Issued by the SPIFFE agent of this node, over the Workload API.
    Spire,
}

fn optional_socket<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<AgentSocket>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

impl IdentitySource {
    /// The word in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::SelfSigned => "self-signed",
            Self::Files => "files",
            Self::Spire => "spire",
        }
    }
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self { source: IdentitySource::SelfSigned, dir: None, socket: None, ttl: Duration::from_secs(24 * 3600) }
    }
}

/// `[federation]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FederationConfig {
    /// Addresses to use rather than those of the join.
    pub addresses: Vec<GatewayAddr>,
}

/// `[policy]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// The namespace whose policies hold for the services of all namespaces.
    pub root_namespace: Namespace,
    /// What trust domains in policies stand for beside themselves, such as the `cluster.local` of a mesh.
    #[serde(deserialize_with = "aliases")]
    pub trust_domain_aliases: TrustDomainAliases,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        let root = ROOT_NAMESPACE.parse().expect("a constant that is a DNS label is a namespace");
        Self { root_namespace: root, trust_domain_aliases: TrustDomainAliases::default() }
    }
}

fn aliases<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<TrustDomainAliases, D::Error> {
    let domain = |text: &String| {
        TrustDomain::new(text)
            .map_err(|error| serde::de::Error::custom(format!("{text:?} is not a trust domain: {error}")))
    };
    let written = BTreeMap::<String, Vec<String>>::deserialize(deserializer)?;
    let mut aliases = BTreeMap::new();
    for (alias, domains) in &written {
        aliases.insert(domain(alias)?, domains.iter().map(domain).collect::<Result<_, _>>()?);
    }
    Ok(TrustDomainAliases(aliases))
}

/// `[state]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// The directory, mode 0700, of one gateway alone.
    pub dir: PathBuf,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self { dir: "/var/lib/landbridge".into() }
    }
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Application connections at a time, both directions together.
    pub connections: usize,
    /// Streams a peer may have open at a time.
    pub streams_per_peer: u32,
    /// A connection without a byte for this long is ended.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long a client may take for its ClientHello.
    #[serde(with = "humantime_serde")]
    pub hello_timeout: Duration,
    /// How long an endpoint may take to accept.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long connections may go on after SIGTERM.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            streams_per_peer: 4096,
            idle_timeout: Duration::from_secs(3600),
            hello_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// The longest of all times: a hundred years, so that no sum of them overflows.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// The most of `limits.connections`: each needs two file descriptors, and Linux has no process with more than these.
const MAX_CONNECTIONS: usize = 1 << 20;
/// The most of `limits.streams_per_peer`: every tunnel keeps an entry for each, used or not.
const MAX_STREAMS_PER_PEER: usize = 1 << 16;

/// The shortest life of a certificate: seconds are counted whole, and a renewal that fails is tried again within one.
const SHORTEST_TTL: Duration = Duration::from_secs(10);

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first conflict found.
    pub fn checked(self) -> Result<Self, ConfigConflict> {
        self.check_limits()?;
        let TunnelConfig { keep_alive, idle_timeout, ref advertise, .. } = self.tunnel;
        if keep_alive * 3 > idle_timeout {
            return Err(ConfigConflict::KeepAlive { keep_alive, idle_timeout });
        }
        if advertise.len() > MAX_ADVERTISED {
            return Err(ConfigConflict::Advertise(advertise.len()));
        }
        if self.identity.ttl < SHORTEST_TTL {
            return Err(ConfigConflict::Ttl(self.identity.ttl));
        }
        if self.identity.source == IdentitySource::Files && self.identity.dir.is_none() {
            return Err(ConfigConflict::IdentityDir);
        }
        let KubernetesConfig { kubeconfig, context, namespaces, .. } = &self.kubernetes;
        if context.is_some() && kubeconfig.is_none() {
            return Err(ConfigConflict::Context);
        }
        if namespaces.len() > MAX_NAMESPACES {
            return Err(ConfigConflict::Namespaces(namespaces.len()));
        }
        Ok(self)
    }

    fn check_limits(&self) -> Result<(), ConfigConflict> {
        let (tunnel, limits, none) = (&self.tunnel, &self.limits, Duration::ZERO);
        let (tick, short) = (Duration::from_millis(1), Duration::from_millis(100));
        for (key, value, least) in [
            ("tunnel.idle_timeout", tunnel.idle_timeout, short),
            ("tunnel.keep_alive", tunnel.keep_alive, tick),
            ("tunnel.lease", tunnel.lease, short),
            ("tunnel.hold_down", tunnel.hold_down, none),
            ("dns.ttl", self.dns.ttl, none),
            ("identity.ttl", self.identity.ttl, none),
            ("limits.idle_timeout", limits.idle_timeout, tick),
            ("limits.hello_timeout", limits.hello_timeout, tick),
            ("limits.connect_timeout", limits.connect_timeout, tick),
            ("limits.drain_timeout", limits.drain_timeout, none),
        ] {
            if value < least || value > LONGEST {
                return Err(ConfigConflict::Time { key, value, least });
            }
        }
        let streams = usize::try_from(limits.streams_per_peer).unwrap_or(usize::MAX);
        for (key, value, most) in [
            ("limits.connections", limits.connections, MAX_CONNECTIONS),
            ("limits.streams_per_peer", streams, MAX_STREAMS_PER_PEER),
        ] {
            if value == 0 || value > most {
                return Err(ConfigConflict::Count { key, value, most });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
