//! `fedctl link`: the clusters of several contexts become members of one cluster set.
//!
//! Does what operators would do by hand on both sides: a token for each cluster that is no member, the join with it, the approval
//! with the fingerprint that its gateway itself shows. Then it waits until each sees each, and verifies it. Installs nothing.

use std::{collections::BTreeSet, time::Duration};

use federation_kube::connect::Cluster;
use federation_model::{
    addr::GatewayAddr, bundle::Fingerprint, finding::Level, names::ClusterName, spiffe::TrustDomain,
};
use proto::gateway::v1::{BundleStanding, JoinRequest, Peer, PeerState, Status};
use tokio::time::{Instant, sleep};

use super::{check::pre, confirmed, join, look, probe::Probe};
use crate::{
    Ending,
    args::{Target, install::Program, link::Link},
    connect::{self, Gateway, Operator},
    failure::{Failure, OrHint as _},
    path::Path,
    print::{Console, Progress},
    render::{
        findings::FindingView,
        join::{JoinView, Plan},
        link::{LinkView, LinkedView, Seen, SightView, Will},
    },
};

/// How often the gateways are asked what they see.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The most addresses of one gateway that are tried.
const MAX_ADDRESSES: usize = 4;
/// How long a token lives that is spent at once.
const TOKEN_LIVES: Duration = Duration::from_secs(300);

/// One of the clusters.
struct Side {
    context: String,
    cluster: Cluster,
    gateway: Gateway,
    status: Status,
}

impl Side {
    async fn open(context: &str, target: &Target) -> Result<Self, Failure> {
        let target = in_context(context, target);
        let cluster = connect::cluster(&target).await?;
        let mut gateway = connect::gateway(&target).await?;
        let status = gateway.status().await?;
        known(&status).or_hint("the gateway does not say who it is", "one version of fedctl and of the image")?;
        Ok(Self { context: context.to_owned(), cluster, gateway, status })
    }

    fn seen(&self) -> Seen {
        let federation = self.status.federation.as_ref().filter(|federation| federation.joined || federation.pending);
        Seen {
            context: self.context.clone(),
            cluster: self.status.cluster.clone(),
            trust_domain: self.status.trust_domain.clone(),
            authority: self.status.cluster_authority.clone(),
            addresses: self.status.advertise.clone(),
            set: federation.map(|federation| federation.authority.clone()),
            pending: federation.is_some_and(|federation| federation.pending),
        }
    }
}

pub(super) async fn run(link: Link, target: &Target, console: &mut Console) -> Result<Ending, Failure> {
    let mut sides = Vec::new();
    for context in &link.contexts {
        sides.push(Side::open(context, target).await.map_err(|failure| failure.context(format!("context {context}")))?);
    }
    let (context, mut operator) = federation(&link, &sides, target).await?;
    let listing = operator.members().await?;
    let authorities: BTreeSet<_> =
        listing.federation.authorities.iter().map(|authority| Fingerprint::of(authority).to_string()).collect();
    let seen: Vec<_> = sides.iter().map(Side::seen).collect();
    let plan = Will::of_all(&seen, &authorities)?;
    let mut view = LinkView::new(context, &authorities, seen.into_iter().zip(plan).map(LinkedView::from).collect());
    if link.dry_run {
        let look = look(console);
        console.answer(&view, || view.plan(look));
        return Ok(Ending::Done);
    }
    console.note(&view.plan(look(console)));
    try_ways(&sides, &view, target, console).await?;
    if !link.yes && view.changes() {
        confirmed(console, "Link them?")?;
    }
    for (side, linked) in sides.iter_mut().zip(&mut view.clusters) {
        linked.done = carry_out(side, linked.will, &mut operator, console).await?;
    }
    view.sights = see(&mut sides, link.wait, &mut console.progress("waiting until each sees each")).await?;
    if !link.no_probe && !link.wait.is_zero() {
        view.probes = probe(&mut sides, target, console).await?;
    }
    let look = look(console);
    console.answer(&view, || view.text(look));
    Ok(if view.is_well(!link.wait.is_zero()) { Ending::Done } else { Ending::ChecksFailed })
}

/// Whether what a plan shows of a gateway is what it seems to be: names and fingerprints, and nothing else.
fn known(status: &Status) -> anyhow::Result<()> {
    status.cluster.parse::<ClusterName>()?;
    TrustDomain::new(&status.trust_domain)?;
    for authority in status.cluster_authority.split(' ') {
        authority.parse::<Fingerprint>()?;
    }
    for address in &status.advertise {
        address.parse::<GatewayAddr>()?;
    }
    Ok(())
}

fn in_context(context: &str, target: &Target) -> Target {
    Target { context: Some(context.to_owned()), gateway: None, ..target.clone() }
}

/// The federation service of the set: the one that is named, or else the one that runs beside one of the gateways.
async fn federation(link: &Link, sides: &[Side], target: &Target) -> Result<(Option<String>, Operator), Failure> {
    if target.federation.is_some() {
        return Ok((None, connect::operator(target).await?));
    }
    let mut found = link.federation_context.iter().cloned().collect::<Vec<_>>();
    if found.is_empty() {
        for side in sides {
            let there = side.cluster.has_pods(Program::Federation.name(), target.namespace.as_str()).await;
            if there.or_hint(format!("context {}", side.context), "--federation-context CONTEXT")? {
                found.push(side.context.clone());
            }
        }
    }
    match &found[..] {
        [context] => Ok((Some(context.clone()), connect::operator(&in_context(context, target)).await?)),
        [] => Err(Failure::because(
            "none of these clusters has a federation service",
            "--federation-context CONTEXT, where it runs elsewhere; or first fedctl install federation --context CONTEXT --name HOST",
        )),
        several => Err(Failure::because(
            format!("federation services run in {}", several.join(" and in ")),
            "--federation-context CONTEXT, with the one whose set it shall be",
        )),
    }
}

/// Tries the ways between clusters of which one is no member yet, before a token is spent. One way of two is enough.
async fn try_ways(sides: &[Side], view: &LinkView, target: &Target, console: &mut Console) -> Result<(), Failure> {
    if !view.changes() {
        return Ok(());
    }
    let mut ways = BTreeSet::new();
    for side in sides {
        console.progress("trying the ways").doing(&format!("trying the ways from {}", side.status.cluster));
        let others = sides.iter().filter(|other| other.status.cluster != side.status.cluster);
        let addressed: Vec<(&str, GatewayAddr)> = others
            .flat_map(|other| {
                let addresses = other.status.advertise.iter().take(MAX_ADDRESSES);
                addresses.map(|address| (other.status.cluster.as_str(), address))
            })
            .filter_map(|(name, address)| Some((name, address.parse().ok()?)))
            .collect();
        let addresses: Vec<_> = addressed.iter().map(|(_, address)| address.clone()).collect();
        let tried = pre::paths(&in_context(&side.context, target), &side.cluster, &addresses).await;
        for finding in tried.findings.iter().filter(|finding| finding.level != Level::Ok) {
            console.note(&format!("{}: {}: {}", side.status.cluster, finding.check, finding.detail));
        }
        // What is tried from here says nothing of what a pod reaches: then nothing is known, and nothing refused.
        let open = |path: &Path| path.carries() || !tried.origin_is_pod;
        let carried = tried.paths.iter().zip(&addressed).filter(|(path, _)| open(path));
        ways.extend(carried.map(|(_, (to, _))| (side.status.cluster.clone(), (*to).to_owned())));
    }
    // Those that are members already know best whether they see each other.
    let members: Vec<_> = view.clusters.iter().filter(|linked| linked.will != Will::Join).collect();
    ways.extend(
        members.iter().flat_map(|one| members.iter().map(|other| (one.cluster.clone(), other.cluster.clone()))),
    );
    let names: Vec<_> = sides.iter().map(|side| side.status.cluster.as_str()).collect();
    match apart(&names, &ways) {
        None => Ok(()),
        Some((one, other)) => Err(Failure::because(
            format!("no packet gets from {one} to {other} or back; no token was made"),
            "open UDP between them; fedctl check --pre --context CONTEXT --peer HOST:PORT tells when it is",
        )),
    }
}

/// Two clusters without a way in either direction.
fn apart(names: &[&str], ways: &BTreeSet<(String, String)>) -> Option<(String, String)> {
    let pairs = names.iter().enumerate().flat_map(|(at, one)| names[at + 1..].iter().map(move |other| (*one, *other)));
    let pairs = pairs.map(|(one, other)| (one.to_owned(), other.to_owned()));
    pairs.into_iter().find(|(one, other)| {
        !ways.contains(&(one.clone(), other.clone())) && !ways.contains(&(other.clone(), one.clone()))
    })
}

/// Makes one cluster a member; what was done.
async fn carry_out(
    side: &mut Side,
    will: Will,
    operator: &mut Operator,
    console: &mut Console,
) -> Result<&'static str, Failure> {
    let pending = match will {
        Will::Stay => return Ok("member already"),
        Will::Wait => return Ok("waits for approval"),
        Will::Join => joined(side, operator, console).await?,
    };
    if !pending {
        return Ok("joined");
    }
    let cluster =
        side.status.cluster.parse().or_hint("the gateway has no name", "the same version of fedctl and gateway")?;
    // It comes from the gateway itself, over the API server of its cluster: nobody needs to read it aloud.
    let first = side.status.cluster_authority.split(' ').next().unwrap_or_default();
    let authority = first.parse();
    let authority = authority.or_hint("the gateway has no authority", "the same version of fedctl and gateway")?;
    operator.approve(&cluster, &authority).await?;
    Ok("joined and approved")
}

/// Spends a token that was made for it; whether the join waits for approval.
async fn joined(side: &mut Side, operator: &mut Operator, console: &mut Console) -> Result<bool, Failure> {
    let name =
        side.status.cluster.parse().or_hint("the gateway has no name", "the same version of fedctl and gateway")?;
    let (token, _) = operator.create_token(&name, TOKEN_LIVES).await?;
    let mut view = JoinView::of(&Plan::new(&side.status, &token), false);
    let request = JoinRequest { token: token.to_string(), dry_run: false, wait_seconds: 0 };
    join::carry_out(&mut side.gateway, request, &mut view, console).await?;
    if view.joined {
        return Ok(view.pending);
    }
    let failed = view.findings.iter().find(|finding| finding.failed());
    let (reason, hint) = failed.map_or(("the gateway ended the join without a result", None), |finding| {
        (finding.detail.as_str(), finding.hint.as_deref())
    });
    Err(Failure::because(
        format!("{} cannot join: {reason}", side.status.cluster),
        hint.unwrap_or("fedctl check with its context, and the log of its gateway"),
    ))
}

/// Waits until each sees each; what each sees of each at the end.
async fn see(sides: &mut [Side], wait: Duration, progress: &mut Progress<'_>) -> Result<Vec<SightView>, Failure> {
    let names: Vec<String> = sides.iter().map(|side| side.status.cluster.clone()).collect();
    let (until, mut told) = (Instant::now() + wait, BTreeSet::new());
    loop {
        let mut sights = Vec::new();
        for side in &mut *sides {
            let status = side.gateway.status().await?;
            let bundles = side.gateway.certificates().await?.bundles;
            let others = names.iter().filter(|name| **name != status.cluster);
            sights.extend(others.map(|other| sight(&status, &bundles, other)));
        }
        for sight in sights.iter().filter(|sight| sight.connected) {
            if told.insert((sight.from.clone(), sight.to.clone())) {
                progress.done(&format!("{} sees {}, {}", sight.from, sight.to, sight.detail));
            }
        }
        if sights.iter().all(|sight| sight.is_settled(&sights)) || Instant::now() + ASK_EVERY > until {
            return Ok(sights);
        }
        sleep(ASK_EVERY).await;
    }
}

fn sight(status: &Status, bundles: &[BundleStanding], other: &str) -> SightView {
    let peer = status.peers.iter().find(|peer| peer.cluster == other);
    let sight =
        SightView::new(&status.cluster, other, peer.map(|peer| (peer.state() == PeerState::Connected, detail(peer))));
    match bundles.iter().find(|bundle| bundle.cluster == other && !bundle.refusal.is_empty()) {
        Some(bundle) if !sight.connected => sight.refused(&bundle.refusal, &bundle.refused),
        _ => sight,
    }
}

fn detail(peer: &Peer) -> String {
    match peer.tunnels.first() {
        Some(tunnel) => crate::clock::rtt(tunnel.rtt_micros),
        None if peer.last_error.is_empty() => {
            peer.state().as_str_name().trim_start_matches("PEER_STATE_").to_lowercase()
        }
        None => peer.last_error.clone(),
    }
}

/// Exports a service in each, for those that are connected with it.
async fn probe(sides: &mut [Side], target: &Target, console: &mut Console) -> Result<Vec<FindingView>, Failure> {
    let names: BTreeSet<String> = sides.iter().map(|side| side.status.cluster.clone()).collect();
    let mut findings = Vec::new();
    for side in sides {
        let status = side.gateway.status().await?;
        let connected = status.peers.iter().filter(|peer| peer.state() == PeerState::Connected);
        let peers: BTreeSet<_> =
            connected.map(|peer| peer.cluster.clone()).filter(|name| names.contains(name)).collect();
        let probe =
            Probe { cluster: &side.cluster, name: &status.cluster, namespace: &target.namespace, peers: &peers };
        findings.extend(probe.run(&mut side.gateway, &mut console.progress("verifying")).await?);
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_apart_when_no_packet_gets_through_in_either_direction() {
        let way = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let names = ["east", "north", "west"];
        let all = BTreeSet::from([way("east", "north"), way("west", "east"), way("north", "west")]);
        assert_eq!(apart(&names, &all), None);
        let some = BTreeSet::from([way("east", "north"), way("north", "east"), way("west", "east")]);
        assert_eq!(apart(&names, &some), Some(way("north", "west")));
    }
}
