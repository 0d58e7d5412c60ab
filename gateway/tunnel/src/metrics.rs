//! What is counted, and what is measured when somebody asks.
//!
//! Owns names and labels. Labels are names of member clusters and fixed words, so their number is bounded.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use federation_model::names::ClusterName;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

use crate::{shared::Shared, status::furthest};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handshake {
    side: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamOf {
    peer: String,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: String,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    handshakes: Family<Handshake, Counter>,
    streams: Family<StreamOf, Counter>,
    refused: Family<Reason, Counter>,
    ended: Family<Peer, Counter>,
}

impl Metrics {
    pub(crate) fn handshake(&self, side: &'static str, result: &'static str) {
        self.handshakes.get_or_create(&Handshake { side, result }).inc();
    }

    pub(crate) fn opened(&self, peer: &ClusterName, direction: &'static str) {
        self.streams.get_or_create(&StreamOf { peer: peer.to_string(), direction }).inc();
    }

    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn ended(&self, peer: &ClusterName) {
        self.ended.get_or_create(&Peer { peer: peer.to_string() }).inc();
    }

    /// Shows a member from the start: a counter that appears with its first event has no rate then.
    pub(crate) fn member(&self, peer: &ClusterName) {
        for direction in ["outbound", "inbound"] {
            self.streams.get_or_create(&StreamOf { peer: peer.to_string(), direction }).inc_by(0);
        }
        self.ended.get_or_create(&Peer { peer: peer.to_string() }).inc_by(0);
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        for (side, results) in [("accept", &["done", "failed", "refused", "retry"][..]), ("dial", &["done", "failed"])]
        {
            for result in results {
                self.handshakes.get_or_create(&Handshake { side, result }).inc_by(0);
            }
        }
        for reason in ["gone", "streams-per-peer", "inbound-queue", "stopped"] {
            self.refused.get_or_create(&Reason { reason }).inc_by(0);
        }
        registry.register("tunnel_handshakes", "Handshakes by side and result", self.handshakes.clone());
        registry.register("tunnel_streams", "Streams opened, by peer and direction", self.streams.clone());
        registry.register("tunnel_streams_refused", "Streams not handed over or not opened", self.refused.clone());
        registry.register("tunnel_ended", "Tunnels that ended, by peer", self.ended.clone());
    }

    #[cfg(test)]
    pub(crate) fn handshakes(&self, side: &'static str, result: &'static str) -> u64 {
        self.handshakes.get_or_create(&Handshake { side, result }).get()
    }
}

type Measure = fn(&Shared, &ClusterName) -> Option<f64>;

/// Measures the live tunnels at every scrape.
pub(crate) struct LiveTunnels(pub(crate) Weak<Shared>);

impl fmt::Debug for LiveTunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LiveTunnels")
    }
}

impl Collector for LiveTunnels {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let members = Arc::clone(&shared.members.borrow());
        let gauges: [(&str, &str, Measure); 5] = [
            ("tunnel_up", "Tunnels over which new streams can be opened", up),
            ("tunnel_streams_open", "Streams that live", streams),
            ("tunnel_rtt_seconds", "Round trip time of the nearest usable tunnel, 0 without one", rtt),
            ("tunnel_lost_packets", "Packets lost on live tunnels", lost),
            (
                "tunnel_clock_skew_seconds",
                "The clock of a peer less this one, of the gateway furthest off; absent without a live tunnel",
                skew,
            ),
        ];
        for (name, help, measure) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for peer in members.keys() {
                if let Some(value) = measure(&shared, peer) {
                    ConstGauge::new(value).encode(family.encode_family(&[("peer", peer.as_str())])?)?;
                }
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float, and no count here comes near 2^52")]
mod measure {
    use super::{ClusterName, Shared, furthest};

    pub(super) fn up(shared: &Shared, peer: &ClusterName) -> Option<f64> {
        Some(shared.registry.of(peer).iter().filter(|tunnel| tunnel.usable()).count() as f64)
    }

    pub(super) fn streams(shared: &Shared, peer: &ClusterName) -> Option<f64> {
        Some(shared.registry.of(peer).iter().map(|tunnel| tunnel.outstanding()).sum::<usize>() as f64)
    }

    pub(super) fn rtt(shared: &Shared, peer: &ClusterName) -> Option<f64> {
        let tunnels = shared.registry.of(peer);
        let nearest = tunnels.iter().filter(|tunnel| tunnel.usable()).map(|tunnel| tunnel.rtt()).min();
        Some(nearest.unwrap_or_default().as_secs_f64())
    }

    pub(super) fn lost(shared: &Shared, peer: &ClusterName) -> Option<f64> {
        Some(shared.registry.of(peer).iter().map(|tunnel| tunnel.connection.stats().path.lost_packets).sum::<u64>()
            as f64)
    }

    pub(super) fn skew(shared: &Shared, peer: &ClusterName) -> Option<f64> {
        let tunnels = shared.registry.of(peer);
        let live = tunnels.iter().filter(|tunnel| tunnel.connection.close_reason().is_none());
        let millis = furthest(live.map(|tunnel| tunnel.facts.load().skew_millis))?;
        Some(millis as f64 / 1000.0)
    }
}
use measure::{lost, rtt, skew, streams, up};
