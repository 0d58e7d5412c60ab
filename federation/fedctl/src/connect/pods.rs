//! The programs that run in a Kubernetes cluster, as a person with a kubeconfig reaches them.
//!
//! Owns the connection to the cluster that is meant, and the way to a program in it: `fedctl bridge` in its pod, at the other end
//! of an exec. No port is opened, no credential leaves the pod, and the API server says who may. Never interprets what is carried.

use federation_kube::{
    connect::{Access, Cluster, ConnectOptions},
    pods::{PodError, PodStream, Program as InCluster},
};

use crate::{
    args::{Target, install::Program},
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
    let cluster = cluster(target).await?;
    let (name, container, namespace) = (program.name(), program.label(), target.namespace.as_str());
    let there = InCluster { name, container, namespace };
    let reached = cluster.run(there, &["fedctl", "bridge", container], bridge::GREETING).await;
    reached.map_err(|error| {
        let hint = match &error {
            PodError::Missing { .. } => format!(
                "--namespace NAMESPACE, when it is in another one; or fedctl install {container} with the same context"
            ),
            PodError::NotRunning { .. } => {
                format!("kubectl describe pod -n {namespace} -l app.kubernetes.io/name={name}")
            }
            PodError::Call(_) => format!("a context that may list pods and create pods/exec in {namespace}"),
            PodError::Ended { pod, .. } => {
                format!("kubectl logs -n {namespace} {pod}; and one version of fedctl and of the image")
            }
        };
        Failure::new(error, hint)
    })
}
