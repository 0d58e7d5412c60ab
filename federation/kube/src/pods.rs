//! A program that runs in a pod, reached through the API server.
//!
//! Owns finding a pod that answers for a program, and a stream of bytes to a command that runs in it, or all that it says, as
//! `kubectl exec` has it.
//! Whoever may do that may do everything that the program may: the API server asks for the right to `create` `pods/exec`. Never
//! knows what the bytes mean.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{Pod, PodCondition},
};
use kube::{
    Api, ResourceExt as _,
    api::{AttachParams, AttachedProcess, ListParams},
    client::UpgradeConnectionError,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, ReadHalf, SimplexStream, WriteHalf},
    time::timeout,
};

use crate::{call::CallError, connect::Cluster};

/// The most pods of a program that are looked at.
const MAX_PODS: u32 = 100;
/// How long the API server and the node may take to start a command.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
/// Bytes on their way, for each direction.
const BUFFER: usize = 64 * 1024;
/// The most bytes of what a command that failed says.
const SAID: u64 = 4096;
/// How long a command that ended may take to say why.
const SAYS_WITHIN: Duration = Duration::from_secs(2);

/// How long a command may take whose whole output is waited for.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// A program of ours in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program<'a> {
    /// What its pods are labelled with: `app.kubernetes.io/name`, which is the name of what runs them too.
    pub name: &'a str,
    /// The container of the pod.
    pub container: &'a str,
    /// The namespace.
    pub namespace: &'a str,
}

/// Why a program in a pod cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// There is no pod of it.
    #[error("no pod of {program} is in the namespace {namespace} of {server}")]
    Missing {
        /// The program.
        program: String,
        /// The namespace.
        namespace: String,
        /// The API server.
        server: String,
    },
    /// There are pods, and none runs.
    #[error("no pod of {program} runs: {reason}")]
    NotRunning {
        /// The program.
        program: String,
        /// What is known of the first of them.
        reason: String,
    },
    /// Anybody on the path could be the API server, and would get what is carried.
    #[error(
        "the kubeconfig says insecure-skip-tls-verify for {server}, and what is carried must reach nobody else: give the cluster \
         its certificate-authority-data"
    )]
    Unverified {
        /// The API server.
        server: String,
    },
    /// The API server refused.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The command did not start, or ended at once.
    #[error("the command in the pod {pod} failed: {said}")]
    Ended {
        /// The pod.
        pod: String,
        /// What it said.
        said: String,
    },
}

/// The input and output of a command in a pod. The command ends with it.
pub struct PodStream {
    pod: String,
    input: WriteHalf<SimplexStream>,
    output: ReadHalf<SimplexStream>,
    /// Its task moves the bytes for as long as this lives.
    process: AttachedProcess,
}

/// What a command said on its standard output, until it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The pod it ran in.
    pub pod: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for PodStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodStream").field("pod", &self.pod).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Runs a command in a pod of a program, one that is ready if there is one, and of several the one that leads. The command
    /// says `greeting` before anything else; nothing of what follows it is taken.
    ///
    /// # Errors
    /// When no pod runs, the API server refuses, or the command says something else.
    pub async fn run(&self, program: Program<'_>, command: &[&str], greeting: &str) -> Result<PodStream, PodError> {
        let pod = self.first_of(program).await?;
        self.run_in(&pod, program, command, greeting).await
    }

    /// The same in one pod of it.
    ///
    /// # Errors
    /// As for [`Cluster::run`].
    pub async fn run_in(
        &self,
        pod: &str,
        program: Program<'_>,
        command: &[&str],
        greeting: &str,
    ) -> Result<PodStream, PodError> {
        let mut stream = self.start(pod, program, command).await?;
        let pod = stream.pod.clone();
        let ended = |said: &str| PodError::Ended { pod: pod.clone(), said: said.to_owned() };
        let mut said = vec![0; greeting.len()];
        match timeout(STARTS_WITHIN, stream.output.read_exact(&mut said)).await {
            Ok(Ok(_)) if said == greeting.as_bytes() => Ok(stream),
            Ok(Ok(_)) => Err(ended("it speaks another language; use the fedctl of the same version")),
            Ok(Err(_)) => Err(ended(&stream.why().await)),
            Err(_) => Err(ended(&format!("it was silent for {STARTS_WITHIN:?}"))),
        }
    }

    /// Whether there are pods of a program.
    ///
    /// # Errors
    /// When the API server refuses to tell.
    pub async fn has_pods(&self, name: &str, namespace: &str) -> Result<bool, CallError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), namespace);
        let found = pods.list_metadata(&ListParams::default().labels(&labelled(name)).limit(1)).await;
        found.map(|found| !found.items.is_empty()).map_err(|error| CallError::of(&error, self.server()))
    }

    /// Whether there is a Deployment of this name.
    ///
    /// # Errors
    /// When the API server refuses to tell.
    pub async fn deployed(&self, name: &str, namespace: &str) -> Result<bool, CallError> {
        let deployments: Api<Deployment> = Api::namespaced(self.client(), namespace);
        let found = deployments.get_metadata_opt(name).await;
        found.map(|found| found.is_some()).map_err(|error| CallError::of(&error, self.server()))
    }

    /// Runs a command in a pod of a program to its end. Its standard input stays open, and nothing comes: ending it would race
    /// with the end of the command. One that failed has still said what it said; only one that said nothing is an error.
    ///
    /// # Errors
    /// When no pod runs, the API server refuses, or the command says nothing, more than `limit` bytes, or does not end within
    /// a minute.
    pub async fn output(&self, program: Program<'_>, command: &[&str], limit: usize) -> Result<Output, PodError> {
        let pod = self.first_of(program).await?;
        let (mut stream, mut bytes) = (self.start(&pod, program, command).await?, Vec::new());
        let ended = |said: String| PodError::Ended { pod: pod.clone(), said };
        // One more than may be, so that too much is noticed.
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        let read = timeout(ENDS_WITHIN, (&mut stream.output).take(most).read_to_end(&mut bytes)).await;
        match read {
            Ok(Ok(0)) => Err(ended(stream.why().await)),
            Ok(Ok(length)) if length > limit => Err(ended(format!("it said more than {limit} bytes"))),
            Ok(Ok(_)) => Ok(Output { pod, bytes }),
            Ok(Err(error)) => Err(ended(error.to_string())),
            Err(_) => Err(ended(format!("it did not end within {ENDS_WITHIN:?}"))),
        }
    }

    /// Starts a command in a pod of a program.
    async fn start(&self, pod: &str, program: Program<'_>, command: &[&str]) -> Result<PodStream, PodError> {
        if !self.is_verified() {
            return Err(PodError::Unverified { server: self.server().to_owned() });
        }
        let pods: Api<Pod> = Api::namespaced(self.client(), program.namespace);
        let params = AttachParams {
            container: Some(program.container.to_owned()),
            stdin: true,
            max_stdin_buf_size: Some(BUFFER),
            max_stdout_buf_size: Some(BUFFER),
            max_stderr_buf_size: Some(BUFFER),
            ..AttachParams::default()
        };
        let started = timeout(STARTS_WITHIN, pods.exec(pod, command.iter().copied(), &params)).await;
        let ended = |said: String| PodError::Ended { pod: pod.to_owned(), said };
        let mut process = match started {
            Ok(Ok(process)) => process,
            Ok(Err(error)) => return Err(self.not_started(&error, pod)),
            Err(_) => return Err(ended(format!("it did not start within {STARTS_WITHIN:?}"))),
        };
        let (Some(input), Some(output)) = (process.stdin(), process.stdout()) else {
            return Err(ended("it has no input and output".to_owned()));
        };
        Ok(PodStream { pod: pod.to_owned(), input, output, process })
    }

    /// The pods of a program that run: those that are ready first, and of these the one that leads. There is at least one.
    ///
    /// # Errors
    /// When none runs, or the API server refuses to tell.
    pub async fn running(&self, program: Program<'_>) -> Result<Vec<String>, PodError> {
        let pods: Api<Pod> = Api::namespaced(self.client(), program.namespace);
        let params = ListParams::default().labels(&labelled(program.name)).limit(MAX_PODS);
        let mut found = pods.list(&params).await.map_err(|error| CallError::of(&error, self.server()))?.items;
        let several = found.iter().filter(|pod| is_ready(pod)).count() > 1;
        let leader = if several { self.leader_of(program).await } else { None };
        found.sort_by_key(|pod| (!is_ready(pod), leader != pod.metadata.name, pod.name_any()));
        let Some(first) = found.first() else {
            return Err(PodError::Missing {
                program: program.name.to_owned(),
                namespace: program.namespace.to_owned(),
                server: self.server().to_owned(),
            });
        };
        let running: Vec<_> = found.iter().filter(|pod| runs(pod)).map(|pod| pod.name_any()).collect();
        if running.is_empty() {
            return Err(PodError::NotRunning { program: program.name.to_owned(), reason: state_of(first) });
        }
        Ok(running)
    }

    async fn first_of(&self, program: Program<'_>) -> Result<String, PodError> {
        Ok(self.running(program).await?.swap_remove(0))
    }

    /// The pod that leads, where that can be told: it writes what all of them show.
    async fn leader_of(&self, program: Program<'_>) -> Option<String> {
        let leases: Api<Lease> = Api::namespaced(self.client(), program.namespace);
        leases.get_opt(program.name).await.ok()??.spec?.holder_identity
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the library's, and grows with its features")]
    fn not_started(&self, error: &kube::Error, pod: &str) -> PodError {
        match error {
            // Of an answer that is no upgrade only the status is left.
            kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => {
                let reason = format!("a command in the pod {pod}: {code}");
                PodError::Call(CallError::of_code(code.as_u16(), &reason, self.server()))
            }
            kube::Error::UpgradeConnection(error) => PodError::Ended { pod: pod.to_owned(), said: error.to_string() },
            error => PodError::Call(CallError::of(error, self.server())),
        }
    }
}

impl PodStream {
    /// The pod.
    #[must_use]
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// Why the command ended: what it said, or else what the node says.
    async fn why(&mut self) -> String {
        let mut said = Vec::new();
        if let Some(errors) = self.process.stderr() {
            let _ = timeout(SAYS_WITHIN, errors.take(SAID).read_to_end(&mut said)).await;
        }
        // It goes to a terminal, and comes from whoever runs in that pod.
        let said = String::from_utf8_lossy(&said).replace(|c: char| c.is_control() && c != '\n', " ");
        if !said.trim().is_empty() {
            return said.trim().to_owned();
        }
        let status = match self.process.take_status() {
            Some(status) => timeout(SAYS_WITHIN, status).await.ok().flatten(),
            None => None,
        };
        status.and_then(|status| status.message).unwrap_or_else(|| "it ended without a word".to_owned())
    }
}

impl AsyncRead for PodStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for PodStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}

fn labelled(name: &str) -> String {
    format!("app.kubernetes.io/name={name}")
}

fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    runs(pod) && conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// What is known of a pod that does not run.
fn state_of(pod: &Pod) -> String {
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        return format!("{name} is being deleted");
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
    format!("{name} is {}", obstacle(pod).or(phase).unwrap_or_else(|| "Unknown".to_owned()))
}

/// Why a pod does not run, in the words of the kubelet or of the scheduler.
pub(crate) fn obstacle(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let ended = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let reason = waiting.reason.clone()?;
        let more = waiting.message.as_ref().or_else(|| ended?.message.as_ref());
        Some(more.map_or_else(|| reason.clone(), |more| format!("{reason}: {more}")))
    });
    let unscheduled = || {
        let refused = |one: &&PodCondition| one.type_ == "PodScheduled" && one.status == "False";
        status.conditions.iter().flatten().find(refused)?.message.clone()
    };
    waiting.or_else(unscheduled)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_that_ends_or_waits_does_not_run() {
        let running = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}});
        assert!(runs(&pod(running.clone())) && !is_ready(&pod(running.clone())));
        let mut ending = running.clone();
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        assert!(!runs(&pod(ending.clone())));
        assert_eq!(state_of(&pod(ending)), "a is being deleted");
        let mut ready = running;
        ready["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
        assert!(is_ready(&pod(ready)));
    }

    #[test]
    fn a_pod_that_waits_says_why() {
        let waiting = json!({"metadata": {"name": "a"}, "status": {"phase": "Pending", "containerStatuses": [
            {"name": "gateway", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]}});
        assert_eq!(state_of(&pod(waiting)), "a is ErrImagePull: not found");
        let unscheduled = json!({"metadata": {"name": "a"}, "status": {"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}});
        assert_eq!(obstacle(&pod(unscheduled)).unwrap(), "0/1 nodes");
        assert_eq!(state_of(&pod(json!({"metadata": {"name": "a"}}))), "a is Unknown");
    }
}
