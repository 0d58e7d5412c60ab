//! The programs that run in a Kubernetes cluster, as a person with a kubeconfig reaches them.
//!
//! Owns the connection to the cluster that is meant, and the way to a program in it: `fedctl bridge` in its pod, at the other end
//! of an exec. No port is opened, no credential leaves the pod, and the API server says who may. Never interprets what is carried.

use federation_kube::{
    connect::{Access, Cluster, ConnectOptions},
    pods::{PodError, PodStream, Program as InCluster},
};

use crate::{
    args::{
        Target,
        install::{MAX_REPLICAS, Program},
    },
    bridge,
    failure::{Failure, OrHint as _},
};

/// The cluster of the context that is meant, or else of the current one. It answers.
pub(crate) async fn cluster(target: &Target) -> Result<Cluster, Failure> {
    let what = "cannot connect to the cluster";
    let options = ConnectOptions {
        access: match &target.kubeconfig {
            Some(file) => Access::File(file.clone(), target.context.clone()),
            None => Access::Person(target.context.clone()),
        },
        user_agent: concat!("fedctl/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let cluster = Cluster::connect(&options).await;
    let cluster = cluster.or_hint(what, "kubectl config get-contexts, then --context CONTEXT")?;
    cluster.probe().await.or_hint(what, "kubectl version with the same context")?;
    Ok(cluster)
}

/// The way to a program in the cluster that is meant.
pub(super) async fn reach(target: &Target, program: Program) -> Result<PodStream, Failure> {
    let (cluster, there) = (cluster(target).await?, in_cluster(target, program));
    let reached = cluster.run(there, &command(there), bridge::GREETING).await;
    reached.map_err(|error| unreached(error, there))
}

/// The ways to each of its pods, by their names; to no more than a cluster may have gateways.
pub(super) async fn reach_all(
    target: &Target,
    program: Program,
) -> Result<Vec<(String, Result<PodStream, Failure>)>, Failure> {
    let (cluster, there) = (cluster(target).await?, in_cluster(target, program));
    let mut reached = Vec::new();
    let pods = cluster.running(there).await.map_err(|error| unreached(error, there))?;
    for pod in pods.into_iter().take(usize::from(MAX_REPLICAS)) {
        let stream = cluster.run_in(&pod, there, &command(there), bridge::GREETING).await;
        reached.push((pod, stream.map_err(|error| unreached(error, there))));
    }
    Ok(reached)
}

fn in_cluster(target: &Target, program: Program) -> InCluster<'_> {
    InCluster { name: program.name(), container: program.label(), namespace: target.namespace.as_str() }
}

fn command(there: InCluster<'_>) -> [&str; 3] {
    ["fedctl", "bridge", there.container]
}

fn unreached(error: PodError, there: InCluster<'_>) -> Failure {
    let InCluster { name, container, namespace } = there;
    let hint = match &error {
        PodError::Missing { .. } => {
            format!(
                "--namespace NAMESPACE, when it is in another one; or fedctl install {container} with the same context"
            )
        }
        PodError::NotRunning { .. } => {
            format!("kubectl describe pod -n {namespace} -l app.kubernetes.io/name={name}")
        }
        PodError::Unverified { .. } => "kubectl config set-cluster NAME --certificate-authority FILE".to_owned(),
        PodError::Call(_) => format!("a context that may list pods and create pods/exec in {namespace}"),
        PodError::Ended { pod, said } => {
            let hint = format!("kubectl logs -n {namespace} {pod}; and one version of fedctl and of the image");
            return Failure::because(format!("fedctl in the pod {pod} says: {}", reason(said)), hint);
        }
    };
    Failure::new(error, hint)
}

/// What a `fedctl` said is wrong, without what it would have a person in the pod do.
fn reason(said: &str) -> String {
    let lines = said.lines().map(str::trim).filter(|line| !line.starts_with("try:"));
    lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_fedctl_in_a_pod_only_the_reason_is_told() {
        assert_eq!(reason("error: it is away\n  because: of this\n  try: that\n"), "it is away because: of this");
        assert_eq!(reason("exec format error"), "exec format error");
    }
}
