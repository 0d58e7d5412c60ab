//! An API server that stores what the controllers of a gateway write, and tells of it.
//!
//! Owns the requests they make, as far as one field manager needs them: what is applied takes the place of what it applied before.
//! Never checks a schema, a right or a precondition: what it costs a real one is measured against a real one.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::world::{NAMESPACE, Size, World};

/// The namespace of the gateway.
pub(crate) const SYSTEM: &str = "landbridge-system";
/// The version of the multi-cluster services API.
const VERSION: &str = "multicluster.x-k8s.io/v1beta1";
/// The most bytes of a request: far more than any object of these.
const MAX_BODY: usize = 1 << 20;
const TIME: &str = "2026-01-01T00:00:00Z";

/// The objects that are there before a controller runs: namespaces, gateway pods and the exports of this cluster.
pub(crate) fn beforehand(size: Size) -> anyhow::Result<Vec<Value>> {
    let namespace = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let pod = |number: u8| {
        let ip = format!("10.244.{number}.7");
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": SYSTEM, "name": format!("landbridge-gateway-{number}"),
                "labels": {"app.kubernetes.io/name": "landbridge-gateway"}},
            "spec": {"nodeName": format!("node-{number}"), "containers": [{"name": "gateway", "image": "landbridge"}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    let world = World::new(size)?;
    let exports = world.own_exports().map(|key| {
        json!({"apiVersion": VERSION, "kind": "ServiceExport",
            "metadata": {"namespace": key.namespace.as_str(), "name": key.name.as_str()}})
    });
    Ok([namespace(SYSTEM), namespace(NAMESPACE), pod(0), pod(1)].into_iter().chain(exports).collect())
}

/// Serves until it is killed; tells its address on the first line of its output.
pub(crate) async fn serve(size: Size) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?)?;
    out.flush()?;
    let store = Arc::new(Shared { store: Mutex::default(), told: watch::Sender::new(0) });
    for object in beforehand(size)? {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let path = Path {
            resource: format!("{}s", text("/kind").to_lowercase()),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            status: false,
        };
        store.lock().put(&path, object);
    }
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that goes away ends its connection, nothing else.
        connections.spawn(connection(stream, store.clone()));
    }
}

struct Shared {
    store: Mutex<Store>,
    /// How many events there are.
    told: watch::Sender<usize>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which object, or which kind where the name is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    resource: String,
    namespace: String,
    name: String,
    status: bool,
}

impl Path {
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let rest = parts.get(if parts.first() == Some(&"api") { 2 } else { 3 }..).unwrap_or_default();
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let part = |at: usize| rest.get(at).copied().unwrap_or_default().to_owned();
        Self { resource: part(0), namespace: namespace.to_owned(), name: part(1), status: part(2) == "status" }
    }

    fn is_of(&self, kind: &Self) -> bool {
        self.resource == kind.resource && (kind.namespace.is_empty() || self.namespace == kind.namespace)
    }
}

/// The objects, and every event there was: a measurement makes some thousands.
#[derive(Default)]
struct Store {
    objects: BTreeMap<Path, Value>,
    events: Vec<(Path, Arc<str>)>,
    addresses: u32,
}

impl Store {
    /// Stores an object whole.
    fn put(&mut self, path: &Path, mut object: Value) -> Value {
        let before = self.objects.get(path);
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(format!("{}-{}", path.resource, path.name));
        metadata["creationTimestamp"] = json!(TIME);
        let generation = before.map_or(1, |before| {
            let changed = before["spec"] != object["spec"];
            before["metadata"]["generation"].as_i64().unwrap_or(0) + i64::from(changed)
        });
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["resourceVersion"] = json!((self.events.len() + 1).to_string());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(path, kind, &object);
        self.objects.insert(path.clone(), object.clone());
        object
    }

    fn tell(&mut self, path: &Path, kind: &str, object: &Value) {
        self.events.push((path.clone(), json!({"type": kind, "object": object}).to_string().into()));
    }

    /// What server-side apply of the only field manager makes of an object.
    fn apply(&mut self, path: &Path, mut body: Value) -> Option<Value> {
        let key = Path { status: false, ..path.clone() };
        let before = self.objects.get(&key);
        if path.status {
            let mut object = before?.clone();
            object["status"] = body["status"].take();
            return Some(self.put(&key, object));
        }
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = before.and_then(|before| before["spec"].get(field)) {
                body["spec"][field] = value.clone();
            }
        }
        if let Some(status) = before.and_then(|before| before.get("status")) {
            body["status"] = status.clone();
        }
        if key.resource == "services" && before.is_none() {
            self.addresses += 1;
            let address = Ipv4Addr::from_bits(0x0a60_0000 + self.addresses).to_string();
            body["spec"]["clusterIPs"] = json!([address]);
            body["spec"]["clusterIP"] = json!(address);
        }
        Some(self.put(&key, body))
    }

    fn delete(&mut self, path: &Path) -> Option<Value> {
        let object = self.objects.remove(path)?;
        self.tell(path, "DELETED", &object);
        Some(object)
    }

    fn list(&self, kind: &Path) -> Value {
        let items: Vec<&Value> =
            self.objects.iter().filter(|(path, _)| path.is_of(kind)).map(|(_, object)| object).collect();
        let version = self.events.len().to_string();
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items})
    }

    /// The answer to a request that is no watch.
    fn answer(&mut self, method: &str, target: &str, body: Value) -> Option<Value> {
        let path = Path::of(target);
        match (method, path.name.is_empty()) {
            ("GET", _) if target == "/apis" => Some(groups()),
            ("GET", _) if target == format!("/apis/{VERSION}") => Some(kinds()),
            ("GET", true) => Some(self.list(&path)),
            ("GET", false) => self.objects.get(&path).cloned(),
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                Some(self.put(&Path { name, ..path }, body))
            }
            ("PUT", _) => Some(self.put(&path, body)),
            ("PATCH", _) => self.apply(&path, body),
            ("DELETE", _) => self.delete(&path),
            _ => None,
        }
    }
}

fn groups() -> Value {
    let version = json!({"groupVersion": VERSION, "version": "v1beta1"});
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
        {"name": "multicluster.x-k8s.io", "versions": [version], "preferredVersion": version}]})
}

fn kinds() -> Value {
    let kind = |kind: &str| {
        json!({"name": format!("{}s", kind.to_lowercase()), "singularName": "", "namespaced": true, "kind": kind,
            "verbs": ["get", "list", "watch", "patch", "delete"]})
    };
    let resources = [kind("ServiceExport"), kind("ServiceImport")];
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": VERSION, "resources": resources})
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().context("a request line has a target")?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0).min(MAX_BODY)];
        stream.read_exact(&mut body).await?;
        let parameters: BTreeMap<&str, &str> = query.split('&').filter_map(|part| part.split_once('=')).collect();
        if parameters.get("watch") == Some(&"true") {
            let from = parameters.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
            return watch(&mut stream, &Path::of(path), from, &shared).await;
        }
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| json!({}));
        let answer = shared.lock().answer(method, path, body);
        let (code, body) = match answer {
            Some(body) => ("200 OK", body),
            None => (
                "404 Not Found",
                json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": path, "code": 404}),
            ),
        };
        let told = shared.lock().events.len();
        shared.told.send_replace(told);
        let body = body.to_string();
        let length = body.len();
        // In one piece: in two, the second would wait for the acknowledgement of the first.
        let answer =
            format!("HTTP/1.1 {code}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
    }
}

/// Tells of what happens from the event `from` on.
async fn watch(stream: &mut BufReader<TcpStream>, kind: &Path, from: usize, shared: &Shared) -> anyhow::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    stream.flush().await?;
    let mut told = shared.told.subscribe();
    let mut next = from;
    loop {
        let events: Vec<Arc<str>> = {
            let store = shared.lock();
            let new = store.events.get(next..).unwrap_or_default();
            next = store.events.len();
            new.iter().filter(|(path, _)| path.is_of(kind)).map(|(_, event)| event.clone()).collect()
        };
        for event in events {
            stream.write_all(format!("{:x}\r\n{event}\n\r\n", event.len() + 1).as_bytes()).await?;
        }
        stream.flush().await?;
        told.changed().await?;
    }
}
