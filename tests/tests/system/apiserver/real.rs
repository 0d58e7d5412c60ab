//! The API server of the tests beside a real one: the same questions, the same answers.
//!
//! Owns a real one, etcd included, where `KUBEBUILDER_ASSETS` names a directory with both, and the comparison. Elsewhere this is
//! skipped, and said. What is known to differ is not asked.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
};

use http::Method;
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{apiserver::ApiServer, skip, wait};
use tokio::process::{Child, Command};

use super::caller::{Answer, Caller, Http, Place};

/// Method, path, type of the body, body; `WAIT` for a path that is served a little later.
const QUESTIONS: &str = include_str!("questions.json");
const TOKEN: &str = "the-admin-of-the-test";

static CHANCE: LazyLock<Regex> = LazyLock::new(|| {
    let uid = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    Regex::new(&format!(r"{uid}|10\.96\.\d+\.\d+|\d{{4}}-\d\d-\d\dT[\d:.]+Z")).unwrap()
});

/// A real API server.
struct Real {
    address: SocketAddr,
    directory: TempDir,
    _programs: [Child; 2],
}

fn assets() -> Option<PathBuf> {
    let what = "the comparison with a real kube-apiserver";
    let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
        skip::say(what, "KUBEBUILDER_ASSETS names no directory with etcd and kube-apiserver");
        return None;
    };
    let lacks = ["etcd", "kube-apiserver"].into_iter().find(|program| !assets.join(program).is_file());
    if let Some(program) = lacks {
        skip::say(what, &format!("there is no {program} in {}", assets.display()));
        return None;
    }
    Some(assets)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn run(program: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}

impl Real {
    fn start(assets: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let in_directory = |name: &str| directory.path().join(name).display().to_string();
        let (port, store, peers) = (free_port(), free_port(), free_port());
        let etcd = run(
            &assets.join("etcd"),
            &[
                format!("--data-dir={}", in_directory("etcd")),
                "--unsafe-no-fsync".to_owned(),
                format!("--listen-client-urls=http://127.0.0.1:{store}"),
                format!("--advertise-client-urls=http://127.0.0.1:{store}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peers}"),
                format!("--initial-advertise-peer-urls=http://127.0.0.1:{peers}"),
                format!("--initial-cluster=default=http://127.0.0.1:{peers}"),
            ],
        );
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(in_directory("sa.key"), key.serialize_pem()).unwrap();
        std::fs::write(in_directory("sa.pub"), key.public_key_pem()).unwrap();
        std::fs::write(in_directory("tokens"), format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
        let server = run(
            &assets.join("kube-apiserver"),
            &[
                format!("--secure-port={port}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--advertise-address=127.0.0.1".to_owned(),
                "--endpoint-reconciler-type=none".to_owned(),
                format!("--etcd-servers=http://127.0.0.1:{store}"),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
                format!("--service-account-key-file={}", in_directory("sa.pub")),
                format!("--service-account-signing-key-file={}", in_directory("sa.key")),
                format!("--token-auth-file={}", in_directory("tokens")),
                format!("--cert-dir={}", in_directory("pki")),
            ],
        );
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { address, directory, _programs: [etcd, server] }
    }

    /// Connects once it is ready.
    async fn caller(&self) -> Caller {
        let certificate = self.directory.path().join("pki/apiserver.crt");
        wait::until("the real kube-apiserver is ready", async || {
            let ca_pem = std::fs::read_to_string(&certificate).ok()?;
            let place = Place { address: self.address, ca_pem: &ca_pem };
            let mut caller = Caller::at(place, Http::Two, Some(TOKEN)).await.ok()?;
            let ready = caller.try_ask(Method::GET, "/readyz", None).await?;
            (ready.code == 200).then_some(caller)
        })
        .await
    }
}

async fn asked(caller: &mut Caller, (method, path, media, body): (&str, &str, &str, &Value)) -> Answer {
    caller.media(match media {
        "apply" => "application/apply-patch+yaml",
        "merge" => "application/merge-patch+json",
        "json-patch" => "application/json-patch+json",
        "strategic" => "application/strategic-merge-patch+json",
        "text" => "text/plain",
        _ => "application/json",
    });
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    caller.ask(method, path, Some(body).filter(|body| !body.is_null())).await
}

/// An answer without what is left to chance or to the clock.
fn essence(answer: &Answer) -> Value {
    let body = CHANCE.replace_all(&answer.body, "(by chance)");
    let mut body: Value = serde_json::from_str(&body).unwrap_or_else(|_| json!({"text": body}));
    if let Some(causes) = body.pointer_mut("/details/causes") {
        // In no order, and sometimes twice.
        let once: BTreeSet<_> = causes.as_array().into_iter().flatten().map(Value::to_string).collect();
        *causes = json!(once);
        if once.len() > 1 {
            body["message"] = Value::Null;
        }
    }
    settle(&mut body);
    json!({"code": answer.code, "body": body})
}

fn settle(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|name, _| !["resourceVersion", "storageVersionHash", "remainingItemCount"].contains(&name.as_str()));
        if let Some(token) = map.get_mut("continue").filter(|token| *token != "") {
            *token = "(a token)".into();
        }
        if let Some(entries) = map.get_mut("managedFields").and_then(Value::as_array_mut) {
            // They are ordered by the second in which they were written.
            entries.sort_by_key(Value::to_string);
        }
        map.values_mut().for_each(settle);
    }
    value.as_array_mut().into_iter().flatten().for_each(settle);
}

#[tokio::test]
async fn a_real_kube_apiserver_gives_the_same_answers() {
    let Some(assets) = assets() else { return };
    let (double, real) = (ApiServer::start().await, Real::start(&assets));
    let mut ours = Caller::new(&double, Http::Two, Some(double.admin_token())).await;
    let mut theirs = real.caller().await;
    let questions: Vec<(String, String, String, Value)> = serde_json::from_str(QUESTIONS).unwrap();
    let mut differences = Vec::new();
    for (method, path, media, body) in &questions {
        if method == "WAIT" {
            wait::until("the definition is served", async || {
                (theirs.ask(Method::GET, path, None).await.code == 200).then_some(())
            })
            .await;
            continue;
        }
        let question = (method.as_str(), path.as_str(), media.as_str(), body);
        let (our, their) = (essence(&asked(&mut ours, question).await), essence(&asked(&mut theirs, question).await));
        if our != their {
            differences.push(format!("{method} {path} {media} {body}\n  ours   {our}\n  theirs {their}"));
        }
    }
    assert!(questions.len() > 100, "the questions were not read");
    let count = differences.len();
    assert!(differences.is_empty(), "{count} of {} differ:\n{}", questions.len(), differences.join("\n"));
}
