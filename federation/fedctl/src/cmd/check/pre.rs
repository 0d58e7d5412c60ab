//! `fedctl check --pre`: whether a cluster and the ways to its peers are ready, before anything is installed or joined.
//!
//! Changes nothing, and needs neither a gateway nor a credential of one. Where a gateway runs already, the ways are tried from
//! its pod, by the `fedctl` there: what a laptop reaches says little of what a pod does.

use federation_kube::{
    connect::Cluster,
    install::Manifest,
    pods::{PodError, Program as InCluster},
};
use federation_model::{addr::GatewayAddr, finding::Finding, names::Namespace, spiffe::TrustDomain};
use serde::{Deserialize, Serialize};

use super::{look, unreachable};
use crate::{
    Ending,
    args::{
        Target,
        install::{How, IMAGE, Identity, ImageName, InstallGateway, Place, Program, ServiceType},
    },
    connect, deploy,
    failure::Failure,
    path::{self, MAX_PATHS, Origin, Path},
    print::Console,
    render::findings::{self, FindingView},
};

const CLUSTER: &str = "cluster";
const PATH: &str = "path";
/// The most bytes of an answer from a pod: a thousand for each path.
const MAX_ANSWER: usize = 64 * 1024;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Preflight {
    /// Every finding.
    pub(crate) findings: Vec<FindingView>,
    /// The ways to the peers, which the findings tell in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) paths: Vec<Path>,
    /// Whether the ways were tried from the pod of the gateway: those from here say little of what a pod reaches.
    #[serde(skip)]
    pub(crate) origin_is_pod: bool,
}

/// The answer, as `-o json` has it.
#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    #[serde(flatten)]
    preflight: &'a Preflight,
}

/// What of an answer is read from a pod; its words are not, since they are of another place.
#[derive(Deserialize)]
struct FromPod {
    paths: Vec<Path>,
}

pub(super) async fn run(peers: &[GatewayAddr], target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    if peers.len() > MAX_PATHS {
        return Err(Failure::because(
            format!("{} peers are too many for one command", peers.len()),
            format!("--peer at most {MAX_PATHS} times"),
        ));
    }
    if peers.is_empty() && target.context.is_none() {
        return Err(Failure::because(
            "nothing is named that could be tested",
            "--context CONTEXT for a cluster, --peer HOST:PORT for the way to the gateway of another one",
        ));
    }
    let found = match &target.context {
        Some(_) => match connect::cluster(target).await {
            Ok(cluster) => preflight(target, &cluster, peers).await,
            Err(failure) => {
                let mut found = from_here(peers).await;
                found.findings.insert(0, unreachable(CLUSTER, &failure));
                found
            }
        },
        None => from_here(peers).await,
    };
    let ok = !found.findings.iter().any(FindingView::failed);
    let look = look(console);
    console.answer(&Answer { ok, preflight: &found }, || findings::table(&found.findings, look));
    Ok(if ok { Ending::Done } else { Ending::ChecksFailed })
}

/// Tests the cluster, and the ways to these peers.
async fn preflight(target: &Target, cluster: &Cluster, peers: &[GatewayAddr]) -> Preflight {
    let mut findings = facts(target, cluster).await;
    let Preflight { findings: told, paths, origin_is_pod } = paths(target, cluster, peers).await;
    findings.extend(told);
    Preflight { findings, paths, origin_is_pod }
}

/// Tests the cluster for a gateway in the namespace of the target. What cannot be tested is a finding too.
pub(crate) async fn facts(target: &Target, cluster: &Cluster) -> Vec<FindingView> {
    let namespace = &target.namespace;
    let facts = cluster.preflight(&usual(namespace), namespace.as_str()).await;
    facts.into_iter().map(|finding| FindingView::new(CLUSTER, finding)).collect()
}

/// Tests the ways to these peers: from the pod of the gateway where one runs, and from here where none does. Those beyond
/// [`MAX_PATHS`] are not tried, which is a finding; the paths are of the others, in their order.
pub(crate) async fn paths(target: &Target, cluster: &Cluster, peers: &[GatewayAddr]) -> Preflight {
    let namespace = &target.namespace;
    if peers.is_empty() {
        return Preflight::default();
    }
    let (peers, not_tried) = within_limit(peers);
    let mut tried = match from_pod(namespace, cluster, peers).await {
        Ok(tried) => tried,
        // None is there before it is installed: nothing is amiss.
        Err(PodError::Missing { .. }) => from_here(peers).await,
        Err(error) => {
            let mut tried = from_here(peers).await;
            tried.findings.insert(0, not_from_pod(&error, namespace));
            tried
        }
    };
    tried.findings.extend(not_tried);
    tried
}

/// The peers that are tried, and what is said of the others.
fn within_limit(peers: &[GatewayAddr]) -> (&[GatewayAddr], Option<FindingView>) {
    let (tried, others) = peers.split_at(peers.len().min(MAX_PATHS));
    let finding = others.first().map(|first| {
        Finding::warning(
            "paths",
            format!("{} of {} were not tried: a command tries {MAX_PATHS}", others.len(), peers.len()),
            format!("fedctl check --pre with --peer {first} and those after it"),
        )
    });
    (tried, finding.map(|finding| FindingView::new(PATH, finding)))
}

async fn from_here(peers: &[GatewayAddr]) -> Preflight {
    told(path::probe(peers).await, &Origin::Here)
}

fn told(paths: Vec<Path>, origin: &Origin) -> Preflight {
    let findings = paths.iter().map(|path| FindingView::new(PATH, path.finding(origin))).collect();
    Preflight { findings, paths, origin_is_pod: matches!(origin, Origin::Pod(_)) }
}

async fn from_pod(namespace: &Namespace, cluster: &Cluster, peers: &[GatewayAddr]) -> Result<Preflight, PodError> {
    let (name, container) = (Program::Gateway.name(), Program::Gateway.label());
    let texts: Vec<_> = peers.iter().map(ToString::to_string).collect();
    let command = ["fedctl", "check", "--pre", "--output", "json"].into_iter();
    let command: Vec<_> = command.chain(texts.iter().flat_map(|peer| ["--peer", peer])).collect();
    let there = InCluster { name, container, namespace: namespace.as_str() };
    let output = cluster.output(there, &command, MAX_ANSWER).await?;
    match answered(&output.bytes, peers) {
        Some(paths) => Ok(told(paths, &Origin::Pod(output.pod))),
        None => Err(PodError::Ended { pod: output.pod, said: "its answer cannot be read".to_owned() }),
    }
}

/// The paths in an answer, when it is about these peers.
fn answered(answer: &[u8], peers: &[GatewayAddr]) -> Option<Vec<Path>> {
    let FromPod { paths } = serde_json::from_slice(answer).ok()?;
    paths.iter().map(|path| &path.peer).eq(peers).then_some(paths)
}

fn not_from_pod(error: &PodError, namespace: &Namespace) -> FindingView {
    let hint = match error {
        PodError::Missing { .. } | PodError::NotRunning { .. } => {
            format!("kubectl describe pod -n {namespace} -l app.kubernetes.io/name={}", Program::Gateway.name())
        }
        PodError::Unverified { .. } => "kubectl config set-cluster NAME --certificate-authority FILE".to_owned(),
        PodError::Call(_) => format!("a context that may list pods and create pods/exec in {namespace}"),
        PodError::Ended { .. } => "one version of fedctl and of the image".to_owned(),
    };
    let detail = format!("they are tried from here, not from the pod of the gateway: {error}");
    FindingView::new(PATH, Finding::warning("paths", detail, hint))
}

/// What `fedctl install gateway` applies where no option says otherwise. The names in it matter for no test.
fn usual(namespace: &Namespace) -> Vec<Manifest> {
    const CONSTANT: &str = "the constant is a valid name";
    let how = How { print: false, wait: std::time::Duration::ZERO, force_conflicts: false };
    let text = deploy::gateway(&InstallGateway {
        cluster: "cluster".parse().expect(CONSTANT),
        trust_domain: TrustDomain::new("cluster.internal").expect(CONSTANT),
        advertise: Vec::new(),
        identity: Identity::SelfSigned,
        service_type: ServiceType::LoadBalancer,
        namespaces: Vec::new(),
        replicas: 1,
        place: Place {
            namespace: namespace.clone(),
            image: ImageName(IMAGE.to_owned()),
            priority_class: None,
            monitoring: false,
        },
        how,
    });
    Manifest::read_all(&text).expect("the templates are constants, and a test reads what they render")
}

#[cfg(test)]
mod tests {
    use federation_model::finding::Level;
    use serde_json::json;

    use super::*;

    fn peers(count: usize) -> Vec<GatewayAddr> {
        (1..=count).map(|port| format!("192.0.2.1:{port}").parse().unwrap()).collect()
    }

    #[test]
    fn peers_beyond_the_limit_are_counted_in_a_warning() {
        let few = peers(MAX_PATHS);
        assert_eq!(within_limit(&few), (&few[..], None));
        let many = peers(MAX_PATHS + 3);
        let (tried, finding) = within_limit(&many);
        assert_eq!(tried, few);
        let finding = finding.unwrap();
        assert_eq!((finding.check.as_str(), finding.level), ("paths", Level::Warning));
        assert!(finding.detail.starts_with("3 of 67 were not tried"), "{finding:?}");
        assert!(finding.hint.unwrap().contains("192.0.2.1:65 "));
    }

    #[test]
    fn an_answer_of_other_peers_or_of_a_size_that_is_never_sent_is_none() {
        let of = |peer: &str, payload: u16| {
            let path = json!({"peer": peer, "reach": "reachable", "rtt_micros": u64::MAX, "payload": payload});
            answered(json!({"paths": [path]}).to_string().as_bytes(), &peers(1))
        };
        assert!(told(of("192.0.2.1:1", 1200).unwrap(), &Origin::Pod("a".to_owned())).origin_is_pod);
        assert!(!told(of("192.0.2.1:1", 1452).unwrap(), &Origin::Here).origin_is_pod);
        for answer in [of("192.0.2.1:1", 0), of("192.0.2.1:1", 1300), of("192.0.2.1:2", 1200)] {
            assert_eq!(answer, None);
        }
    }
}
