//! The federation service of a fleet.
//!
//! Owns its directory and its process. Never takes part in traffic.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use federation::{Clock, Pace};
use federation_client::operator::{Credential, OperatorClient};
use federation_model::{addr::GatewayAddr, spiffe::TrustDomain};

use super::block::Block;
use crate::process::Process;

const GRPC_PORT: u16 = 15010;
const ADMIN_PORT: u16 = 15011;
const BUNDLES_PORT: u16 = 15012;

/// A federation service that can be stopped and started.
#[derive(Debug)]
pub struct Federation {
    dir: PathBuf,
    trust_domain: TrustDomain,
    block: Block,
    process: Option<Process>,
    /// Further lines of the section `[trust]`.
    trust: String,
    /// Further lines of the section `[join]`.
    join: String,
}

impl Federation {
    /// Starts a new one that keeps its state in `dir`.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_in(dir: &Path) -> Self {
        Self::start_as(dir, "federation.internal").await
    }

    /// Starts a new one of a trust domain.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_as(dir: &Path, trust_domain: &str) -> Self {
        let trust_domain = TrustDomain::new(trust_domain).expect("the tests use valid names");
        let (dir, block) = (dir.to_owned(), Block::claim());
        let mut federation =
            Self { dir, trust_domain, block, process: None, trust: String::new(), join: String::new() };
        federation.start(Clock::system()).await;
        federation
    }

    /// Starts it again, with what it kept.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(&mut self, clock: Clock) {
        let file = self.dir.join("federation.toml");
        let text = format!(
            "[grpc]\nlisten = \"{grpc}\"\nnames = [\"{host}\"]\n[admin]\nlisten = \"{admin}\"\n[store]\nurl = \"file:{store}\"\n\
             [trust]\ndomain = \"{trust_domain}\"\n{trust}\n[bundles]\nlisten = \"{bundles}\"\n[join]\nfailures = 100\n{join}\n",
            trust = self.trust,
            join = self.join,
            grpc = self.grpc(),
            host = self.block.host(1),
            admin = self.admin(),
            store = self.store().display(),
            trust_domain = self.trust_domain,
            bundles = self.bundles(),
        );
        std::fs::write(&file, text).expect("the directory of the test can be written");
        let config: federation::config::Config = federation_runtime::config::load(Some(&file), &BTreeMap::new())
            .unwrap_or_else(|error| panic!("the settings of the federation service: {error}"));
        let (process, ()) = Process::start("federation", |stop| async move {
            let program = federation::start_with(config, stop, clock, Pace::default()).await?;
            Ok(((), program.run()))
        })
        .await
        .unwrap_or_else(|error| panic!("the federation service starts: {error:#}"));
        self.process = Some(process);
    }

    /// Has joins wait for approval, from its next start on.
    pub fn require_approval(&mut self) {
        "require_approval = true".clone_into(&mut self.join);
    }

    /// Requires authorities that lead to `roots`, from its next start on; its own authority counts as given from outside.
    ///
    /// # Panics
    /// When its files cannot be written.
    pub fn require_external_ca(&mut self, roots: &str) {
        let (external, own) = (self.dir.join("external"), self.store().join("authority"));
        let written = || {
            std::fs::create_dir_all(&external)?;
            std::fs::write(external.join("roots.pem"), roots)?;
            std::fs::copy(own.join("ca.crt"), external.join("tls.crt"))?;
            std::fs::copy(own.join("ca.key"), external.join("tls.key"))
        };
        written().expect("the service has run, and the directory of the test can be written");
        let dir = external.display();
        self.trust = format!("require_external_ca = true\nexternal_roots = \"{dir}/roots.pem\"\nca_dir = \"{dir}\"");
    }

    /// Stops it.
    ///
    /// # Panics
    /// When it ends with an error.
    pub async fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop().await.unwrap_or_else(|error| panic!("the federation service stops: {error:#}"));
        }
    }

    /// Ends it where it stands.
    pub async fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill().await;
        }
    }

    /// Where gateways and operators connect.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        SocketAddr::new(self.block.host(1), GRPC_PORT)
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.block.host(1), ADMIN_PORT)
    }

    /// Where others read the bundles of the set.
    #[must_use]
    pub fn bundles(&self) -> SocketAddr {
        SocketAddr::new(self.block.host(1), BUNDLES_PORT)
    }

    /// Where it keeps the set.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// A client with the credential that the service wrote at its first start.
    ///
    /// # Panics
    /// When the service is not there.
    pub async fn operator(&self) -> OperatorClient {
        let credential = Credential::load(&self.store().join("operator")).expect("the operator credential is usable");
        let address: GatewayAddr = self.grpc().to_string().parse().expect("an IP address and a port are an address");
        OperatorClient::connect(&[address], credential).await.expect("the federation service answers")
    }

    /// A new token for `cluster`.
    ///
    /// # Panics
    /// When the service is not there.
    pub async fn token(&self, cluster: &str) -> String {
        self.token_for(cluster, Duration::from_secs(600)).await
    }

    /// A new token for `cluster` that is valid for `ttl`.
    ///
    /// # Panics
    /// When the service is not there.
    pub async fn token_for(&self, cluster: &str, ttl: Duration) -> String {
        let name = cluster.parse().expect("the tests use valid names");
        let (token, _) = self.operator().await.create_token(&name, ttl).await.expect("a token is created");
        token.to_string()
    }
}

/// A clock that runs `by` behind.
#[must_use]
pub fn clock_behind(by: Duration) -> Clock {
    Clock::new(move || SystemTime::now() - by)
}
