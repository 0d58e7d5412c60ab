//! The clusters that are measured: one federation service and three gateways, configured and joined as an operator would.
//!
//! Owns their files, below one temporary directory. East calls; west serves; north serves when west does not.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

mod exports;

use crate::{
    dns,
    process::{self, Process},
};

/// The programs.
pub(crate) const GATEWAY: &str = "landbridge-gateway";
/// The federation service.
pub(crate) const FEDERATION: &str = "landbridge-federation";
/// The command line.
pub(crate) const FEDCTL: &str = "fedctl";

/// How long a program may take to be ready, and a change to arrive.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// The range of import addresses of each cluster, far from those of the demo.
const CLUSTERS: [(&str, u8); 3] = [("east", 190), ("west", 191), ("north", 192)];

/// All of it.
#[derive(Debug)]
pub(crate) struct Fleet {
    programs: PathBuf,
    directory: TempDir,
    federation: Process,
    grpc: SocketAddr,
    gateways: Vec<Gateway>,
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct Gateway {
    name: &'static str,
    directory: PathBuf,
    dns: SocketAddr,
    admin: SocketAddr,
    process: Process,
}

impl Fleet {
    /// Starts and joins everything.
    pub(crate) async fn start(programs: &Path) -> anyhow::Result<Self> {
        let directory = TempDir::with_prefix("landbridge-bench-")?;
        let (grpc, admin) = (free_port()?, free_port()?);
        let config = directory.path().join("federation.toml");
        std::fs::write(&config, federation_toml(grpc, admin, &directory.path().join("federation")))?;
        let mut federation =
            Process::start(&programs.join(FEDERATION), &config, &directory.path().join("federation.log"))?;
        federation.until("the federation service accepts connections", LIMIT, || accepts(admin)).await?;
        federation.until("the federation service accepts gateways", LIMIT, || accepts(grpc)).await?;

        let mut gateways = Vec::new();
        for (name, range) in CLUSTERS {
            gateways.push(Gateway::start(programs, directory.path(), name, range).await?);
        }
        let fleet = Self { programs: programs.to_owned(), directory, federation, grpc, gateways };
        for gateway in &fleet.gateways {
            fleet.join(gateway).await.with_context(|| format!("joining {}", gateway.name))?;
        }
        Ok(fleet)
    }

    /// The gateway of a cluster.
    pub(crate) fn gateway(&self, name: &str) -> anyhow::Result<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.name == name).with_context(|| format!("no cluster {name}"))
    }

    /// The names and process ids of all programs.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let gateways = self.gateways.iter().map(|gateway| (gateway.name, gateway.process.id()));
        let all = gateways.chain([("federation", self.federation.id())]);
        all.filter_map(|(name, id)| id.map(|id| (name, id)))
    }

    /// Kills the gateway of a cluster, as a power failure would.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.gateway_mut(name)?.process.kill().await
    }

    /// Starts a killed gateway again, with the state it left.
    pub(crate) async fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        let program = self.programs.join(GATEWAY);
        let gateway = self.gateway_mut(name)?;
        gateway.process = gateway.run(&program)?;
        gateway.ready().await
    }

    /// Ends every program.
    pub(crate) async fn stop(&mut self) {
        for gateway in &mut self.gateways {
            // It is gone either way.
            gateway.process.kill().await.ok();
        }
        self.federation.kill().await.ok();
    }

    fn gateway_mut(&mut self, name: &str) -> anyhow::Result<&mut Gateway> {
        self.gateways.iter_mut().find(|gateway| gateway.name == name).with_context(|| format!("no cluster {name}"))
    }

    /// Runs a command of the federation's operator; what it prints.
    pub(crate) async fn operate(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let operator = self.directory.path().join("federation/operator");
        let mut command = Command::new(self.programs.join(FEDCTL));
        command.arg("--federation").arg(format!("https://{}", self.grpc)).arg("--operator").arg(operator);
        answer(command.args(arguments), b"").await
    }

    async fn join(&self, gateway: &Gateway) -> anyhow::Result<()> {
        let token = self.operate(&["token", "create", "--cluster", gateway.name]).await?;
        let socket = format!("unix:{}", gateway.directory.join("state/admin.sock").display());
        let mut join = Command::new(self.programs.join(FEDCTL));
        answer(join.args(["--gateway", &socket, "join", "-", "--yes", "--wait", "60s"]), token.as_bytes()).await?;
        Ok(())
    }
}

impl Gateway {
    async fn start(programs: &Path, parent: &Path, name: &'static str, range: u8) -> anyhow::Result<Self> {
        let directory = parent.join(name);
        std::fs::create_dir_all(directory.join("manifests"))?;
        let (dns, admin) = (free_port()?, free_port()?);
        let toml = gateway_toml(name, range, &directory, [free_port()?, free_port()?, dns, admin]);
        std::fs::write(directory.join("gateway.toml"), toml)?;
        let process = Self::spawn(&programs.join(GATEWAY), &directory)?;
        let mut gateway = Self { name, directory, dns, admin, process };
        gateway.ready().await?;
        Ok(gateway)
    }

    /// The first address of a service, as this cluster's DNS server answers it.
    pub(crate) async fn resolve(&self, service: &str) -> Option<Ipv4Addr> {
        dns::resolve(self.dns, &format!("{service}.bench.svc.clusterset.local")).await
    }

    /// Exports a service with one endpoint.
    pub(crate) fn export(&self, service: &str, endpoint: SocketAddr, priority: u32) -> anyhow::Result<()> {
        let priority = priority.to_string();
        exports::write(&self.manifests(), service, endpoint, ("priority", &priority))
    }

    /// Exports a service that is delivered in this way.
    pub(crate) fn export_as(&self, service: &str, endpoint: SocketAddr, deliver: &str) -> anyhow::Result<()> {
        exports::write(&self.manifests(), service, endpoint, ("deliver", deliver))
    }

    /// Says whose address `address` is.
    pub(crate) fn pod(&self, account: &str, address: IpAddr) -> anyhow::Result<()> {
        exports::pod(&self.manifests(), account, address)
    }

    /// Ends an export.
    pub(crate) fn withdraw(&self, service: &str) -> anyhow::Result<()> {
        exports::remove(&self.manifests(), service)
    }

    /// Waits until the service has an address here, and is it.
    pub(crate) async fn wait_for(&self, service: &str) -> anyhow::Result<IpAddr> {
        let what = format!("{service} is known in {}", self.name);
        process::until(&what, LIMIT, || async { self.resolve(service).await.is_some() }).await?;
        self.resolve(service).await.map(IpAddr::V4).context("the service has vanished again")
    }

    fn manifests(&self) -> PathBuf {
        self.directory.join("manifests")
    }

    fn run(&self, program: &Path) -> anyhow::Result<Process> {
        Self::spawn(program, &self.directory)
    }

    fn spawn(program: &Path, directory: &Path) -> anyhow::Result<Process> {
        Process::start(program, &directory.join("gateway.toml"), &directory.with_extension("log"))
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let (admin, socket) = (self.admin, self.directory.join("state/admin.sock"));
        let listens = async || accepts(admin).await && tokio::net::UnixStream::connect(&socket).await.is_ok();
        self.process.until(&format!("the gateway of {} is up", self.name), LIMIT, listens).await
    }
}

async fn accepts(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}

/// What a command prints, given `input`; its complaint when it fails.
async fn answer(command: &mut Command, input: &[u8]) -> anyhow::Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("starting fedctl")?;
    let mut stdin = child.stdin.take().context("fedctl has a standard input")?;
    stdin.write_all(input).await?;
    drop(stdin);
    let output = tokio::time::timeout(3 * LIMIT, child.wait_with_output()).await.context("fedctl does not end")??;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "fedctl: {} {}", said(&output.stdout), said(&output.stderr));
    Ok(said(&output.stdout))
}

/// A port that was free for TCP and UDP a moment ago.
fn free_port() -> anyhow::Result<SocketAddr> {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = tcp.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

fn federation_toml(grpc: SocketAddr, admin: SocketAddr, store: &Path) -> String {
    format!(
        "[grpc]\nlisten = \"{grpc}\"\nnames = [\"127.0.0.1\"]\n[admin]\nlisten = \"{admin}\"\n[store]\nurl = \"file:{}\"\n",
        store.display()
    )
}

fn gateway_toml(name: &str, range: u8, directory: &Path, ports: [SocketAddr; 4]) -> String {
    let [tunnel, sni, dns, admin] = ports;
    let directory = directory.display();
    format!(
        "[cluster]\nname = \"{name}\"\ntrust_domain = \"{name}.example\"\n\
         [tunnel]\nlisten = \"{tunnel}\"\nadvertise = [\"{tunnel}\"]\n\
         [outbound]\nvip_cidr = \"127.{range}.0.0/16\"\nsni_listen = \"{sni}\"\n\
         [dns]\nlisten = \"{dns}\"\n\
         [admin]\nlisten = \"{admin}\"\n\
         [catalog]\nsource = \"manifests\"\ndir = \"{directory}/manifests\"\n\
         [state]\ndir = \"{directory}/state\"\n"
    )
}
