//! One cluster of a fleet: its gateway, its directories and its addresses.
//!
//! Owns the gateway's process and everything that survives it. Never knows of other clusters.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use federation_client::gateway::{GatewayClient, GatewayError, messages};
use federation_model::spiffe::TrustDomain;
use federation_pki::ca::Authority;
use gateway::{app::Gateway, config::Config};
use gateway_tunnel::TunnelSocket;
use quinn::TokioRuntime;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use super::block::Block;
use crate::{
    client::rest,
    dns::{self, Type},
    http,
    manifests::Export,
    net::Network,
    process::Process,
    wait::until,
};

const SNI_PORT: u16 = 15080;
const MTLS_PORT: u16 = 15081;
const DNS_PORT: u16 = 15053;
const ADMIN_PORT: u16 = 15000;

/// What is special about a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Its trust domain.
    pub trust_domain: String,
    /// Whether other clusters can dial it.
    pub advertises: bool,
    /// How long its peers may be silent. Long, so that a slow machine loses no peer; tests of lost peers take less.
    pub lease: Duration,
    /// Further lines of the section `[tunnel]`.
    pub tunnel: String,
    /// Lines of the section `[limits]`.
    pub limits: String,
    /// Lines of the section `[identity]`.
    pub identity: String,
    /// Lines of the section `[delivery]`.
    pub delivery: String,
    /// Lines of the section `[kubernetes]`, for one whose objects are in an API server; in manifests when there are none.
    pub kubernetes: Option<String>,
}

impl Settings {
    /// A cluster that advertises, with the defaults of the gateway.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            trust_domain: format!("{name}.example"),
            advertises: true,
            lease: Duration::from_secs(10),
            tunnel: String::new(),
            limits: String::new(),
            identity: String::new(),
            delivery: String::new(),
            kubernetes: None,
        }
    }

    /// One whose objects are in the API server of this kubeconfig, and whose state is not; with further lines of the section
    /// `[kubernetes]`.
    #[must_use]
    pub fn in_kubernetes(name: &str, kubeconfig: &Path, lines: &str) -> Self {
        let kubernetes = format!("kubeconfig = \"{}\"\n{lines}", kubeconfig.display());
        Self { kubernetes: Some(kubernetes), ..Self::of(name) }
    }

    /// One that nobody can dial.
    #[must_use]
    pub fn outbound_only(name: &str) -> Self {
        Self { advertises: false, ..Self::of(name) }
    }

    /// One that soon notices that a peer is lost.
    #[must_use]
    pub fn attentive(name: &str) -> Self {
        Self { lease: Duration::from_secs(2), ..Self::of(name) }
    }

    /// With lines of the section `[limits]`.
    #[must_use]
    pub fn limits(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.limits);
        self
    }
}

/// A cluster with a gateway that can be stopped and started.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    dir: PathBuf,
    block: Block,
    tunnel: SocketAddr,
    network: Network,
    process: Option<Process>,
}

impl Cluster {
    /// A cluster whose gateway has not started; it will be at `tunnel` of the network.
    ///
    /// # Panics
    /// When its directory cannot be made.
    #[must_use]
    pub fn new(settings: Settings, dir: &Path, network: &Network, tunnel: SocketAddr) -> Self {
        let dir = dir.join(&settings.name);
        std::fs::create_dir_all(dir.join("manifests")).expect("the directory of the test can be written");
        Self { settings, dir, block: Block::claim(), tunnel, network: network.clone(), process: None }
    }

    /// Starts the gateway, with what it kept when it ran before.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn try_start(&mut self) -> anyhow::Result<()> {
        let file = self.dir.join("gateway.toml");
        std::fs::write(&file, self.config())?;
        let config: Config = federation_runtime::config::load(Some(&file), &BTreeMap::new())?;
        let config = config.checked()?;
        let socket = TunnelSocket::Abstract(self.network.socket(self.tunnel), Arc::new(TokioRuntime));
        let starting = Process::start(&self.settings.name, |stop| async move {
            let gateway = Gateway::start(config, socket, stop).await?;
            Ok(((), async move { gateway.run().await.into_result() }))
        });
        let (process, ()) = starting.await?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts the gateway, with what it kept when it ran before.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(&mut self) {
        let started = self.try_start().await;
        started.unwrap_or_else(|error| panic!("the gateway of {} starts: {error:#}", self.settings.name));
    }

    /// Ends the gateway as the loss of its host does: nothing is told to anybody.
    pub async fn kill(&mut self) {
        self.network.unplug(self.tunnel);
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Asks the gateway to stop, and goes on while it drains.
    pub fn ask_to_stop(&self) {
        if let Some(process) = &self.process {
            process.ask_to_stop();
        }
    }

    /// Stops the gateway as SIGTERM does, and waits until it has drained.
    ///
    /// # Panics
    /// When it ends with an error.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            let ended = process.stop().await;
            ended.unwrap_or_else(|error| panic!("the gateway of {} stops: {error:#}", self.settings.name));
        }
    }

    fn config(&self) -> String {
        let Settings { name, trust_domain, advertises, lease, tunnel, limits, identity, delivery, kubernetes } =
            &self.settings;
        let source = kubernetes.as_ref().map(|lines| {
            let ports = self.block.ports();
            let (first, last) = (ports.start(), ports.end());
            let kept = if lines.contains("state_secret") { "" } else { "state_secret = \"\"\n" };
            format!(
                "source = \"kubernetes\"\n[kubernetes]\nnamespace = \"landbridge-system\"\npod = \"{name}-0\"\n\
                 import_ports = \"{first}-{last}\"\n{kept}{lines}\n"
            )
        });
        let source = source.unwrap_or_default();
        let advertise = if *advertises { format!("\"{}\"", self.tunnel) } else { String::new() };
        let (lease, idle) = (lease.as_millis(), lease.as_millis() * 2);
        format!(
            "[cluster]\nname = \"{name}\"\ntrust_domain = \"{trust_domain}\"\n\
             [tunnel]\nadvertise = [{advertise}]\nlease = \"{lease}ms\"\nidle_timeout = \"{idle}ms\"\nkeep_alive = \"500ms\"\n{tunnel}\n\
             [outbound]\nvip_cidr = \"{imports}\"\nsni_listen = \"{sni}\"\nmtls_listen = \"{mtls}\"\n\
             [dns]\nlisten = \"{dns}\"\n\
             [admin]\nlisten = \"{admin}\"\n\
             [catalog]\ndir = \"{dir}/manifests\"\n{source}\
             [state]\ndir = \"{dir}/state\"\n\
             [limits]\n{limits}\n\
             [identity]\n{identity}\n\
             [delivery]\n{delivery}\n",
            imports = self.block.imports(),
            sni = self.sni(),
            mtls = self.mtls(),
            dns = self.dns(),
            admin = self.admin_http(),
            dir = self.dir.display(),
        )
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether other clusters can dial it.
    #[must_use]
    pub fn advertises(&self) -> bool {
        self.settings.advertises
    }

    /// Its place in the simulated network.
    #[must_use]
    pub fn tunnel(&self) -> SocketAddr {
        self.tunnel
    }

    /// Its state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Gives it another place in the network, from its next start on.
    pub fn move_to(&mut self, place: SocketAddr) {
        self.tunnel = place;
    }

    /// Its authority, from its state directory: what whoever holds the cluster's key can do.
    ///
    /// # Panics
    /// When the gateway has never run.
    #[must_use]
    pub fn authority(&self) -> Authority {
        let read = |file| std::fs::read_to_string(self.state().join("ca").join(file)).expect("the gateway has run");
        let domain = TrustDomain::new(&self.settings.trust_domain).expect("the tests use valid trust domains");
        Authority::from_pem(&read("tls.crt"), &read("tls.key"), &domain).expect("the authority is usable")
    }

    /// The listener that routes by server name.
    #[must_use]
    pub fn sni(&self) -> SocketAddr {
        SocketAddr::new(self.block.host(1), SNI_PORT)
    }

    /// The listener that ends the TLS of clients.
    #[must_use]
    pub fn mtls(&self) -> SocketAddr {
        SocketAddr::new(self.block.host(1), MTLS_PORT)
    }

    /// The DNS server.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        SocketAddr::new(self.block.host(1), DNS_PORT)
    }

    /// The read-only HTTP listener.
    #[must_use]
    pub fn admin_http(&self) -> SocketAddr {
        SocketAddr::new(self.block.host(1), ADMIN_PORT)
    }

    /// The address of a pod; 1 is the gateway's.
    #[must_use]
    pub fn host(&self, number: u8) -> IpAddr {
        self.block.host(number)
    }

    /// A socket address at a pod.
    #[must_use]
    pub fn at(&self, number: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(number), port)
    }

    /// Writes a file of the manifest directory.
    ///
    /// # Panics
    /// When it cannot.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.dir.join("manifests").join(file), text).expect("the manifests can be written");
    }

    /// The text of a file of the manifest directory.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn manifest(&self, file: &str) -> String {
        std::fs::read_to_string(self.dir.join("manifests").join(file)).expect("the manifest is there")
    }

    /// Removes a file of the manifest directory.
    ///
    /// # Panics
    /// When it cannot.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.dir.join("manifests").join(file)).expect("the manifest is there");
    }

    /// Exports a service.
    pub fn export(&self, export: &Export) {
        self.write(&export.file(), &export.yaml());
    }

    /// Ends an export.
    pub fn withdraw(&self, export: &Export) {
        self.remove(&export.file());
    }

    /// A connection to the administration socket.
    ///
    /// # Panics
    /// When the gateway does not run.
    pub async fn admin(&self) -> GatewayClient {
        let connected = GatewayClient::connect(&self.state().join("admin.sock")).await;
        connected.unwrap_or_else(|error| panic!("the admin socket of {}: {error}", self.settings.name))
    }

    /// Joins with a token, without waiting for peers; whether it was a member before.
    ///
    /// # Errors
    /// When the join fails.
    pub async fn join(&self, token: &str) -> Result<bool, GatewayError> {
        let request = messages::JoinRequest { token: token.to_owned(), dry_run: false, wait_seconds: 0 };
        let mut steps = self.admin().await.join(request).await?;
        let mut before = false;
        while let Some(step) = steps.next().await? {
            if let messages::join_progress::Step::Joined(joined) = step {
                before = joined.already;
            }
        }
        Ok(before)
    }

    /// Answers of the HTTP listener: status and body; nothing while it does not answer.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.admin_http(), path).await.ok()
    }

    /// The tables in force; `Null` while the gateway does not answer.
    pub async fn tables(&self) -> Value {
        let body = self.get("/debug/tables").await.map(|(_, body)| body).unwrap_or_default();
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }

    /// The metrics.
    ///
    /// # Panics
    /// When the gateway does not answer.
    pub async fn metrics(&self) -> http::Metrics {
        let (_, body) = self.get("/metrics").await.expect("the metrics are there");
        http::Metrics::parse(&body)
    }

    /// Waits until the clusters that offer `service` to new connections are exactly these.
    pub async fn sees(&self, service: &str, from: &[&str]) {
        let what = format!("{} sees {service} in {from:?}", self.settings.name);
        until(&what, async || {
            let tables = self.tables().await;
            let sources = tables["imports"][service]["sources"].as_object().cloned().unwrap_or_default();
            let usable = |source: &Value| source["reachable"] == true && source["ready"].as_u64() > Some(0);
            let mut now: Vec<_> = sources.iter().filter(|(_, s)| usable(s)).map(|(name, _)| name.as_str()).collect();
            let mut wanted = from.to_vec();
            now.sort_unstable();
            wanted.sort_unstable();
            (tables["generation"].is_u64() && now == wanted).then_some(())
        })
        .await;
    }

    /// Waits until a tunnel to `peer` is up, or none is.
    pub async fn reaches(&self, peer: &str, reachable: bool) {
        let what = format!("{} reaches {peer}: {reachable}", self.settings.name);
        until(&what, async || {
            let tables = self.tables().await;
            let now = tables["members"][peer]["reachable"].as_bool().unwrap_or(false);
            (tables["generation"].is_u64() && now == reachable).then_some(())
        })
        .await;
    }

    /// Waits until exactly these are the other members.
    pub async fn knows(&self, members: &[&str]) {
        until(&format!("{} knows {members:?}", self.settings.name), async || {
            let tables = self.tables().await;
            let now: Vec<_> = tables["members"].as_object()?.keys().map(String::as_str).collect();
            (now == members).then_some(())
        })
        .await;
    }

    /// The addresses of `host` in DNS now.
    ///
    /// # Panics
    /// When the DNS server does not answer.
    pub async fn resolve(&self, host: &str) -> Vec<IpAddr> {
        let answer = dns::ask(self.dns(), host, Type::A).await.expect("the name server answers");
        answer.addresses()
    }

    /// Waits until a service has an address in DNS.
    pub async fn address_of(&self, service: &str) -> IpAddr {
        let host = host_of(service);
        let what = format!("{host} has an address in {}", self.settings.name);
        until(&what, async || self.resolve(&host).await.first().copied()).await
    }

    /// Connects to a service by its name, as an application of this cluster that is no pod.
    pub async fn connect(&self, service: &str, port: u16) -> TcpStream {
        self.connect_from(self.host(99), service, port).await
    }

    /// Connects to a service by its name, from an address of this cluster.
    pub async fn connect_from(&self, source: IpAddr, service: &str, port: u16) -> TcpStream {
        let address = SocketAddr::new(self.address_of(service).await, port);
        self.dial(source, address).await
    }

    /// Connects to an address from another one, as soon as somebody listens there.
    ///
    /// # Panics
    /// When the connection is not made for another reason.
    pub async fn dial(&self, source: IpAddr, address: SocketAddr) -> TcpStream {
        let dialled = self.try_dial(source, address).await;
        dialled.unwrap_or_else(|error| panic!("{} at {address}: {error}", self.settings.name))
    }

    /// As [`Cluster::dial`]; a connection that is reset at once may fail already here.
    async fn try_dial(&self, source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
        until(&format!("{} accepts connections at {address}", self.settings.name), async || {
            let dialled = async {
                let socket = TcpSocket::new_v4()?;
                socket.bind(SocketAddr::new(source, 0))?;
                socket.connect(address).await
            };
            match dialled.await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
                ended => Some(ended),
            }
        })
        .await
    }

    /// How the gateway refuses a connection to a service.
    ///
    /// # Panics
    /// When it does not refuse it.
    pub async fn refusal(&self, service: &str, port: u16) -> ErrorKind {
        self.refusal_from(self.host(99), service, port).await
    }

    /// How the gateway refuses a connection from an address of this cluster.
    ///
    /// # Panics
    /// When it does not refuse it.
    pub async fn refusal_from(&self, source: IpAddr, service: &str, port: u16) -> ErrorKind {
        let address = SocketAddr::new(self.address_of(service).await, port);
        let ended = match self.try_dial(source, address).await {
            Ok(mut stream) => rest(&mut stream).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(bytes) => panic!("the connection was not refused, it ended after {} bytes", bytes.len()),
            Err(error) => error.kind(),
        }
    }
}

/// The name of `namespace/service` in DNS.
#[must_use]
pub fn host_of(service: &str) -> String {
    let (namespace, name) = service.split_once('/').expect("a service is written namespace/name");
    format!("{name}.{namespace}.svc.clusterset.local")
}
