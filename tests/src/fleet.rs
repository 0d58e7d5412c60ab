//! A cluster set in one process: a real federation service and real gateways, each in a runtime of its own.
//!
//! Owns the set and its network. Tunnels go over the simulated network, everything else over loopback addresses that no
//! other fleet has.

mod block;
mod cluster;
mod federation;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::{Index, IndexMut},
    time::Duration,
};

use ::federation::Clock;
use tempfile::TempDir;

pub use self::{
    cluster::{Cluster, Settings, host_of},
    federation::{Federation, clock_behind},
};
use crate::net::Network;

/// The cluster set.
#[derive(Debug)]
pub struct Fleet {
    network: Network,
    federation: Federation,
    clusters: BTreeMap<String, Cluster>,
    dir: TempDir,
    places: u8,
}

impl Fleet {
    /// A federation service without members.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn new() -> Self {
        Self::of_trust_domain("federation.internal").await
    }

    /// A federation service of a trust domain, without members.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn of_trust_domain(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("there is a directory for temporary files");
        let federation_dir = dir.path().join("federation");
        std::fs::create_dir(&federation_dir).expect("the directory of the test can be written");
        let federation = Federation::start_as(&federation_dir, name).await;
        Self { network: Network::new(1), federation, clusters: BTreeMap::new(), dir, places: 0 }
    }

    /// A federation service without members, whose joins wait for approval.
    pub async fn requiring_approval() -> Self {
        let mut fleet = Self::new().await;
        fleet.stop_federation().await;
        fleet.federation.require_approval();
        fleet.start_federation().await;
        fleet
    }

    /// A federation service with an authority of an external PKI, which takes members of the same alone: those whose
    /// authority leads to `roots`.
    ///
    /// # Panics
    /// When its files cannot be written.
    pub async fn of_external_pki(roots: &str) -> Self {
        let mut fleet = Self::new().await;
        fleet.stop_federation().await;
        fleet.federation.require_external_ca(roots);
        fleet.start_federation().await;
        fleet
    }

    /// Clusters that have joined and are connected, each with each.
    pub async fn of(names: &[&str]) -> Self {
        Self::with(names.iter().map(|name| Settings::of(name))).await
    }

    /// Clusters that have joined and are connected, each with each where one of the two can be dialled.
    pub async fn with(clusters: impl IntoIterator<Item = Settings>) -> Self {
        let mut fleet = Self::new().await;
        for settings in clusters {
            let name = settings.name.clone();
            fleet.add(settings).await;
            fleet.join(&name).await;
        }
        fleet.connected().await;
        fleet
    }

    /// Starts a cluster that is no member yet.
    pub async fn add(&mut self, settings: Settings) {
        let name = settings.name.clone();
        let place = self.place();
        let mut cluster = Cluster::new(settings, self.dir.path(), &self.network, place);
        cluster.start().await;
        self.clusters.insert(name, cluster);
    }

    /// An address of the simulated network that nobody has.
    pub fn place(&mut self) -> SocketAddr {
        self.places += 1;
        SocketAddr::from(([10, 77, self.places, 1], 15443))
    }

    /// Makes a cluster a member, with a token of its own.
    ///
    /// # Panics
    /// When it cannot join.
    pub async fn join(&self, name: &str) {
        let token = self.federation.token(name).await;
        let joined = self[name].join(&token).await;
        joined.unwrap_or_else(|error| panic!("{name} joins: {error}"));
    }

    /// Waits until all clusters reach each other, where one of the two can be dialled.
    pub async fn connected(&self) {
        for (name, cluster) in &self.clusters {
            let members: Vec<&str> = self.clusters.keys().filter(|other| *other != name).map(String::as_str).collect();
            cluster.knows(&members).await;
        }
        for (name, cluster) in &self.clusters {
            for (other, peer) in self.clusters.iter().filter(|(other, _)| *other != name) {
                if cluster.advertises() || peer.advertises() {
                    cluster.reaches(other, true).await;
                }
            }
        }
    }

    /// The network the tunnels go over.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The federation service.
    #[must_use]
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// Stops the federation service.
    pub async fn stop_federation(&mut self) {
        self.federation.stop().await;
    }

    /// Ends the federation service as a crash does.
    pub async fn kill_federation(&mut self) {
        self.federation.kill().await;
    }

    /// Starts the federation service again.
    pub async fn start_federation(&mut self) {
        self.federation.start(Clock::system()).await;
    }

    /// Nothing passes between the two clusters any more.
    pub fn partition(&self, one: &str, other: &str) {
        self.network.partition(self[one].tunnel(), self[other].tunnel());
    }

    /// Everything passes between the two clusters again.
    pub fn heal(&self, one: &str, other: &str) {
        self.network.heal(self[one].tunnel(), self[other].tunnel());
    }

    /// Makes the network a bad one.
    pub fn weather(&self, loss: f64, latency: Duration) {
        self.network.lose(loss);
        self.network.delay(latency);
    }

    fn get(&self, name: &str) -> &Cluster {
        self.clusters.get(name).unwrap_or_else(|| panic!("there is no cluster {name} in this fleet"))
    }
}

impl Index<&str> for Fleet {
    type Output = Cluster;
    fn index(&self, name: &str) -> &Cluster {
        self.get(name)
    }
}

impl IndexMut<&str> for Fleet {
    fn index_mut(&mut self, name: &str) -> &mut Cluster {
        self.clusters.get_mut(name).unwrap_or_else(|| panic!("there is no cluster {name} in this fleet"))
    }
}
