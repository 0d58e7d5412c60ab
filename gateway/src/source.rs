//! Where the objects of this cluster come from: a directory of manifests, or an API server.
//!
//! Owns the choice, and that nobody is told of this cluster's exports before they are known: a gateway that starts while its API
//! server answers slowly must not look like one that exports nothing. Never reads an object.

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use federation_kube::{
    cluster::{ClusterSource, Standing, Standings},
    connect::Cluster,
    manifests::{ManifestSource, Manifests},
};
use federation_model::{finding::Finding, time::Timestamp};
use federation_runtime::admin::Condition;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{CatalogSource, Config},
    control::Members,
};

/// The source of the objects of this cluster.
#[derive(Debug)]
pub enum ObjectSource {
    /// A directory.
    Manifests(ManifestSource),
    /// An API server.
    Cluster(Box<ClusterSource>, String),
}

impl ObjectSource {
    /// Opens the API server where there is one, otherwise the directory of the settings. A directory is read; an API server
    /// need not be up.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn open(config: &Config, cluster: Option<Cluster>) -> anyhow::Result<Self> {
        let root = config.policy.root_namespace.clone();
        let Some(cluster) = cluster else {
            return Ok(Self::Manifests(ManifestSource::open(&config.catalog.dir, root)?));
        };
        let server = cluster.server().to_owned();
        let namespaces = &config.kubernetes.namespaces;
        Ok(Self::Cluster(Box::new(ClusterSource::new(cluster, root, namespaces)), server))
    }

    /// The objects, and every change of them.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Manifests>> {
        match self {
            Self::Manifests(source) => source.subscribe(),
            Self::Cluster(source, _) => source.subscribe(),
        }
    }

    /// How it stands with the source.
    #[must_use]
    pub fn view(&self) -> SourceView {
        match self {
            Self::Manifests(_) => SourceView { watched: None },
            Self::Cluster(source, server) => SourceView { watched: Some((source.standings(), server.clone())) },
        }
    }

    /// Follows the source until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        match self {
            Self::Manifests(source) => source.run(stop).await,
            Self::Cluster(source, _) => source.run(stop).await,
        }
    }
}

/// How it stands with the source.
#[derive(Debug, Clone)]
pub struct SourceView {
    /// The watches, and the address of the API server; nothing for a directory, which is read before the gateway starts.
    watched: Option<(watch::Receiver<Arc<Standings>>, String)>,
}

impl SourceView {
    /// Waits until the objects are known; false when they never will be.
    pub async fn published(&self) -> bool {
        let Some((mut standings, _)) = self.watched.clone() else { return true };
        standings.wait_for(|standings| standings.published).await.is_ok()
    }

    /// The members, which come only when the objects are known: without members there are no tunnels, and nobody is told
    /// what this cluster exports.
    #[must_use]
    pub fn gate(&self, members: watch::Receiver<Members>) -> (watch::Receiver<Members>, Option<Gate>) {
        if self.watched.is_none() {
            return (members, None);
        }
        let (told, behind) = watch::channel(Members::default());
        (behind, Some(Gate { view: self.clone(), members, told }))
    }

    /// Keeps the readiness condition of the objects until `stop`.
    pub async fn judge(self, condition: Condition, stop: CancellationToken) {
        let Some((mut standings, _)) = self.watched else {
            condition.holds();
            return stop.cancelled().await;
        };
        loop {
            let now = standings.borrow_and_update().clone();
            match (now.waiting(), troubles(&now).first()) {
                (Some(waiting), _) => condition.fails(waiting),
                (None, Some(trouble)) => condition.endangered(trouble),
                (None, None) => condition.holds(),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = standings.changed() => if changed.is_err() { return },
            }
        }
    }

    /// What is to be told of the source, for `fedctl check`.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let Some((standings, server)) = &self.watched else { return Vec::new() };
        let standings = standings.borrow().clone();
        let finding = |trouble| Finding::failed("catalog", trouble, "what was known before stays in force");
        let mut findings: Vec<Finding> = troubles(&standings).into_iter().map(finding).collect();
        if findings.is_empty() {
            let newest = standings.watches.values().filter_map(|view| view.newest).max();
            let age = newest.and_then(|at| SystemTime::now().duration_since(at).ok());
            let age = age.map(|age| format!(", newest event {} s ago", age.as_secs())).unwrap_or_default();
            findings
                .push(Finding::ok("catalog", format!("{} watches of {server} are up{age}", standings.watches.len())));
        }
        findings
    }

    /// The state of every watch, for `/debug/source`.
    #[must_use]
    pub fn json(&self) -> Value {
        let Some((standings, server)) = &self.watched else {
            return json!({ "source": CatalogSource::Manifests.label() });
        };
        let standings = standings.borrow().clone();
        let watches = standings.watches.iter().map(|(id, view)| {
            let age = view.newest.and_then(|at| SystemTime::now().duration_since(at).ok()).map(|age| age.as_secs());
            json!({
                "resource": id.watched.to_string(),
                "namespace": id.namespace.as_ref().map(ToString::to_string),
                "state": view.standing.label(),
                "trouble": view.standing.trouble(),
                "newest_event_seconds_ago": age,
            })
        });
        json!({
            "source": CatalogSource::Kubernetes.label(),
            "server": server,
            "published": standings.published,
            "watches": watches.collect::<Vec<_>>(),
        })
    }

    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Measured(self.clone())));
    }
}

/// What is wrong with the watches.
fn troubles(standings: &Standings) -> Vec<String> {
    let told = |(id, view): (_, &federation_kube::cluster::WatchView)| {
        view.standing.trouble().map(|trouble| format!("{id}: {trouble}"))
    };
    standings.watches.iter().filter_map(told).collect()
}

/// Holds the members back until the objects are known.
#[derive(Debug)]
pub struct Gate {
    view: SourceView,
    members: watch::Receiver<Members>,
    told: watch::Sender<Members>,
}

impl Gate {
    /// Hands the members on until `stop`, the very values that came in.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            known = self.view.published() => if !known { return },
        }
        loop {
            let members = self.members.borrow_and_update().clone();
            self.told.send_replace(members);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.members.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Measures at every scrape.
struct Measured(SourceView);

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some((standings, _)) = &self.0.watched else { return Ok(()) };
        let standings = standings.borrow().clone();
        let about = "Watches of the API server by what they read and how they stand";
        let mut family = encoder.encode_descriptor("catalog_watches", about, None, MetricType::Gauge)?;
        for (resource, state, count) in counts(&standings) {
            ConstGauge::new(count).encode(family.encode_family(&[("resource", resource), ("state", state)])?)?;
        }
        let about = "When something last arrived from the API server, by what is read";
        let name = "catalog_newest_event_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, about, None, MetricType::Gauge)?;
        for (resource, at) in newest(&standings) {
            let labels = [("resource", resource)];
            ConstGauge::new(i64::try_from(at.0).unwrap_or(i64::MAX)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// When something of each resource arrived last.
fn newest(standings: &Standings) -> BTreeMap<&'static str, Timestamp> {
    let mut newest = BTreeMap::new();
    for (id, at) in standings.watches.iter().filter_map(|(id, view)| Some((id, view.newest?))) {
        let known = newest.entry(id.watched.resource()).or_insert(Timestamp(0));
        *known = (*known).max(at.into());
    }
    newest
}

/// How many watches of each resource are in each state, also where there is none.
fn counts(standings: &Standings) -> Vec<(&'static str, &'static str, i64)> {
    let mut counts = BTreeMap::new();
    for (id, view) in &standings.watches {
        for label in Standing::LABELS {
            *counts.entry((id.watched.resource(), label)).or_insert(0) += i64::from(view.standing.label() == label);
        }
    }
    counts.into_iter().map(|((resource, state), count)| (resource, state, count)).collect()
}
