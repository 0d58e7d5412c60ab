//! Services: defaults, validation, and the cluster IPs that the API server gives.
//!
//! Owns the ranges and what of them is taken. Never carries traffic.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde_json::{Map, Value, json};

use super::{
    failure::Cause,
    object::{self, default_to},
    strategy::{LABEL, is_label},
};

/// The addresses of Services.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    /// A /16.
    base: Ipv4Addr,
    dual_stack: bool,
    taken: BTreeSet<IpAddr>,
    node_ports: BTreeSet<u64>,
}

/// The first port of a node that a Service gets, and how many there are.
const NODE_PORTS: std::ops::Range<u64> = 30_000..32_768;

impl Addresses {
    pub(super) fn new(dual_stack: bool) -> Self {
        let base = Ipv4Addr::new(10, 96, 0, 0);
        Self { base, dual_stack, taken: BTreeSet::new(), node_ports: BTreeSet::new() }
    }

    /// Gives from this /16 from now on.
    pub(super) fn give_from(&mut self, base: Ipv4Addr) {
        let [first, second, ..] = base.octets();
        self.base = Ipv4Addr::new(first, second, 0, 0);
    }

    /// The first address, of the API server's own Service.
    pub(super) fn first(&self) -> Ipv4Addr {
        let [first, second, ..] = self.base.octets();
        Ipv4Addr::new(first, second, 0, 1)
    }

    fn free(&self, family: &str) -> Option<IpAddr> {
        let [first, second, ..] = self.base.octets();
        let mut of_family = (2_u16..u16::MAX).map(|host| {
            let [high, low] = host.to_be_bytes();
            if family == "IPv6" {
                IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, host))
            } else {
                IpAddr::V4(Ipv4Addr::new(first, second, high, low))
            }
        });
        of_family.find(|address| !self.taken.contains(address))
    }

    fn in_range(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[..2] == self.base.octets()[..2],
            IpAddr::V6(address) => self.dual_stack && address.segments()[..7] == [0xfd00, 0x10, 0x96, 0, 0, 0, 0],
        }
    }

    /// An update that leaves out what was given keeps it.
    pub(super) fn keep(&self, old: &Value, new: &mut Value) {
        let kind = object::text(new, "/spec/type").to_owned();
        if kind == "ExternalName" || object::text(old, "/spec/type") == "ExternalName" {
            return;
        }
        let (before, spec) = (&old["spec"], object::map_in(new, "spec"));
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if let Some(value) = before.get(field) {
                default_to(spec, field, value.clone());
            }
        }
        for (index, port) in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
            let node_port = &before["ports"][index]["nodePort"];
            if let (Some(port), false, "NodePort" | "LoadBalancer") =
                (port.as_object_mut(), node_port.is_null(), &*kind)
            {
                default_to(port, "nodePort", node_port.clone());
            }
        }
    }

    /// Gives the Service the addresses that it asks for and has not yet; or says what is wrong with what it asks for.
    pub(super) fn give(&mut self, service: &mut Value, old: Option<&Value>) -> Vec<Cause> {
        if object::text(service, "/spec/type") == "ExternalName" {
            if let Some(old) = old {
                self.take_back(old);
            }
            let spec = object::map_in(service, "spec");
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                spec.remove(field);
            }
            return Vec::new();
        }
        let had = old.map(|old| object::texts(old, "/spec/clusterIPs")).unwrap_or_default();
        let had: Vec<_> = had.into_iter().map(str::to_owned).collect();
        let wanted = match Wanted::read(service, self.dual_stack) {
            Ok(wanted) => wanted,
            Err(cause) => return vec![cause],
        };
        if let (Some(first), false) = (had.first(), wanted.addresses.is_empty())
            && wanted.addresses[0] != *first
        {
            let value = json!(wanted.addresses);
            return vec![Cause::invalid("spec.clusterIPs[0]", &value, "may not change once set")];
        }
        let given = match self.addresses(&wanted, &had) {
            Ok(given) => given,
            Err(cause) => return vec![cause],
        };
        wanted.write(service, &given);
        self.give_node_ports(service, old).err().into_iter().collect()
    }

    fn addresses(&mut self, wanted: &Wanted, had: &[String]) -> Result<Vec<String>, Cause> {
        if wanted.headless {
            return Ok(vec!["None".to_owned()]);
        }
        let mut given = Vec::new();
        for (index, family) in wanted.families.iter().enumerate() {
            let asked = wanted.addresses.get(index).or_else(|| had.get(index));
            let address = match asked {
                Some(asked) if had.contains(asked) => asked.clone(),
                Some(asked) => self.take(asked)?,
                None => {
                    let free = self.free(family);
                    let full = || {
                        Cause::invalid("spec.clusterIPs", &Value::Null, "failed to allocate a serviceIP: range is full")
                    };
                    self.take(&free.ok_or_else(full)?.to_string())?
                }
            };
            given.push(address);
        }
        for released in had.iter().filter(|address| !given.contains(address)) {
            self.release(released);
        }
        Ok(given)
    }

    fn take(&mut self, asked: &str) -> Result<String, Cause> {
        let refuse = |why: &str| {
            let why = format!("failed to allocate IP {asked}: {why}");
            Cause::invalid("spec.clusterIPs", &json!([asked]), &why)
        };
        let Ok(address) = asked.parse() else {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            return Err(Cause::invalid("spec.clusterIPs[0]", &json!(asked), why));
        };
        if !self.in_range(address) {
            return Err(refuse("the provided network does not match the current range"));
        }
        if self.taken.insert(address) { Ok(asked.to_owned()) } else { Err(refuse("provided IP is already allocated")) }
    }

    fn release(&mut self, address: &str) {
        if let Ok(address) = address.parse() {
            self.taken.remove(&address);
        }
    }

    /// What a Service had is free again.
    pub(super) fn take_back(&mut self, service: &Value) {
        for address in object::texts(service, "/spec/clusterIPs") {
            self.release(address);
        }
        for port in object::list(service, "/spec/ports").iter().filter_map(|port| port["nodePort"].as_u64()) {
            self.node_ports.remove(&port);
        }
    }

    fn give_node_ports(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Cause> {
        if !["NodePort", "LoadBalancer"].contains(&object::text(service, "/spec/type")) {
            return Ok(());
        }
        let had = old.map(|old| object::list(old, "/spec/ports")).unwrap_or_default();
        let had: Vec<_> = had.iter().filter_map(|port| port["nodePort"].as_u64()).collect();
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for (index, port) in ports.into_iter().flatten().filter_map(Value::as_object_mut).enumerate() {
            let asked = port.get("nodePort").and_then(Value::as_u64).filter(|port| *port > 0);
            let free = NODE_PORTS.into_iter().find(|port| !self.node_ports.contains(port));
            let given = asked.or(free).unwrap_or(NODE_PORTS.start);
            if !self.node_ports.insert(given) && !had.contains(&given) {
                let why = "provided port is already allocated";
                return Err(Cause::invalid(format!("spec.ports[{index}].nodePort"), &json!(given), why));
            }
            port.insert("nodePort".to_owned(), given.into());
        }
        Ok(())
    }
}

/// The addresses that a Service asks for.
#[derive(Debug)]
struct Wanted {
    headless: bool,
    families: Vec<String>,
    policy: String,
    addresses: Vec<String>,
}

impl Wanted {
    fn read(service: &Value, dual_stack: bool) -> Result<Self, Cause> {
        let mut addresses: Vec<_> = object::texts(service, "/spec/clusterIPs").into_iter().map(str::to_owned).collect();
        let first = object::text(service, "/spec/clusterIP");
        if addresses.is_empty() && !first.is_empty() {
            addresses.push(first.to_owned());
        } else if !first.is_empty() && addresses.first().is_some_and(|address| address != first) {
            let value = json!(addresses);
            return Err(Cause::invalid("spec.clusterIPs", &value, "first value must match `clusterIP`"));
        }
        let headless = addresses.first().is_some_and(|address| address == "None");
        let selectorless =
            service.pointer("/spec/selector").is_none_or(|selector| selector.as_object().is_some_and(Map::is_empty));
        let mut families: Vec<_> = object::texts(service, "/spec/ipFamilies").into_iter().map(str::to_owned).collect();
        let mut policy = object::text(service, "/spec/ipFamilyPolicy").to_owned();
        if policy.is_empty() {
            policy = if headless && selectorless && families.is_empty() { "RequireDualStack" } else { "SingleStack" }
                .to_owned();
            if families.len() > 1 || addresses.len() > 1 {
                policy = "RequireDualStack".to_owned();
            }
        }
        if families.is_empty() {
            families.extend(addresses.iter().filter(|_| !headless).map(|address| family_of(address).to_owned()));
        }
        if families.is_empty() {
            families.push("IPv4".to_owned());
        }
        let free_of_nodes = headless && selectorless;
        if policy == "RequireDualStack" && !dual_stack && !free_of_nodes {
            let why = "this cluster is not configured for dual-stack services";
            return Err(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), why));
        }
        if families.iter().any(|family| family == "IPv6") && !dual_stack && !free_of_nodes {
            return Err(Cause::invalid("spec.ipFamilies[0]", &json!("IPv6"), "not configured on this cluster"));
        }
        if policy != "SingleStack" && (dual_stack || free_of_nodes) && families.len() == 1 {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
        }
        if policy == "SingleStack" {
            families.truncate(1);
            addresses.truncate(1);
        }
        Ok(Self { headless, families, policy, addresses })
    }

    fn write(&self, service: &mut Value, given: &[String]) {
        let spec = object::map_in(service, "spec");
        spec.insert("clusterIP".to_owned(), given.first().cloned().unwrap_or_default().into());
        spec.insert("clusterIPs".to_owned(), given.into());
        spec.insert("ipFamilies".to_owned(), self.families.clone().into());
        spec.insert("ipFamilyPolicy".to_owned(), self.policy.clone().into());
    }
}

fn family_of(address: &str) -> &'static str {
    if address.contains(':') { "IPv6" } else { "IPv4" }
}

/// What a Service that does not say it is.
pub(super) fn default(service: &mut Value) {
    let spec = object::map_in(service, "spec");
    if spec.get("selector").and_then(Value::as_object).is_some_and(Map::is_empty) {
        spec.remove("selector");
    }
    default_to(spec, "sessionAffinity", "None");
    default_to(spec, "type", "ClusterIP");
    if spec["sessionAffinity"] == "ClientIP" {
        default_to(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10_800}}));
    } else {
        spec.remove("sessionAffinityConfig");
    }
    if spec["type"] != "ExternalName" {
        default_to(spec, "internalTrafficPolicy", "Cluster");
    }
    let outside = spec.get("externalIPs").and_then(Value::as_array).is_some_and(|addresses| !addresses.is_empty());
    if spec["type"] == "NodePort" || spec["type"] == "LoadBalancer" || (outside && spec["type"] == "ClusterIP") {
        default_to(spec, "externalTrafficPolicy", "Cluster");
    } else {
        spec.remove("externalTrafficPolicy");
    }
    if spec["type"] == "LoadBalancer" {
        default_to(spec, "allocateLoadBalancerNodePorts", true);
    }
    for port in
        spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
    {
        default_to(port, "protocol", "TCP");
        let number = port.get("port").cloned().unwrap_or(Value::Null);
        if port.get("targetPort").is_none_or(|target| target == "" || target == 0) {
            port.insert("targetPort".to_owned(), number);
        }
    }
}

/// What is wrong with a Service.
pub(super) fn invalid(service: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let ports = object::list(service, "/spec/ports");
    let external = object::text(service, "/spec/type") == "ExternalName";
    if ports.is_empty() && !external && object::text(service, "/spec/clusterIP") != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    if external && object::text(service, "/spec/externalName").is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
    }
    let ingress = object::list(service, "/status/loadBalancer/ingress");
    if !ingress.is_empty() && object::text(service, "/spec/type") != "LoadBalancer" {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        causes.push(Cause::forbidden("status.loadBalancer.ingress", why));
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let (at, name) = (format!("spec.ports[{index}]"), object::text(port, "/name"));
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !name.is_empty() {
            causes.extend(port_name(&format!("{at}.name"), name));
            if !names.insert(name) {
                causes.push(Cause::duplicate(format!("{at}.name"), &port["name"]));
            }
        }
        causes.extend(port_number(&format!("{at}.port"), &port["port"]));
        if port["targetPort"].is_number() {
            causes.extend(port_number(&format!("{at}.targetPort"), &port["targetPort"]));
        }
        let protocol = object::text(port, "/protocol");
        if !["TCP", "UDP", "SCTP"].contains(&protocol) {
            let supported = ["\"SCTP\"", "\"TCP\"", "\"UDP\""].map(str::to_owned);
            causes.push(Cause::unsupported(format!("{at}.protocol"), &port["protocol"], &supported));
        }
        if !numbers.insert((protocol, port["port"].as_u64())) {
            causes.push(Cause::duplicate(at, &json!({"protocol": protocol, "port": port["port"]})));
        }
    }
    causes
}

fn port_number(at: &str, number: &Value) -> Option<Cause> {
    let fits = number.as_i64().is_some_and(|number| (1..=65_535).contains(&number));
    (!fits).then(|| Cause::invalid(at, number, "must be between 1 and 65535, inclusive"))
}

fn port_name(at: &str, name: &str) -> Option<Cause> {
    if name.len() > 63 {
        return Some(Cause::invalid(at, &json!(name), "must be no more than 63 characters"));
    }
    (!is_label(name)).then(|| Cause::invalid(at, &json!(name), LABEL))
}
