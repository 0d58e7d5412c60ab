//! `kubectl` against the API server of the tests.
//!
//! Owns its command lines. Where it is not installed this is skipped, and said.

use std::{path::PathBuf, process::Output};

use tempfile::TempDir;
use tests::{apiserver::ApiServer, client::soon, skip};
use tokio::process::Command;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec:
  selector: {app: pay}
  ports: [{name: http, port: 80, targetPort: PORT}]
";

const EVERYTHING: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: everything}
rules: [{apiGroups: ['*'], resources: ['*'], verbs: ['*']}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: everything}
roleRef: {kind: ClusterRole, name: everything, apiGroup: rbac.authorization.k8s.io}
subjects: [{kind: ServiceAccount, name: nobody, namespace: default}]
";

/// A directory with a kubeconfig and manifests.
struct Kubectl(TempDir);

impl Kubectl {
    /// For the holder of the token; none where there is no kubectl.
    async fn new(server: &ApiServer, token: &str) -> Option<Self> {
        let version = Command::new("kubectl").args(["version", "--client"]).output().await;
        if !version.is_ok_and(|output| output.status.success()) {
            skip::say("kubectl against the API server of the tests", "kubectl is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kubeconfig"), server.kubeconfig("double", token)).unwrap();
        Some(Self(directory))
    }

    fn manifest(&self, text: &str) -> PathBuf {
        let path = self.0.path().join("manifest.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    async fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("kubectl");
        command.args(arguments).env("KUBECONFIG", self.0.path().join("kubeconfig")).env("HOME", self.0.path());
        command.kill_on_drop(true);
        soon("the end of kubectl", command.output()).await.unwrap()
    }

    /// What it says when it succeeds.
    async fn say(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{err}");
        out.into_owned()
    }

    /// What it says when it fails.
    async fn fail(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        assert!(!output.status.success(), "kubectl {arguments:?} should fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[tokio::test]
async fn kubectl_creates_applies_reads_and_deletes() {
    let server = ApiServer::start().await;
    let Some(kubectl) = Kubectl::new(&server, server.admin_token()).await else { return };
    kubectl.say(&["create", "namespace", "shop"]).await;
    let path = kubectl.manifest(&SERVICE.replace("PORT", "8080"));
    let path = path.to_str().unwrap();
    assert!(kubectl.say(&["apply", "-f", path]).await.contains("created"));
    assert!(kubectl.say(&["apply", "-f", path]).await.contains("unchanged"));
    kubectl.manifest(&SERVICE.replace("PORT", "8081"));
    assert!(kubectl.say(&["apply", "-f", path]).await.contains("configured"));
    assert_eq!(server.get("svc", "shop", "pay").unwrap()["spec"]["ports"][0]["targetPort"], 8081);
    kubectl.manifest(&SERVICE.replace("PORT", "8082"));
    let conflict = kubectl.fail(&["apply", "--server-side", "--field-manager=other", "-f", path]).await;
    assert!(conflict.contains("Apply failed with"), "{conflict}");
    kubectl.say(&["apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", path]).await;
    let address = kubectl.say(&["get", "services", "-n", "shop", "-o", "jsonpath={.items[0].spec.clusterIP}"]).await;
    assert!(address.starts_with("10.96."), "{address}");
    kubectl.say(&["label", "service", "pay", "-n", "shop", "tier=back"]).await;
    assert!(kubectl.say(&["get", "svc", "-A", "-l", "tier in (back)", "-o", "name"]).await.contains("service/pay"));
    kubectl.say(&["delete", "namespace", "shop"]).await;
    assert!(server.get("svc", "shop", "pay").is_none());
}

#[tokio::test]
async fn kubectl_waits_for_conditions_and_watches() {
    let server = ApiServer::start().await;
    let Some(kubectl) = Kubectl::new(&server, server.admin_token()).await else { return };
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds");
    kubectl.say(&["apply", "--server-side", "-k", crds]).await;
    kubectl.say(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=20s"]).await;
    assert!(kubectl.say(&["get", "authorizationpolicies", "-A"]).await.is_empty());
    server.put(super::map("late"));
    let waiting = kubectl.say(&["wait", "--for=delete", "configmap/late", "--timeout=20s"]);
    let deletion = async {
        tests::wait::until("kubectl watches", async || (server.count("watch", "configmaps") > 0).then_some(())).await;
        server.delete("cm", "default", "late");
    };
    let (said, ()) = tokio::join!(waiting, deletion);
    assert!(said.contains("condition met"), "{said}");
}

#[tokio::test]
async fn kubectl_is_told_what_roles_allow() {
    let server = ApiServer::setup().with_rbac().start().await;
    let token = server.account_token("default", "nobody");
    let Some(admin) = Kubectl::new(&server, server.admin_token()).await else { return };
    let Some(nobody) = Kubectl::new(&server, &token).await else { return };
    assert_eq!(admin.say(&["auth", "can-i", "create", "pods"]).await.trim(), "yes");
    assert!(!nobody.output(&["auth", "can-i", "create", "pods"]).await.status.success());
    let refused = nobody.fail(&["get", "pods"]).await;
    assert!(
        refused.contains(r#"User "system:serviceaccount:default:nobody" cannot list resource "pods""#),
        "{refused}"
    );
    admin.say(&["apply", "-f", admin.manifest(EVERYTHING).to_str().unwrap()]).await;
    assert_eq!(nobody.say(&["auth", "can-i", "create", "pods"]).await.trim(), "yes");
}
