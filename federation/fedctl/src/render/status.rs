//! The state of a gateway.

use federation_model::time::Timestamp;
use proto::gateway::v1::{Federation, ForeignBundle, Peer, PeerState, Quarantined, Status, Tunnel};
use serde::Serialize;

use super::{Look, Mood, count, members::FederationView, mood_cell, or_dash, some, text_of};
use crate::clock;

/// What `fedctl status` answers.
#[derive(Debug, Serialize)]
pub(crate) struct StatusView {
    pub(crate) gateway: Option<GatewayView>,
    pub(crate) federation: Option<FederationView>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct GatewayView {
    pub(crate) cluster: String,
    pub(crate) trust_domain: String,
    pub(crate) gateway_id: String,
    pub(crate) software: String,
    pub(crate) ready: bool,
    pub(crate) not_ready_reason: Option<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) started_at: Option<String>,
    pub(crate) cluster_authority: String,
    pub(crate) identity_source: String,
    pub(crate) certificate_expires_at: Option<String>,
    pub(crate) certificate_serial: Option<String>,
    pub(crate) membership: MembershipView,
    pub(crate) advertise: Vec<String>,
    pub(crate) exports: u32,
    pub(crate) imports: u32,
    pub(crate) connections: u32,
    pub(crate) peers: Vec<PeerView>,
    pub(crate) quarantined: Vec<QuarantinedView>,
    pub(crate) foreign: Vec<ForeignBundleView>,
    #[serde(skip)]
    times: [Option<Timestamp>; 2],
}

/// A trust domain outside the set whose workloads can be verified here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ForeignBundleView {
    pub(crate) trust_domain: String,
    pub(crate) sequence: u64,
    pub(crate) authorities: Vec<String>,
}

/// What the gateway knows of its federation service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MembershipView {
    pub(crate) joined: bool,
    /// It waits for approval.
    pub(crate) pending: bool,
    pub(crate) connected: bool,
    pub(crate) addresses: Vec<String>,
    pub(crate) revision: u64,
    pub(crate) authority: Option<String>,
    pub(crate) last_error: Option<String>,
}

/// Another cluster of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PeerView {
    pub(crate) cluster: String,
    pub(crate) state: PeerStateView,
    pub(crate) trust_domain: String,
    pub(crate) services: u32,
    pub(crate) tunnels: Vec<TunnelView>,
    pub(crate) next_dial_in_millis: u64,
    pub(crate) last_error: Option<String>,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerStateView {
    Dialling,
    Connected,
    Draining,
    Lost,
    Waiting,
    Unknown,
}

impl PeerStateView {
    pub(crate) fn new(state: PeerState) -> Self {
        match state {
            PeerState::Dialling => Self::Dialling,
            PeerState::Connected => Self::Connected,
            PeerState::Draining => Self::Draining,
            PeerState::Lost => Self::Lost,
            PeerState::Waiting => Self::Waiting,
            PeerState::Unspecified => Self::Unknown,
        }
    }

    pub(crate) const fn shown(self) -> (&'static str, Mood) {
        match self {
            Self::Dialling => ("dialling", Mood::Doubtful),
            Self::Connected => ("connected", Mood::Good),
            Self::Draining => ("draining", Mood::Doubtful),
            Self::Lost => ("lost", Mood::Bad),
            Self::Waiting => ("waiting", Mood::Doubtful),
            Self::Unknown => ("unknown", Mood::Doubtful),
        }
    }
}

/// One connection to a gateway of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TunnelView {
    pub(crate) remote: String,
    pub(crate) dialled: bool,
    pub(crate) rtt_micros: u64,
    pub(crate) connected_at: Option<String>,
    pub(crate) streams: u32,
    pub(crate) clock_skew_millis: i64,
    pub(crate) software: Option<String>,
    #[serde(skip)]
    since: Option<Timestamp>,
}

/// A manifest that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct QuarantinedView {
    pub(crate) file: String,
    pub(crate) line: Option<u32>,
    pub(crate) object: Option<String>,
    pub(crate) reason: String,
}

fn date(seconds: u64) -> Option<String> {
    clock::moment(seconds).and_then(clock::date)
}

impl From<Status> for GatewayView {
    fn from(status: Status) -> Self {
        let mut peers: Vec<_> = status.peers.into_iter().map(PeerView::from).collect();
        peers.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        Self {
            cluster: status.cluster,
            trust_domain: status.trust_domain,
            gateway_id: status.gateway_id,
            software: status.software,
            ready: status.ready,
            not_ready_reason: some(status.not_ready_reason),
            warnings: status.warnings,
            started_at: date(status.started_at),
            cluster_authority: status.cluster_authority,
            identity_source: status.identity_source,
            certificate_expires_at: date(status.certificate_expires_at),
            certificate_serial: some(status.certificate_serial),
            membership: status.federation.unwrap_or_default().into(),
            advertise: status.advertise,
            exports: status.exports,
            imports: status.imports,
            connections: status.connections,
            peers,
            quarantined: status.quarantined.into_iter().map(QuarantinedView::from).collect(),
            foreign: status.foreign.into_iter().map(ForeignBundleView::from).collect(),
            times: [status.started_at, status.certificate_expires_at].map(clock::moment),
        }
    }
}

impl From<Federation> for MembershipView {
    fn from(federation: Federation) -> Self {
        let Federation { joined, connected, addresses, revision, last_error, authority, pending } = federation;
        let (authority, last_error) = (some(authority), some(last_error));
        Self { joined, pending, connected, addresses, revision, authority, last_error }
    }
}

impl From<Peer> for PeerView {
    fn from(peer: Peer) -> Self {
        Self {
            state: PeerStateView::new(peer.state()),
            cluster: peer.cluster,
            trust_domain: peer.trust_domain,
            services: peer.services,
            tunnels: peer.tunnels.into_iter().map(TunnelView::from).collect(),
            next_dial_in_millis: peer.next_dial_in_millis,
            last_error: some(peer.last_error),
        }
    }
}

impl From<Tunnel> for TunnelView {
    fn from(tunnel: Tunnel) -> Self {
        let Tunnel { remote, dialled, rtt_micros, connected_at, streams, clock_skew_millis, software } = tunnel;
        Self {
            remote,
            dialled,
            rtt_micros,
            connected_at: date(connected_at),
            streams,
            clock_skew_millis,
            software: some(software),
            since: clock::moment(connected_at),
        }
    }
}

impl From<ForeignBundle> for ForeignBundleView {
    fn from(bundle: ForeignBundle) -> Self {
        let ForeignBundle { trust_domain, sequence, authorities } = bundle;
        Self { trust_domain, sequence, authorities }
    }
}

impl From<Quarantined> for QuarantinedView {
    fn from(entry: Quarantined) -> Self {
        let Quarantined { file, line, object, reason } = entry;
        Self { file, line: Some(line).filter(|line| *line != 0), object: some(object), reason }
    }
}

/// The gateway, its peers and what is quarantined.
pub(crate) fn text(gateway: &GatewayView, look: Look) -> String {
    let mut text = overview(gateway, look);
    text.push('\n');
    text.push_str(&peers(gateway, look));
    if !gateway.quarantined.is_empty() {
        text.push('\n');
        text.push_str(&quarantined(gateway, look));
    }
    text
}

fn overview(gateway: &GatewayView, look: Look) -> String {
    let [started, expires] = gateway.times;
    let mut facts = look.facts();
    facts.add_row(["Cluster", &format!("{} ({})", gateway.cluster, gateway.trust_domain)]);
    let (ready, mood) = match &gateway.not_ready_reason {
        _ if gateway.ready => ("ready".to_owned(), Mood::Good),
        Some(reason) => (format!("not ready: {reason}"), Mood::Bad),
        None => ("not ready".to_owned(), Mood::Bad),
    };
    facts.add_row(["Gateway".into(), mood_cell(ready, mood)]);
    for warning in &gateway.warnings {
        facts.add_row(["".into(), mood_cell(warning.clone(), Mood::Doubtful)]);
    }
    facts.add_row(["", &format!("{}, {}, up {}", gateway.gateway_id, gateway.software, clock::ago(look.now, started))]);
    facts.add_row(["Authority", &format!("{} ({})", gateway.cluster_authority, gateway.identity_source)]);
    let serial = gateway.certificate_serial.as_ref().map(|serial| format!(", serial {serial}")).unwrap_or_default();
    facts.add_row(["Certificate", &format!("expires {}{serial}", clock::away(look.now, expires))]);
    if !gateway.advertise.is_empty() {
        facts.add_row(["Address", &gateway.advertise.join(" ")]);
    }
    let (membership, mood) = membership(&gateway.membership);
    facts.add_row(["Federation".into(), mood_cell(membership, mood)]);
    let GatewayView { exports, imports, connections, .. } = gateway;
    facts.add_row(["Services", &format!("{exports} exported, {imports} imported, {connections} connections")]);
    for bundle in &gateway.foreign {
        let authorities = match bundle.authorities.len() {
            0 => "every authority revoked".to_owned(),
            number => count(number, "authority", "authorities"),
        };
        facts.add_row(["Foreign", &format!("{}, {authorities}, sequence {}", bundle.trust_domain, bundle.sequence)]);
    }
    text_of(facts)
}

fn membership(membership: &MembershipView) -> (String, Mood) {
    let error = membership.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let addresses = membership.addresses.join(" ");
    match (membership.joined, membership.connected) {
        (false, _) => (format!("not joined{error}"), Mood::Doubtful),
        (true, _) if membership.pending => (format!("waiting for approval ({addresses}){error}"), Mood::Doubtful),
        (true, true) => (format!("connected to {addresses}, revision {}", membership.revision), Mood::Good),
        (true, false) => {
            (format!("away ({addresses}); going on with revision {}{error}", membership.revision), Mood::Doubtful)
        }
    }
}

fn peers(gateway: &GatewayView, look: Look) -> String {
    if gateway.peers.is_empty() {
        let next = match (gateway.membership.joined, gateway.membership.pending) {
            (true, true) => format!(
                "an operator runs fedctl approve {} --fingerprint {}",
                gateway.cluster, gateway.cluster_authority
            ),
            (true, false) => "waiting for other clusters to join".to_owned(),
            (false, _) => "fedctl join TOKEN".to_owned(),
        };
        return format!("No peers. Next: {next}\n");
    }
    let mut table = look.table(&["PEER", "STATE", "SERVICES", "REMOTE", "RTT", "SKEW", "STREAMS", "UP", "DETAIL"]);
    for peer in &gateway.peers {
        let (word, mood) = peer.state.shown();
        let detail = detail(peer);
        let mut tunnels = peer.tunnels.iter();
        let first = tunnels.next().map_or_else(
            || ["-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned(), "-".to_owned()],
            |tunnel| cells(tunnel, look),
        );
        let [remote, rtt, skew, streams, up] = first;
        table.add_row([
            peer.cluster.as_str().into(),
            mood_cell(word, mood),
            peer.services.into(),
            remote.into(),
            rtt.into(),
            skew.into(),
            streams.into(),
            up.into(),
            detail.into(),
        ]);
        for tunnel in tunnels {
            let [remote, rtt, skew, streams, up] = cells(tunnel, look);
            table.add_row(["", "", "", &remote, &rtt, &skew, &streams, &up, ""]);
        }
    }
    text_of(table)
}

fn detail(peer: &PeerView) -> String {
    let next = match peer.next_dial_in_millis {
        0 => None,
        millis => Some(format!("next dial in {}.{}s", millis / 1000, millis % 1000 / 100)),
    };
    let error = peer.last_error.clone().filter(|_| peer.state != PeerStateView::Connected);
    let parts: Vec<_> = [error, next].into_iter().flatten().collect();
    or_dash(&parts.join("; ")).to_owned()
}

fn cells(tunnel: &TunnelView, look: Look) -> [String; 5] {
    let direction = if tunnel.dialled { "->" } else { "<-" };
    [
        format!("{direction} {}", tunnel.remote),
        clock::rtt(tunnel.rtt_micros),
        format!("{}ms", tunnel.clock_skew_millis),
        tunnel.streams.to_string(),
        clock::ago(look.now, tunnel.since),
    ]
}

fn quarantined(gateway: &GatewayView, look: Look) -> String {
    let mut table = look.table(&["QUARANTINED", "OBJECT", "REASON"]);
    for entry in &gateway.quarantined {
        let file = if entry.file.is_empty() { "API server" } else { &entry.file };
        let place = entry.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        table.add_row([
            mood_cell(place, Mood::Bad),
            or_dash(entry.object.as_deref().unwrap_or_default()).into(),
            entry.reason.as_str().into(),
        ]);
    }
    let in_files = gateway.quarantined.iter().any(|entry| !entry.file.is_empty());
    let (one, many) = if in_files { ("manifest is", "manifests are") } else { ("object is", "objects are") };
    let what = count(gateway.quarantined.len(), one, many);
    format!("{}{what} not in force; everything else is.\n", text_of(table))
}
