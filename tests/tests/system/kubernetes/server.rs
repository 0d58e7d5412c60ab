//! One API server, a double or a real one, in the words the tests of the controllers use.

use serde_json::{Value, json};
use tests::{apiserver::ApiServer, envtest::RealServer, wait::until};

/// Every definition that a cluster of these tests has.
const DEFINITIONS: [&str; 5] = [
    include_str!("../../../../deploy/kustomize/crds/serviceexports.multicluster.x-k8s.io.yaml"),
    include_str!("../../../../deploy/kustomize/crds/serviceimports.multicluster.x-k8s.io.yaml"),
    include_str!("../../../../deploy/kustomize/crds/clusterproperties.about.k8s.io.yaml"),
    include_str!("../../../../deploy/crds/authorizationpolicies.policy.landbridge.dev.yaml"),
    include_str!("../../../../deploy/crds/peerauthentications.policy.landbridge.dev.yaml"),
];

pub(super) enum Server {
    Double(ApiServer),
    Real(RealServer),
}

impl Server {
    /// A double with the definitions and the namespaces of the tests.
    pub(super) async fn double() -> Self {
        let server = Self::Double(ApiServer::start().await);
        server.furnish().await;
        server
    }

    /// The double, where it must be one: only there commands run in pods.
    pub(super) fn double_of(&self) -> &ApiServer {
        match self {
            Self::Double(double) => double,
            Self::Real(_) => panic!("a real API server without nodes runs nothing in pods"),
        }
    }

    /// A real one with the definitions and the namespaces of the tests, where there is any.
    pub(super) async fn real(what: &str, services: &str) -> Option<Self> {
        let server = Self::bare(what, services).await?;
        server.furnish().await;
        Some(server)
    }

    /// A real one as it starts, where there is any.
    pub(super) async fn bare(what: &str, services: &str) -> Option<Self> {
        Some(Self::Real(RealServer::start(what, services).await?))
    }

    /// A kubeconfig of a service account that is there.
    pub(super) async fn kubeconfig_of_account(&self, namespace: &str, name: &str) -> String {
        match self {
            Self::Double(double) => double.kubeconfig("double", &double.account_token(namespace, name)),
            Self::Real(real) => real.kubeconfig_of_account(namespace, name).await,
        }
    }

    async fn furnish(&self) {
        self.define().await;
        for namespace in ["landbridge-system", "production"] {
            self.namespace(namespace).await;
        }
    }

    pub(super) async fn define(&self) {
        for text in DEFINITIONS {
            let definitions: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
            for definition in definitions.into_iter().filter(Value::is_object) {
                self.put(definition).await;
            }
        }
    }

    pub(super) async fn namespace(&self, name: &str) {
        self.put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
    }

    pub(super) fn kubeconfig(&self) -> String {
        match self {
            Self::Double(double) => double.kubeconfig("double", double.admin_token()),
            Self::Real(real) => real.kubeconfig(),
        }
    }

    pub(super) async fn put(&self, object: Value) {
        match self {
            Self::Double(double) => drop(double.put(object)),
            Self::Real(real) => real.put(&object).await,
        }
    }

    pub(super) async fn put_yaml(&self, documents: &str) {
        let objects: Vec<Value> = serde_saphyr::from_multiple(documents).unwrap();
        for object in objects.into_iter().filter(Value::is_object) {
            self.put(object).await;
        }
    }

    pub(super) async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        match self {
            Self::Double(double) => double.get(kind, namespace, name),
            Self::Real(real) => real.get(kind, namespace, name).await,
        }
    }

    pub(super) async fn edit(&self, kind: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        match self {
            Self::Double(double) => drop(double.edit(kind, namespace, name, change)),
            Self::Real(real) => real.edit(kind, namespace, name, change).await,
        }
    }

    pub(super) async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        match self {
            Self::Double(double) => drop(double.delete(kind, namespace, name)),
            Self::Real(real) => real.delete(kind, namespace, name).await,
        }
    }

    /// Waits until the object is so; what it is then.
    pub(super) async fn becomes(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        fact: impl Fn(&Value) -> bool,
    ) -> Value {
        let last = std::cell::RefCell::new(Value::Null);
        let what = format!("{kind} {namespace}/{name} is as it should be");
        let waiting = until(&what, async || {
            let object = self.get(kind, namespace, name).await?;
            let is = fact(&object);
            last.replace(object.clone());
            is.then_some(object)
        });
        waiting.await
    }

    pub(super) async fn goes(&self, kind: &str, namespace: &str, name: &str) {
        until(&format!("{kind} {namespace}/{name} is gone"), async || {
            self.get(kind, namespace, name).await.is_none().then_some(())
        })
        .await;
    }

    /// A gateway pod, with what its kubelet says of it.
    pub(super) async fn gateway_pod(&self, name: &str, ip: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        self.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "namespace": "landbridge-system", "name": name,
                "labels": {"app.kubernetes.io/name": "landbridge-gateway"},
            },
            // As Pod Security asks for it in the namespace of an installation.
            "spec": {
                "nodeName": "node-1",
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{"name": "gateway", "image": "landbridge",
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
            },
            "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": status}],
            },
        }))
        .await;
    }
}
