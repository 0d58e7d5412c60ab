//! The connection to an API server.
//!
//! Owns where its address and the credentials come from, who this program says it is, and how long one call may take. Nothing is
//! tried again here: whoever calls knows whether that makes sense, and when. Never reads or writes an object.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject},
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use crate::call::CallError;

/// How long the API server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may be silent. Longer than a watch lasts, which may have nothing to tell for all its life.
const READ_TIMEOUT: Duration = Duration::from_secs(75);
/// How long it may refuse to take the bytes of a request.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Where Kubernetes puts the token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Where the address of an API server and the credentials for it come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// From the service account of the pod that this runs in.
    Pod,
    /// From a kubeconfig file, by a context of it, or by its current one.
    File(PathBuf, Option<String>),
    /// From the kubeconfig of the person at the terminal (`KUBECONFIG`, or `~/.kube/config`), by a context of it, or by its
    /// current one.
    Person(Option<String>),
}

/// Which API server, as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where address and credentials come from.
    pub access: Access,
    /// What the audit log of the API server calls this program: `name/version`.
    pub user_agent: String,
}

/// Why there is no connection to try.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No kubeconfig is set, and this is no pod.
    #[error(
        "this program does not run in a pod (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): name a kubeconfig \
         file, or run it in the cluster"
    )]
    NotInCluster,
    /// The pod has no token.
    #[error(
        "the pod has no service account token at {TOKEN}: set serviceAccountName and remove automountServiceAccountToken: false: \
         {0}"
    )]
    NoToken(#[source] io::Error),
    /// Another part of what Kubernetes gives a pod is not as it should be.
    #[error("what Kubernetes gives the pod to reach the API server cannot be used: {0}")]
    InCluster(#[source] InClusterFault),
    /// The file does not exist, or is no kubeconfig.
    #[error("the kubeconfig {} cannot be used: {source}; set the right file", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: KubeconfigFault,
    },
    /// The file names no context to use.
    #[error("the kubeconfig {} has no current context; name one of {known}", file.display())]
    NoContext {
        /// The file.
        file: PathBuf,
        /// The contexts there are.
        known: String,
    },
    /// There is no such context.
    #[error("the kubeconfig {} has no context {context:?}; it has {known}", file.display())]
    UnknownContext {
        /// The file.
        file: PathBuf,
        /// The context that was asked for.
        context: String,
        /// The contexts there are.
        known: String,
    },
    /// The name of the program cannot be sent.
    #[error("the user agent {0:?} is not a header value; write name/version")]
    UserAgent(String),
    /// The credentials or certificates in it cannot be used.
    #[error("the credentials for {server} cannot be used: {reason}; mend the user or the cluster in the kubeconfig")]
    Credentials {
        /// The address of the API server.
        server: String,
        /// What is wrong.
        reason: String,
    },
}

/// What is wrong with the environment of a pod, in the words of the client library.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InClusterFault(InClusterError);

/// What is wrong with a kubeconfig, in the words of the client library.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct KubeconfigFault(KubeconfigError);

/// One API server; a handle that is cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    server: String,
    namespace: String,
    verified: bool,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Finds address and credentials. Sends nothing: an API server that is down is no reason not to start; see [`Self::probe`].
    ///
    /// # Errors
    /// When there are none, or they cannot be used.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let mut config = match &options.access {
            Access::Pod => in_cluster()?,
            Access::File(file, context) => {
                from_kubeconfig(Kubeconfig::read_from(file), file, context.as_deref()).await?
            }
            Access::Person(context) => from_kubeconfig(Kubeconfig::read(), &of_person(), context.as_deref()).await?,
        };
        let agent = HeaderValue::from_str(&options.user_agent);
        let agent = agent.map_err(|_| ConnectError::UserAgent(options.user_agent.clone()))?;
        config.headers.push((HeaderName::from_static("user-agent"), agent));
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.write_timeout = Some(WRITE_TIMEOUT);
        config.reset_reader_on_write = true;
        config.default_retry = false;
        if config.accept_invalid_certs {
            tracing::warn!("the kubeconfig says insecure-skip-tls-verify: anybody on the path can be the API server");
        }
        let verified = !config.accept_invalid_certs;
        let (server, namespace) = (config.cluster_url.to_string(), config.default_namespace.clone());
        let server = server.trim_end_matches('/').to_owned();
        let client = Client::try_from(config)
            .map_err(|error| ConnectError::Credentials { server: server.clone(), reason: error.to_string() })?;
        Ok(Self { client, server, namespace, verified })
    }

    /// Asks the API server for its version, such as `v1.33.1`.
    ///
    /// # Errors
    /// When it cannot be reached, is not believed, or refuses.
    pub async fn probe(&self) -> Result<String, CallError> {
        let version = self.client.apiserver_version().await;
        version.map(|info| info.git_version).map_err(|error| CallError::of(&error, &self.server))
    }

    /// The address of the API server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The namespace of the service account, or of the context.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// One that a test answers for.
    #[cfg(test)]
    pub(crate) fn of(client: Client, server: &str) -> Self {
        Self { client, server: server.to_owned(), namespace: "default".to_owned(), verified: true }
    }

    /// Whether it has to prove that it is the API server.
    pub(crate) fn is_verified(&self) -> bool {
        self.verified
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Objects of a kind; without a namespace those of all of them, or of none.
    pub(crate) fn api(&self, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }
}

fn in_cluster() -> Result<Config, ConnectError> {
    Config::incluster().map_err(|error| match error {
        InClusterError::ReadEnvironmentVariable(_) => ConnectError::NotInCluster,
        InClusterError::ReadDefaultNamespace(source) | InClusterError::ReadCertificateBundle(source) => {
            ConnectError::NoToken(source)
        }
        error @ (InClusterError::ParseClusterPort(_)
        | InClusterError::ParseClusterUrl(_)
        | InClusterError::ParseCertificates(_)) => ConnectError::InCluster(InClusterFault(error)),
    })
}

/// What the kubeconfig of a person is called: a list of files, when the variable says so.
fn of_person() -> PathBuf {
    std::env::var_os("KUBECONFIG").map_or_else(|| "~/.kube/config".into(), PathBuf::from)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the enum is the library's, and grows with its features")]
async fn from_kubeconfig(
    kubeconfig: Result<Kubeconfig, KubeconfigError>,
    file: &Path,
    context: Option<&str>,
) -> Result<Config, ConnectError> {
    let fault = |error| ConnectError::Kubeconfig { file: file.to_owned(), source: KubeconfigFault(error) };
    let kubeconfig = kubeconfig.map_err(fault)?;
    let names: Vec<_> = kubeconfig.contexts.iter().map(|context| format!("{:?}", context.name)).collect();
    let known = || if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let options = KubeConfigOptions { context: context.map(ToOwned::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| match error {
        KubeconfigError::CurrentContextNotSet => ConnectError::NoContext { file: file.to_owned(), known: known() },
        KubeconfigError::LoadContext(context) => {
            ConnectError::UnknownContext { file: file.to_owned(), context, known: known() }
        }
        error => fault(error),
    })
}

#[cfg(test)]
mod tests;
