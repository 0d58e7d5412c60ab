//! A join: its plan and its result.

use std::collections::BTreeMap;

use federation_kube::install::Manifest;
use federation_model::time::Timestamp;
use federation_pki::token::JoinToken;
use proto::gateway::v1::{Peer, Status};
use serde::Serialize;

use super::{
    Look, count,
    findings::{self, FindingView},
    status::{PeerStateView, PeerView},
    text_of,
};
use crate::clock;

/// What will be done, from what the token and the gateway say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) cluster: String,
    pub(crate) trust_domain: String,
    pub(crate) cluster_authority: String,
    pub(crate) federation_authority: String,
    addresses: String,
    expires_at: Timestamp,
}

impl Plan {
    pub(crate) fn new(status: &Status, token: &JoinToken) -> Self {
        let addresses: Vec<_> = token.addresses.iter().map(ToString::to_string).collect();
        Self {
            cluster: status.cluster.clone(),
            trust_domain: status.trust_domain.clone(),
            cluster_authority: status.cluster_authority.clone(),
            federation_authority: token.pin.to_string(),
            addresses: addresses.join(" "),
            expires_at: token.expires_at,
        }
    }

    pub(crate) fn text(&self, look: Look) -> String {
        let mut facts = look.facts();
        facts.add_row(["Cluster", &format!("{} ({})", self.cluster, self.trust_domain)]);
        facts.add_row(["  its authority", &self.cluster_authority]);
        facts.add_row(["Federation", &self.addresses]);
        facts.add_row(["  its authority", &self.federation_authority]);
        facts.add_row(["Token", &format!("expires {}", clock::away(look.now, Some(self.expires_at)))]);
        text_of(facts)
    }
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct JoinView {
    pub(crate) cluster: String,
    pub(crate) trust_domain: String,
    pub(crate) cluster_authority: String,
    pub(crate) federation_authority: String,
    pub(crate) dry_run: bool,
    pub(crate) joined: bool,
    pub(crate) already_member: bool,
    pub(crate) pending: bool,
    pub(crate) members: u32,
    pub(crate) peers_expected: u32,
    pub(crate) peers_connected: u32,
    pub(crate) peers: Vec<PeerView>,
    pub(crate) findings: Vec<FindingView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) probes: Vec<FindingView>,
    /// The context of the kubeconfig, for what is next.
    #[serde(skip)]
    pub(crate) context: Option<String>,
}

/// A gateway that is to be installed before the join.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Installation<'a> {
    pub(crate) server: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) manifests: &'a [Manifest],
}

impl Installation<'_> {
    pub(crate) fn text(self) -> String {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for manifest in self.manifests {
            *kinds.entry(manifest.kind()).or_default() += 1;
        }
        let kinds: Vec<_> = kinds.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
        format!(
            "No gateway is installed in {}.\nTo be installed in the namespace {}: {}\n",
            self.server,
            self.namespace,
            kinds.join(", ")
        )
    }
}

impl JoinView {
    pub(crate) fn of(plan: &Plan, dry_run: bool) -> Self {
        Self {
            cluster: plan.cluster.clone(),
            trust_domain: plan.trust_domain.clone(),
            cluster_authority: plan.cluster_authority.clone(),
            federation_authority: plan.federation_authority.clone(),
            dry_run,
            ..Self::default()
        }
    }

    /// Takes in a new state of a peer, and tells it.
    pub(crate) fn peer(&mut self, peer: Peer) -> String {
        let peer = PeerView::from(peer);
        let (word, _) = peer.state.shown();
        let mut told = format!("peer {}: {word}", peer.cluster);
        if peer.state == PeerStateView::Connected {
            if let Some(tunnel) = peer.tunnels.first() {
                told.push_str(&format!(", {}, {}", tunnel.remote, clock::rtt(tunnel.rtt_micros)));
            }
        } else if let Some(error) = &peer.last_error {
            told.push_str(&format!(" ({error})"));
        }
        match self.peers.iter_mut().find(|known| known.cluster == peer.cluster) {
            Some(known) => *known = peer,
            None => self.peers.push(peer),
        }
        told
    }

    pub(crate) fn text(&self, look: Look) -> String {
        if self.pending {
            let (cluster, authority) = (&self.cluster, &self.cluster_authority);
            let since = if self.already_member { "has joined already, and" } else { "has joined, and" };
            return format!(
                "{cluster} {since} waits for approval by an operator of the federation service.\nIts authority is {authority}\nNext: the operator runs fedctl approve {cluster} --fingerprint {authority}\n"
            );
        }
        if self.already_member && self.peers_expected == self.peers_connected {
            return format!("{} is a member of this cluster set already; nothing was changed.\n", self.cluster);
        }
        let members = count(usize::try_from(self.members).unwrap_or(usize::MAX), "cluster", "clusters");
        let mut text = format!("{} is a member of the cluster set now: {members} in it, ", self.cluster);
        text.push_str(&format!("{} of {} peers connected.\n", self.peers_connected, self.peers_expected));
        let next = match (self.peers_expected, self.peers_connected, &self.context) {
            (0, ..) => "fedctl token create --cluster NAME (for the next cluster)".to_owned(),
            (expected, connected, _) if connected < expected => {
                "fedctl status, then fedctl check on both clusters".to_owned()
            }
            (_, _, Some(context)) => format!(
                "fedctl dns install --context {context}, so that pods resolve names of clusterset.local; then export a service"
            ),
            (_, _, None) => "fedctl services".to_owned(),
        };
        if !self.probes.is_empty() {
            text.push_str(&format!("\n{}\n", findings::table(&self.probes, look)));
        }
        text.push_str(&format!("Next: {next}\n"));
        text
    }
}
