//! A real API server: `etcd` and `kube-apiserver` of the directory that `KUBEBUILDER_ASSETS` names, as envtest has it.
//!
//! Owns their processes and certificates. What is done to the cluster is done with `kubectl`, which is in the same directory.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::TcpListener, process::Command};

use crate::{
    program::{Place, Program},
    skip,
    wait::until,
};

/// The variable of envtest.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const TOKEN: &str = "the-token-of-the-tests";

/// A real API server with RBAC, which ends with the value.
#[derive(Debug)]
pub struct RealServer {
    assets: PathBuf,
    kubeconfig: PathBuf,
    address: SocketAddr,
    ca_pem: String,
    _server: Program,
    _etcd: Program,
}

impl RealServer {
    /// Starts one, where there is any; says so when there is none.
    ///
    /// # Panics
    /// When it is there and does not start.
    pub async fn start(what: &str, services: &str) -> Option<Self> {
        let Some(assets) = env::var_os(ASSETS).map(PathBuf::from) else {
            skip::say(what, "KUBEBUILDER_ASSETS names no directory with etcd and kube-apiserver");
            return None;
        };
        let etcd = free_port().await;
        let peers = free_port().await;
        let (client, peer) = (format!("http://{etcd}"), format!("http://{peers}"));
        let store = Place::default();
        let data = store.path().join("data");
        let arguments = [
            "--unsafe-no-fsync",
            "--data-dir",
            path(&data),
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &format!("default={peer}"),
        ];
        let etcd = store.run(path(&assets.join("etcd")), &arguments, etcd).await;
        let place = Place::default();
        let (ca_pem, address) = (certificates(&place), free_port().await);
        let server = place.path().to_owned();
        let file = |name: &str| path(&server.join(name)).to_owned();
        let arguments = [
            format!("--etcd-servers={client}"),
            format!("--secure-port={}", address.port()),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--service-account-key-file={}", file("accounts.pub")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--service-cluster-ip-range={services}"),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let running = place.run(path(&assets.join("kube-apiserver")), &arguments, address).await;
        let kubeconfig = server.join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_of(address, &ca_pem, TOKEN)).expect("the directory takes files");
        let real = Self { assets, kubeconfig, address, ca_pem, _server: running, _etcd: etcd };
        real.ready().await;
        Some(real)
    }

    async fn ready(&self) {
        until("the API server is ready", async || {
            self.kubectl(&["get", "--raw", "/readyz"], None).await.ok().filter(|said| said.trim() == "ok").map(drop)
        })
        .await;
    }

    /// A kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        kubeconfig_of(self.address, &self.ca_pem, TOKEN)
    }

    /// A kubeconfig of a service account that is there.
    ///
    /// # Panics
    /// When it gets no token.
    pub async fn kubeconfig_of_account(&self, namespace: &str, name: &str) -> String {
        let token = self.kubectl(&["create", "token", name, "-n", namespace, "--duration=1h"], None).await;
        kubeconfig_of(self.address, &self.ca_pem, token.expect("the account is there").trim())
    }

    /// Runs `kubectl`, and says what it says.
    ///
    /// # Errors
    /// What it says when it fails.
    ///
    /// # Panics
    /// When it cannot be run.
    pub async fn kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
        let mut command = Command::new(self.assets.join("kubectl"));
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("kubectl is beside the API server");
        if let Some(mut stdin) = child.stdin.take() {
            // One that reads nothing closes it; what it says tells why.
            let _ = stdin.write_all(input.unwrap_or("").as_bytes()).await;
        }
        let output = child.wait_with_output().await.expect("a child that was started ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Applies an object, and its status where it has one.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn put(&self, object: &Value) {
        let apply = |more: &'static [&'static str]| {
            let arguments: Vec<&str> =
                ["apply", "--server-side", "--force-conflicts", "--field-manager=tests", "-f", "-"]
                    .iter()
                    .chain(more)
                    .copied()
                    .collect();
            let text = object.to_string();
            async move { self.kubectl(&arguments, Some(&text)).await }
        };
        until(&format!("{} is accepted", object["metadata"]["name"]), async || match apply(&[]).await {
            Ok(_) => Some(()),
            // A definition that was made just now is served a moment later.
            Err(error) if error.contains("no matches for kind") || error.contains("not found") => None,
            Err(error) => panic!("{object}: {error}"),
        })
        .await;
        if object.get("status").is_some() {
            apply(&["--subresource=status"]).await.unwrap_or_else(|error| panic!("the status of {object}: {error}"));
        }
    }

    /// An object, if it is there.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let said =
            self.kubectl(&["get", kind, name, "-n", namespace, "-o", "json", "--show-managed-fields"], None).await;
        serde_json::from_str(&said.ok()?).ok()
    }

    /// Replaces an object by what `change` makes of it.
    ///
    /// # Panics
    /// When it is not there, or refused.
    pub async fn edit(&self, kind: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(kind, namespace, name).await.expect("what is edited is there");
        change(&mut object);
        let replaced =
            self.kubectl(&["replace", "--field-manager=somebody", "-f", "-"], Some(&object.to_string())).await;
        replaced.expect("the edit is accepted");
    }

    /// Deletes an object, if it is there.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        // One that is gone already is as good.
        let _ =
            self.kubectl(&["delete", kind, name, "-n", namespace, "--ignore-not-found", "--wait=false"], None).await;
    }
}

async fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("127.0.0.1 has a free port");
    listener.local_addr().expect("a bound socket has an address")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("paths of the tests are text")
}

/// Writes what the API server proves itself with, and who may use it; the authority of its certificate.
fn certificates(place: &Place) -> String {
    let key = || KeyPair::generate().expect("a key can be made");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, key()).expect("an authority can be made");
    let mut leaf = CertificateParams::default();
    leaf.subject_alt_names = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
    let (leaf_key, accounts) = (key(), key());
    let leaf = leaf.signed_by(&leaf_key, &authority).expect("a leaf can be issued");
    let _ = place.file("server.pem", &leaf.pem());
    let _ = place.file("server.key", &leaf_key.serialize_pem());
    let _ = place.file("accounts.key", &accounts.serialize_pem());
    let _ = place.file("accounts.pub", &accounts.public_key_pem());
    let _ = place.file("tokens.csv", &format!("{TOKEN},admin,admin,system:masters\n"));
    authority.pem()
}

fn kubeconfig_of(address: SocketAddr, ca_pem: &str, token: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let authority = BASE64_STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: real\n\
         clusters: [{{name: real, cluster: {{server: \"https://{address}\", certificate-authority-data: {authority}}}}}]\n\
         users: [{{name: real, user: {{token: \"{token}\"}}}}]\n\
         contexts: [{{name: real, context: {{cluster: real, user: real}}}}]\n"
    )
}
