//! Whether the pods of this cluster resolve names of the set: the DNS of the cluster has to be told to ask the gateways, and an
//! upgrade of it may forget that.
//!
//! Owns when it is looked at, by asking as a pod asks, and what is said of it. Never changes anything, and no connection waits
//! for it: where names do not arrive, import addresses still work.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use federation_model::{
    finding::{Finding, Level},
    sni::Zone,
};
use gateway_dns::resolver::{Heard, Resolvers, Said};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::config::{CatalogSource, Config};

/// Where Kubernetes tells a pod whom to ask.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The largest resolv.conf that is read.
const MAX_FILE: u64 = 64 * 1024;
/// How often it is looked at while all is well.
const WELL: Duration = Duration::from_secs(60);
/// How often while it is not: whoever mends it waits for this.
const UNWELL: Duration = Duration::from_secs(15);
/// How many looks in a row must fail before it is logged: the DNS finds a gateway that has just started some seconds later.
const LOOKS: u32 = 3;
/// What the check is called.
const CHECK: &str = "names in pods";

/// Whether the zone is delegated to the gateways of this cluster. A clone shares what is known.
#[derive(Debug, Clone)]
pub struct Delegated {
    zone: Zone,
    file: PathBuf,
    known: watch::Sender<Option<bool>>,
}

impl Delegated {
    /// For a gateway in a pod; nothing for any other, whose resolver is not that of pods.
    #[must_use]
    pub fn of(config: &Config, registry: &mut Registry) -> Option<Self> {
        let in_pod = match config.catalog.source {
            CatalogSource::Kubernetes => config.kubernetes.kubeconfig.is_none(),
            CatalogSource::Manifests => false,
        };
        in_pod.then(|| Self::new(config.dns.zone.clone(), Path::new(RESOLV_CONF), registry))
    }

    /// Asks the resolvers of a file.
    #[must_use]
    pub fn new(zone: Zone, file: &Path, registry: &mut Registry) -> Self {
        let known = watch::Sender::new(None);
        registry.register_collector(Box::new(Measured(known.subscribe())));
        Self { zone, file: file.to_owned(), known }
    }

    /// Looks, and says what it found; nothing where there is nobody to ask.
    pub async fn look(&self) -> Option<Finding> {
        let heard = match self.resolvers().await {
            Some(resolvers) => resolvers.ask(&self.zone).await,
            None => None,
        };
        self.known.send_replace(heard.as_ref().map(arrives));
        heard.map(|heard| finding(&self.zone, &heard))
    }

    async fn resolvers(&self) -> Option<Resolvers> {
        use tokio::io::AsyncReadExt as _;

        let file = tokio::fs::File::open(&self.file).await.ok()?;
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).await.ok()?;
        Some(Resolvers::of_file(&text))
    }

    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let (mut told, mut in_a_row) = (None, 0_u32);
        loop {
            let found = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                found = self.look() => found,
            };
            let well = found.as_ref().is_none_or(|finding| finding.level == Level::Ok);
            in_a_row = if well { 0 } else { in_a_row.saturating_add(1) };
            let news = well || in_a_row >= LOOKS;
            if let Some(finding) = found.filter(|_| news && told != Some(well)) {
                match well {
                    true => tracing::info!("{}", finding.detail),
                    false => tracing::warn!(hint = finding.hint, "{}", finding.detail),
                }
                told = Some(well);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(if well { WELL } else { UNWELL }) => {}
            }
        }
    }
}

/// Without a series while nothing is known.
struct Measured(watch::Receiver<Option<bool>>);

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}

impl Collector for Measured {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(arrives) = *self.0.borrow() else { return Ok(()) };
        let about = "Whether pods of this cluster resolve names of the set, 1 or 0; absent while nobody can be asked and outside Kubernetes";
        let family = encoder.encode_descriptor("dns_delegated", about, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(arrives)).encode(family)
    }
}

fn arrives(heard: &Heard) -> bool {
    match heard.said {
        Said::Version(_) => true,
        Said::Nothing | Said::Failure(_) | Said::Silence => false,
    }
}

/// What the commands are told where the zone is not the usual one.
fn option(zone: &Zone) -> String {
    if *zone == Zone::default() { String::new() } else { format!(" --zone {zone}") }
}

fn finding(zone: &Zone, heard: &Heard) -> Finding {
    let option = option(zone);
    let Heard { resolver, said } = heard;
    let detail = format!("the DNS of this cluster at {resolver}, asked about {zone}: {said}");
    match said {
        Said::Version(_) => Finding::ok(CHECK, format!("pods resolve {zone}: {resolver} answers for it")),
        Said::Nothing => Finding::warning(
            CHECK,
            detail,
            format!(
                "fedctl dns install{option}, where kubectl reaches the cluster; CoreDNS reads the change within two minutes"
            ),
        ),
        Said::Failure(_) => Finding::warning(
            CHECK,
            detail,
            format!(
                "fedctl dns status{option}, where kubectl reaches the cluster, says whether it asks the gateways under their \
                 current address; a gateway that is not ready is not asked"
            ),
        ),
        Said::Silence => Finding::warning(
            CHECK,
            detail,
            format!(
                "fedctl dns status{option}, where kubectl reaches the cluster, says whom it asks; or look at its pods and at \
                 NetworkPolicies"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use prometheus_client::encoding::text::encode;

    use super::*;

    fn heard(said: Said) -> Heard {
        Heard { resolver: Ipv4Addr::new(10, 96, 0, 10).into(), said }
    }

    #[test]
    fn only_an_answer_is_well_and_every_other_has_its_remedy() {
        let zone = Zone::default();
        let said = |said| finding(&zone, &heard(said));
        let well = said(Said::Version("1.0.0".to_owned()));
        assert_eq!(
            (well.level, well.detail.as_str()),
            (Level::Ok, "pods resolve clusterset.local: 10.96.0.10 answers for it")
        );
        for (said, detail, hint) in [
            (said(Said::Nothing), "there is no such name", "fedctl dns install"),
            (said(Said::Failure("server failure".to_owned())), "server failure", "fedctl dns status"),
            (said(Said::Silence), "no answer", "look at its pods"),
        ] {
            assert_eq!(said.level, Level::Warning);
            assert!(said.detail.ends_with(detail) && said.hint.contains(hint), "{said:?}");
        }
    }

    fn looking(dir: &Path, text: &str) -> (Delegated, Registry) {
        let file = dir.join("resolv.conf");
        std::fs::write(&file, text).unwrap();
        let mut registry = Registry::default();
        (Delegated::new(Zone::default(), &file, &mut registry), registry)
    }

    fn measured(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[tokio::test]
    async fn where_nobody_can_be_asked_nothing_is_said_and_nothing_measured() {
        let dir = tempfile::tempdir().unwrap();
        let (delegated, registry) = looking(dir.path(), "search a.local\n");
        assert_eq!(delegated.look().await, None);
        assert!(!measured(&registry).contains("dns_delegated"), "{}", measured(&registry));
        std::fs::remove_file(dir.path().join("resolv.conf")).unwrap();
        assert_eq!(delegated.look().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_does_not_answer_is_told_and_measured_and_the_task_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        // A network for documentation: nobody is there.
        let (delegated, registry) = looking(dir.path(), "nameserver 192.0.2.1\n");
        let found = delegated.look().await.unwrap();
        assert_eq!(found.level, Level::Warning);
        assert!(measured(&registry).contains("dns_delegated 0"), "{}", measured(&registry));
        std::fs::write(dir.path().join("resolv.conf"), "").unwrap();
        assert_eq!(delegated.look().await, None);
        assert!(!measured(&registry).contains("dns_delegated"), "what is not known any more is not told");
        let stop = CancellationToken::new();
        stop.cancel();
        delegated.run(stop).await;
    }
}
