//! An API server that has a large cluster to tell of, and every so often of a new pod.
//!
//! Owns the objects, in the size they have in clusters, and the few requests that a source of objects makes. Never stores a pod: each
//! is written when it is asked for.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    net::Ipv4Addr,
    str::FromStr,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, anyhow};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::interval,
};

/// The pods of the large cluster.
pub(crate) const PODS: usize = 50_000;
/// The EndpointSlices of the large cluster.
pub(crate) const SLICES: usize = 20_000;
/// The endpoints of each.
pub(crate) const ENDPOINTS: usize = 5;
/// Namespaces that the pods are in.
const NAMESPACES: usize = 500;
/// How often a new pod is told of.
const EVERY: Duration = Duration::from_millis(200);

/// How much is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    pub(crate) pods: usize,
    pub(crate) slices: usize,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.pods, self.slices)
    }
}

impl FromStr for Served {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (pods, slices) = text.split_once(',').ok_or_else(|| anyhow!("write PODS,SLICES"))?;
        Ok(Self { pods: pods.parse()?, slices: slices.parse()? })
    }
}

/// Serves until it is killed; tells its address on the first line of its output.
pub(crate) async fn serve(served: Served) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        // A client that goes away ends its connection, nothing else.
        connections.spawn(async move { drop(connection(stream, served).await) });
    }
}

async fn connection(stream: TcpStream, served: Served) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let target = head.split(' ').nth(1).context("a request line has a target")?.to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let resource = path.rsplit('/').next().unwrap_or_default();
        if query.split('&').any(|part| part == "watch=true") {
            return watch(&mut stream, resource == "pods" && served.pods > 0).await;
        }
        let body = list(resource, query, served);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.flush().await?;
    }
}

/// One page of a list.
fn list(resource: &str, query: &str, served: Served) -> String {
    let parameter = |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let number = |name| parameter(name).and_then(|text| text.parse::<usize>().ok());
    let all = match resource {
        "pods" => served.pods,
        "endpointslices" => served.slices,
        _ => 0,
    };
    let from = number("continue").unwrap_or(0);
    let to = from.saturating_add(number("limit").unwrap_or(all)).min(all);
    let items: Vec<_> = (from..to).map(|at| if resource == "pods" { pod(at, "web") } else { slice(at) }).collect();
    let more = if to < all { format!(",\"continue\":\"{to}\"") } else { String::new() };
    let items = items.join(",");
    format!(
        "{{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{{\"resourceVersion\":\"1\"{more}}},\"items\":[{items}]}}"
    )
}

/// Tells of new pods, or of nothing.
async fn watch(stream: &mut BufReader<TcpStream>, pods: bool) -> anyhow::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    stream.flush().await?;
    let mut every = interval(EVERY);
    for at in PODS.. {
        every.tick().await;
        if pods {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
            let event = format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", pod(at, &now.to_string()));
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
            stream.flush().await?;
        }
    }
    Ok(())
}

fn address(at: usize) -> String {
    format!("10.{}.{}.{}", at >> 16, (at >> 8) & 0xff, at & 0xff)
}

/// A pod as a Deployment makes it and the kubelet reports it.
fn pod(at: usize, account: &str) -> String {
    let (namespace, ip) = (format!("team-{:03}", at % NAMESPACES), address(at));
    let name = format!("checkout-service-{:08x}-{:05x}", at.wrapping_mul(2_654_435_761) & 0xffff_ffff, at);
    let time = "2026-01-01T00:00:00Z";
    let labels = json!({"app.kubernetes.io/name": "checkout-service", "app.kubernetes.io/instance": "checkout",
        "pod-template-hash": "7d9c7b9d4f", "topology.kubernetes.io/zone": "eu-central-1a"});
    let mut fields = String::new();
    for field in 0..60 {
        let _ = write!(fields, "\"f:field-number-{field}\":{{\".\":{{}},\"f:name\":{{}},\"f:value\":{{}}}},");
    }
    let environment: Vec<_> = (0..12)
        .map(|n| json!({"name": format!("SETTING_{n}"), "value": "http://some-service.some-namespace:8080/"}))
        .collect();
    let condition = |kind| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": time});
    let conditions = ["Initialized", "Ready", "ContainersReady", "PodScheduled"].map(condition);
    let object = json!({
        "metadata": {
            "name": name, "generateName": "checkout-service-7d9c7b9d4f-", "namespace": namespace, "uid": format!("{at:032x}"),
            "resourceVersion": (at + 2).to_string(), "creationTimestamp": time, "labels": labels,
            "annotations": {"prometheus.io/scrape": "true", "checksum/config": "0123456789abcdef0123456789abcdef"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "checkout-service-7d9c7b9d4f",
                "uid": format!("{at:032x}"), "controller": true, "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": time,
                "fieldsType": "FieldsV1", "fieldsV1": "FIELDS", "subresource": "status"}],
        },
        "spec": {
            "serviceAccountName": account, "nodeName": format!("node-{:04}", at % 1000), "restartPolicy": "Always",
            "containers": [{"name": "app", "image": "registry.example/checkout:1.2.3", "env": environment,
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}],
        },
        "status": {
            "phase": "Running", "hostIP": "192.168.0.1", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": time,
            "conditions": conditions,
        },
    });
    object.to_string().replace("\"FIELDS\"", &format!("{{{}}}", fields.trim_end_matches(',')))
}

fn slice(at: usize) -> String {
    let (namespace, service) = (format!("team-{:03}", at % NAMESPACES), format!("service-{at:05}"));
    let endpoint = |n: usize| {
        let pod = format!("checkout-service-{:08x}-{n:05x}", at.wrapping_mul(2_654_435_761) & 0xffff_ffff);
        json!({"addresses": [address(at * ENDPOINTS + n)], "nodeName": format!("node-{n:04}"), "zone": "eu-central-1a",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": format!("{n:032x}")}})
    };
    json!({
        "metadata": {"name": format!("{service}-abcde"), "namespace": namespace, "resourceVersion": (at + 2).to_string(),
            "labels": {"kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    })
    .to_string()
}
