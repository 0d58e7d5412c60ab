//! A Kubernetes API server for tests: over TLS and HTTP as a real one, with its objects in memory.
//!
//! Owns what programs see of a cluster: discovery, objects, watches, server-side apply, tokens and roles; and how a test
//! changes the cluster, makes it fail and counts what it was asked. Never runs a pod: what commands in pods do is said by a test. What controllers do in a real cluster is
//! done at once, as far as our programs notice: definitions are established, owned objects and namespaces end. Not modelled:
//! refusing fields that a built-in kind has not, conversion of fields between versions, that both kinds of Event are one, rules
//! in CEL, tables for people, answers in protobuf, admission but for one refusal.
//!
//! ```text
//! connections (serve) --> desk: tokens, faults, account --> store: handle --> read | write | ending | watch
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use federation_pki::tls::provider;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

mod access;
mod cluster;
mod desk;
mod discovery;
mod ending;
mod exec;
mod failure;
mod fault;
mod fields;
mod handle;
mod kinds;
mod managed;
mod merge;
mod object;
mod patch;
mod pod;
mod protobuf;
mod read;
mod request;
mod schema;
mod select;
mod serve;
mod service;
mod shape;
mod store;
mod strategic;
mod strategy;
#[cfg(test)]
mod tests;
mod watch;
mod write;

use access::MASTERS;
use desk::Desk;
pub use exec::{Ended, Runs};
pub use fault::{Asked, Fault};
use store::Store;

/// The token that may do everything.
const ADMIN: &str = "the-admin-of-the-test";

/// How an API server shall be.
#[derive(Debug, Clone)]
pub struct Setup {
    dual_stack: bool,
    by_roles: bool,
    services: Option<Ipv4Addr>,
    bookmark_every: Duration,
    minor: Option<u32>,
}

impl Setup {
    /// Services can have addresses of IPv6 too.
    #[must_use]
    pub fn dual_stack(mut self) -> Self {
        self.dual_stack = true;
        self
    }

    /// Only what roles allow is allowed.
    #[must_use]
    pub fn with_rbac(mut self) -> Self {
        self.by_roles = true;
        self
    }

    /// Services get their addresses from the /16 of this one; 10.96.0.0/16 when it is not said.
    #[must_use]
    pub fn services_in(mut self, network: Ipv4Addr) -> Self {
        self.services = Some(network);
        self
    }

    /// How often watches are told how far they are; every second when it is not said.
    #[must_use]
    pub fn bookmark_every(mut self, every: Duration) -> Self {
        self.bookmark_every = every;
        self
    }

    /// It says that it is Kubernetes 1 with this minor version, and is not otherwise; 33 when it is not said.
    #[must_use]
    pub fn minor_version(mut self, minor: u32) -> Self {
        self.minor = Some(minor);
        self
    }

    /// Starts it, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is no free port, or no certificate can be made.
    pub async fn start(self) -> ApiServer {
        let mut store = Store::new(rand::random(), self.dual_stack);
        if let Some(network) = self.services {
            store.addresses.give_from(network);
        }
        if let Some(minor) = self.minor {
            store.minor = minor;
        }
        store.furnish(&desk::now());
        let desk = Arc::new(Desk::new(store, self.by_roles, self.bookmark_every));
        desk.admit(ADMIN, "kubernetes-admin", &[MASTERS]);
        let (tls, ca_pem) = certified();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = ApiServer { desk, tls, ca_pem, address, running: Mutex::default() };
        server.run(listener);
        server
    }
}

/// An API server that runs. It ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    desk: Arc<Desk>,
    tls: Arc<ServerConfig>,
    ca_pem: String,
    address: SocketAddr,
    running: Mutex<JoinSet<()>>,
}

impl ApiServer {
    /// One with a single stack, on which every token may do everything.
    ///
    /// # Panics
    /// As [`Setup::start`].
    pub async fn start() -> Self {
        Self::setup().start().await
    }

    /// One that is not as [`ApiServer::start`] makes it.
    #[must_use]
    pub fn setup() -> Setup {
        Setup {
            dual_stack: false,
            by_roles: false,
            services: None,
            bookmark_every: Duration::from_secs(1),
            minor: None,
        }
    }

    fn run(&self, listener: TcpListener) {
        let serving = serve::serve(self.desk.clone(), TlsAcceptor::from(self.tls.clone()), listener);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).spawn(serving);
    }

    /// Closes the port and every connection; the objects stay.
    pub async fn stop(&self) {
        let mut running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        self.desk.state().commands.abort_all();
        running.shutdown().await;
    }

    /// Opens the port again, the same one.
    ///
    /// # Panics
    /// When somebody else has taken it.
    pub async fn restart(&self) {
        let bound = crate::wait::until("the port of the API server is free again", async || {
            TcpListener::bind(self.address).await.ok()
        });
        self.run(bound.await);
    }

    /// Where it is, as `https://127.0.0.1:6443`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority of its certificate, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The token of somebody who may do everything.
    #[must_use]
    pub fn admin_token(&self) -> &str {
        ADMIN
    }

    /// A token of a ServiceAccount, which need not be there.
    #[must_use]
    pub fn account_token(&self, namespace: &str, name: &str) -> String {
        self.user_token(&format!("system:serviceaccount:{namespace}:{name}"), &[])
    }

    /// A token of a user in these groups.
    #[must_use]
    pub fn user_token(&self, name: &str, groups: &[&str]) -> String {
        let token = format!("token-of-{}", name.replace(':', "-"));
        self.desk.admit(&token, name, groups);
        token
    }

    /// A kubeconfig with one context, for the holder of the token.
    #[must_use]
    pub fn kubeconfig(&self, context: &str, token: &str) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};

        let (url, ca) = (self.url(), STANDARD.encode(&self.ca_pem));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {context}\nclusters:\n- name: {context}\n  cluster:\n    \
             server: {url}\n    certificate-authority-data: {ca}\nusers:\n- name: {context}\n  user:\n    token: {token}\n\
             contexts:\n- name: {context}\n  context:\n    cluster: {context}\n    user: {context}\n"
        )
    }

    /// What was asked so far, in order, by whomever; not what the test did with this handle.
    #[must_use]
    pub fn requests(&self) -> Vec<Asked> {
        self.desk.state().ledger.asked()
    }

    /// How often this was asked, of a resource written as in [`Asked::resource`].
    #[must_use]
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        self.requests().iter().filter(|asked| asked.verb == verb && asked.resource == resource).count()
    }

    /// The requests that would change something.
    #[must_use]
    pub fn writes(&self) -> Vec<Asked> {
        self.requests().into_iter().filter(Asked::is_write).collect()
    }

    /// Counts from zero again.
    pub fn forget_requests(&self) {
        self.desk.state().ledger.forget();
    }

    /// Makes requests to come go wrong.
    pub fn fault(&self, fault: Fault) {
        self.desk.state().ledger.expect(fault);
    }

    /// Takes back the faults that have not struck yet.
    pub fn heal(&self) {
        self.desk.state().ledger.heal();
    }

    /// Says what runs in a pod, which need not be there yet: whoever may `create` `pods/exec` gets to it.
    pub fn runs(&self, namespace: &str, pod: &str, runs: Arc<Runs>) {
        self.desk.state().running.put(namespace, pod, runs);
    }

    /// Ends every watch that is open.
    pub fn drop_watches(&self) {
        self.desk.cut_watches();
    }

    /// Forgets what was before now: a watch from an older version is told 410.
    pub fn compact(&self) {
        self.desk.state().store.compact();
    }
}

/// A new authority, and a certificate of it for 127.0.0.1.
fn certified() -> (Arc<ServerConfig>, String) {
    let made = "a new key makes a certificate";
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect(made)).expect(made);
    let names = ["localhost", "kubernetes.default.svc"].map(str::to_owned);
    let mut params = CertificateParams::new(names).expect("these are names of hosts");
    params.subject_alt_names.push(rcgen::SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().expect(made);
    let certificate = params.signed_by(&key, &authority).expect(made);
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a new key is well-formed");
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key))
        .expect("the certificate and its key fit");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (Arc::new(config), authority.pem())
}
