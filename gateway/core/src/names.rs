//! The zone of the cluster set: which names exist and what they hold (multi-cluster DNS, KEP-1645, schema 1.0.0).
//!
//! Owns the names. Never speaks DNS: `gateway-dns` does. Nothing is precomputed: a name is looked up in the imports, so a
//! table of thousands of services costs nothing to make.
//!
//! ```text
//! <zone>                                        SOA NS
//! dns-version.<zone>                            TXT
//! ns.dns.<zone>                                 A AAAA        the nameserver
//! svc.<zone>                                    (nothing)
//! <ns>.svc.<zone>                               (nothing)
//! <svc>.<ns>.svc.<zone>                         A AAAA SRV    the service, or every ready endpoint of a headless one
//! _<port>._<proto>.<svc>.<ns>.svc.<zone>        SRV
//! <cluster>.<svc>.<ns>.svc.<zone>               (nothing)     reserved by the specification
//! <host>.<cluster>.<svc>.<ns>.svc.<zone>        A AAAA        one ready endpoint of a headless service
//! ```

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use federation_model::{
    addr::{Port, Transport},
    import::{Import, ImportKind, Imports, address::AddressKey},
    names::{ClusterName, EndpointName, Namespace, ServiceKey},
    sni::Zone,
};

use crate::places::Places;

/// The version of the multi-cluster DNS schema.
pub const DNS_VERSION: &str = "1.0.0";
/// The TTL of the `dns-version` record, given by the specification.
pub const DNS_VERSION_TTL: u32 = 28_800;
/// The most records of one answer; the specification allows a subset of a headless service's endpoints.
pub const MAX_ANSWERS: usize = 512;
/// The longest DNS name in its text form, without the trailing dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// The type of record that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Service location.
    Srv,
    /// Text.
    Txt,
    /// Start of authority.
    Soa,
    /// Name server.
    Ns,
    /// Any other type: this zone holds none.
    Other,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameAnswer {
    /// The name holds records of the type.
    Records {
        /// Those records, never empty.
        answers: Vec<Record>,
        /// Addresses of the names they point to.
        additional: Vec<Record>,
    },
    /// The name exists, perhaps only as the parent of others, and holds no record of the type.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// The name is outside the zone.
    Refused,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name that holds it: lowercase, without a trailing dot.
    pub name: String,
    /// Seconds to keep it, where the specification names them; otherwise as configured.
    pub ttl: Option<u32>,
    /// What it says.
    pub data: RecordData,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordData {
    /// A or AAAA, by the family of the address.
    Address(IpAddr),
    /// SRV.
    Srv {
        /// Lower is tried first.
        priority: u16,
        /// Share within one priority.
        weight: u16,
        /// The port.
        port: Port,
        /// The name that holds the address.
        target: String,
    },
    /// TXT.
    Txt(String),
    /// NS.
    Ns(String),
    /// SOA; the times follow from the configured TTL.
    Soa {
        /// The name of the nameserver.
        nameserver: String,
        /// The mailbox of who is responsible, as a name.
        mailbox: String,
        /// Grows with every change.
        serial: u32,
    },
}

/// The names of the cluster set at one moment.
#[derive(Debug, Clone)]
pub struct NameTable {
    zone: Zone,
    imports: Arc<Imports>,
    places: Places,
    nameservers: Arc<[IpAddr]>,
    serial: u32,
}

/// A ready endpoint of a headless service that has an address.
#[derive(Debug, Clone, Copy)]
struct Headless<'a> {
    cluster: &'a ClusterName,
    name: &'a EndpointName,
    /// Never empty.
    addresses: &'a [IpAddr],
}

impl NameTable {
    /// The names of `imports`.
    #[must_use]
    pub fn new(zone: Zone, imports: Arc<Imports>, places: Places, nameservers: Arc<[IpAddr]>, serial: u32) -> Self {
        // A server that listens on every address is reached at none of that name.
        let nameservers = nameservers.iter().filter(|ip| !ip.is_unspecified()).copied().collect();
        Self { zone, imports, places, nameservers, serial }
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The SOA record of the zone, for negative answers.
    #[must_use]
    pub fn soa(&self) -> Record {
        let data = RecordData::Soa {
            nameserver: self.nameserver(),
            mailbox: format!("hostmaster.{}", self.zone),
            serial: self.serial,
        };
        Record { name: self.zone.to_string(), ttl: None, data }
    }

    /// Looks up `name`, whose labels are given left to right, in any case and without the empty root label.
    #[must_use]
    pub fn lookup(&self, name: &[&str], kind: RecordType) -> NameAnswer {
        let labels: Vec<String> = name.iter().map(|label| label.to_ascii_lowercase()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let zone: Vec<&str> = self.zone.as_str().split('.').collect();
        let Some(below) = labels.strip_suffix(zone.as_slice()) else {
            return NameAnswer::Refused;
        };
        match below {
            [] => self.apex(kind),
            ["dns-version"] => self.version(kind),
            ["dns"] | ["svc"] => NameAnswer::NoData,
            ["ns", "dns"] => self.addresses_of(&self.nameserver(), self.nameservers.iter().copied(), kind),
            [namespace, "svc"] => self.namespace(namespace),
            [rest @ .., service, namespace, "svc"] => self.service(rest, service, namespace, kind),
            _ => NameAnswer::NxDomain,
        }
    }

    fn nameserver(&self) -> String {
        format!("ns.dns.{}", self.zone)
    }

    fn apex(&self, kind: RecordType) -> NameAnswer {
        let name = self.zone.to_string();
        match kind {
            RecordType::Soa => records(vec![self.soa()]),
            RecordType::Ns => NameAnswer::Records {
                answers: vec![Record { name, ttl: None, data: RecordData::Ns(self.nameserver()) }],
                additional: self.nameservers.iter().map(|ip| address_record(&self.nameserver(), *ip)).collect(),
            },
            RecordType::A | RecordType::Aaaa | RecordType::Srv | RecordType::Txt | RecordType::Other => {
                NameAnswer::NoData
            }
        }
    }

    fn version(&self, kind: RecordType) -> NameAnswer {
        if kind != RecordType::Txt {
            return NameAnswer::NoData;
        }
        records(vec![Record {
            name: format!("dns-version.{}", self.zone),
            ttl: Some(DNS_VERSION_TTL),
            data: RecordData::Txt(DNS_VERSION.to_owned()),
        }])
    }

    /// A namespace exists as the parent of its services.
    fn namespace(&self, namespace: &str) -> NameAnswer {
        let Ok(namespace) = namespace.parse::<Namespace>() else {
            return NameAnswer::NxDomain;
        };
        // No name sorts before "0", so the range starts at the first service the namespace can have.
        let first = "0".parse().expect("a single digit is a valid service name");
        let exists = self
            .imports
            .range(ServiceKey::new(namespace.clone(), first)..)
            .take_while(|(key, _)| key.namespace == namespace)
            .any(|(key, import)| self.exists(key, import));
        if exists { NameAnswer::NoData } else { NameAnswer::NxDomain }
    }

    /// A headless service without a ready endpoint has no name at all.
    fn exists(&self, key: &ServiceKey, import: &Import) -> bool {
        match import.kind {
            ImportKind::ClusterSetIp => true,
            ImportKind::Headless => self.headless(key, import).next().is_some(),
        }
    }

    fn service(&self, rest: &[&str], service: &str, namespace: &str, kind: RecordType) -> NameAnswer {
        let (Ok(namespace), Ok(service)) = (namespace.parse(), service.parse()) else {
            return NameAnswer::NxDomain;
        };
        let key = ServiceKey::new(namespace, service);
        let Some(import) = self.imports.get(&key).filter(|import| self.exists(&key, import)) else {
            return NameAnswer::NxDomain;
        };
        match rest {
            [] => self.bare(&key, import, kind),
            [proto] if proto.starts_with('_') => match transport(proto) {
                Some(transport) if self.has_srv(&key, import, transport) => NameAnswer::NoData,
                Some(_) | None => NameAnswer::NxDomain,
            },
            [port, proto] if proto.starts_with('_') => match (port.strip_prefix('_'), transport(proto)) {
                (Some(port), Some(transport)) => self.named_port(&key, import, (port, transport), kind),
                (Some(_) | None, Some(_) | None) => NameAnswer::NxDomain,
            },
            [cluster] => match self.headless(&key, import).any(|e| e.cluster.as_str() == *cluster) {
                true => NameAnswer::NoData,
                false => NameAnswer::NxDomain,
            },
            [host, cluster] => self.endpoint(&key, import, (host, cluster), kind),
            _ => NameAnswer::NxDomain,
        }
    }

    fn bare(&self, key: &ServiceKey, import: &Import, kind: RecordType) -> NameAnswer {
        let name = self.zone.host_of(key);
        match kind {
            RecordType::Srv => {
                // Ports that share a number, as 53/TCP and 53/UDP do, give one record here.
                let mut seen = BTreeSet::new();
                let found = import.ports.iter().filter(|port| port.name.is_some());
                let targets = found.flat_map(|port| self.targets(key, import, (port.port, port.transport)));
                self.srv(&name, targets.filter(|target| seen.insert((target.0.clone(), target.1))).collect())
            }
            RecordType::A | RecordType::Aaaa => match import.kind {
                ImportKind::ClusterSetIp => {
                    let addresses = self.places.addresses(&AddressKey::Service(key.clone()));
                    self.addresses_of(&name, addresses.iter().copied(), kind)
                }
                ImportKind::Headless => {
                    self.addresses_of(&name, self.headless(key, import).flat_map(|e| e.addresses).copied(), kind)
                }
            },
            RecordType::Txt | RecordType::Soa | RecordType::Ns | RecordType::Other => NameAnswer::NoData,
        }
    }

    fn named_port(
        &self,
        key: &ServiceKey,
        import: &Import,
        (port, transport): (&str, Transport),
        kind: RecordType,
    ) -> NameAnswer {
        let named = |p: &&federation_model::catalog::ServicePort| {
            p.transport == transport && p.name.as_ref().is_some_and(|name| name.as_str() == port)
        };
        let Some(found) = import.ports.iter().find(named) else {
            return NameAnswer::NxDomain;
        };
        let targets: Vec<_> = self.targets(key, import, (found.port, transport)).collect();
        if targets.is_empty() {
            return NameAnswer::NxDomain;
        }
        match kind {
            RecordType::Srv => self.srv(&format!("_{port}._{}.{}", transport.label(), self.zone.host_of(key)), targets),
            RecordType::A
            | RecordType::Aaaa
            | RecordType::Txt
            | RecordType::Soa
            | RecordType::Ns
            | RecordType::Other => NameAnswer::NoData,
        }
    }

    fn has_srv(&self, key: &ServiceKey, import: &Import, transport: Transport) -> bool {
        import
            .ports
            .iter()
            .filter(|port| port.name.is_some() && port.transport == transport)
            .any(|port| self.targets(key, import, (port.port, transport)).next().is_some())
    }

    fn endpoint(
        &self,
        key: &ServiceKey,
        import: &Import,
        (host, cluster): (&str, &str),
        kind: RecordType,
    ) -> NameAnswer {
        let found = |e: &Headless<'_>| e.cluster.as_str() == cluster && e.name.as_str() == host;
        match self.headless(key, import).find(found) {
            Some(endpoint) => {
                self.addresses_of(&self.endpoint_name(key, endpoint), endpoint.addresses.iter().copied(), kind)
            }
            None => NameAnswer::NxDomain,
        }
    }

    /// What a port leads to: the name for the SRV record, the port, and the address of that name.
    fn targets<'a>(
        &'a self,
        key: &'a ServiceKey,
        import: &'a Import,
        (port, transport): (Port, Transport),
    ) -> impl Iterator<Item = (String, Port, &'a [IpAddr])> + 'a {
        let whole = (import.kind == ImportKind::ClusterSetIp).then(|| {
            let addresses = self.places.addresses(&AddressKey::Service(key.clone()));
            (self.zone.host_of(key), port, addresses)
        });
        let exposes = move |endpoint: &Headless<'_>| {
            import.sources.get(endpoint.cluster).is_some_and(|source| source.ports.contains(&(port, transport)))
        };
        let endpoints = self
            .headless(key, import)
            .filter(exposes)
            .map(move |endpoint| (self.endpoint_name(key, endpoint), port, endpoint.addresses));
        whole.into_iter().chain(endpoints).filter(|(name, _, _)| name.len() <= MAX_NAME)
    }

    fn srv(&self, name: &str, mut targets: Vec<(String, Port, &[IpAddr])>) -> NameAnswer {
        targets.truncate(MAX_ANSWERS);
        if targets.is_empty() {
            return NameAnswer::NoData;
        }
        // Equal shares that sum to about 100, as CoreDNS gives them.
        let weight = u16::try_from(100 / targets.len()).unwrap_or(0).max(1);
        let named: BTreeSet<(&str, IpAddr)> = targets
            .iter()
            .flat_map(|(target, _, addresses)| addresses.iter().map(|address| (target.as_str(), *address)))
            .collect();
        let additional = named.into_iter().map(|(target, ip)| address_record(target, ip)).collect();
        let answers = targets
            .into_iter()
            .map(|(target, port, _)| Record {
                name: name.to_owned(),
                ttl: None,
                data: RecordData::Srv { priority: 0, weight, port, target },
            })
            .collect();
        NameAnswer::Records { answers, additional }
    }

    /// The ready endpoints of a headless import, in order of cluster and name.
    fn headless<'a>(&'a self, key: &'a ServiceKey, import: &'a Import) -> impl Iterator<Item = Headless<'a>> + 'a {
        let sources = match import.kind {
            ImportKind::Headless => Some(&import.sources),
            ImportKind::ClusterSetIp => None,
        };
        sources.into_iter().flatten().flat_map(move |(cluster, source)| {
            source.endpoints.iter().filter_map(move |name| {
                let address_key = AddressKey::Endpoint(key.clone(), cluster.clone(), name.clone());
                let addresses = self.places.addresses(&address_key);
                (!addresses.is_empty()).then_some(Headless { cluster, name, addresses })
            })
        })
    }

    fn endpoint_name(&self, key: &ServiceKey, endpoint: Headless<'_>) -> String {
        format!("{}.{}.{}", endpoint.name, endpoint.cluster, self.zone.host_of(key))
    }

    fn addresses_of(&self, name: &str, addresses: impl Iterator<Item = IpAddr>, kind: RecordType) -> NameAnswer {
        let wanted = |ip: &IpAddr| match kind {
            RecordType::A => ip.is_ipv4(),
            RecordType::Aaaa => ip.is_ipv6(),
            RecordType::Srv | RecordType::Txt | RecordType::Soa | RecordType::Ns | RecordType::Other => false,
        };
        records(addresses.filter(wanted).take(MAX_ANSWERS).map(|ip| address_record(name, ip)).collect())
    }
}

fn records(answers: Vec<Record>) -> NameAnswer {
    if answers.is_empty() {
        return NameAnswer::NoData;
    }
    NameAnswer::Records { answers, additional: Vec::new() }
}

fn address_record(name: &str, ip: IpAddr) -> Record {
    Record { name: name.to_owned(), ttl: None, data: RecordData::Address(ip) }
}

/// The transport of a label such as `_tcp`.
fn transport(label: &str) -> Option<Transport> {
    [Transport::Tcp, Transport::Udp].into_iter().find(|transport| label.strip_prefix('_') == Some(transport.label()))
}

#[cfg(test)]
mod tests;
