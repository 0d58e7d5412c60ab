//! What is wrong with this gateway, and what to do about it.
//!
//! Owns the list of checks. Never repairs anything.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation_model::{finding::Finding, names::ClusterName, time::Timestamp};
use federation_pki::{
    horizon::{Break, Part, Whose},
    rotation::Phase,
};
use gateway_tunnel::{PeerStatus, TunnelState};

use super::{
    Administration,
    ends::{self, Own},
    policy,
    status::{self, words},
};
use crate::config::IdentitySource;

/// A clock that is further off than certificates allow for.
const MAX_SKEW: Duration = Duration::from_secs(60);
/// A clock that should be looked at.
const SKEW_TO_MENTION: Duration = Duration::from_secs(5);

/// Runs every check.
pub(super) async fn check(this: &Arc<Administration>) -> Vec<Finding> {
    let now = Timestamp::from(SystemTime::now());
    let breaks = this.horizon().breaks(now);
    let own = Own { cluster: &this.config.cluster.name, source: this.config.identity.source };
    let mut findings = vec![readiness(this)];
    findings.extend(certificate(this, &breaks, now));
    findings.extend([authority(this), federation(this)]);
    findings.extend(breaks.iter().map(|ends| ends::finding(ends, own, now)));
    findings.extend(trust(this));
    findings.extend(this.tunnels.status().iter().flat_map(peer));
    findings.extend(this.source.findings());
    findings.extend(this.controllers.iter().flat_map(|found| found.borrow().to_vec()));
    findings.extend(quarantined(this));
    findings.extend(this.notices.borrow().iter().cloned());
    findings.extend(policies(this).await);
    findings.extend(services(this));
    findings.push(names(this).await);
    if let Some(delegated) = &this.delegated {
        findings.extend(delegated.look().await);
    }
    findings
}

/// What is wrong with policies that can be read; the others are among the documents that cannot.
async fn policies(this: &Arc<Administration>) -> Vec<Finding> {
    let administration = this.clone();
    let found = tokio::task::spawn_blocking(move || policy::list::findings(&administration)).await;
    match found {
        Ok(found) => found.iter().map(Finding::from).collect(),
        Err(error) => vec![Finding::failed("policies", error.to_string(), "report it with the gateway's log")],
    }
}

fn readiness(this: &Administration) -> Finding {
    match this.readiness.blocked_by() {
        None => Finding::ok("gateway", "ready"),
        Some(reason) => Finding::failed("gateway", format!("not ready: {reason}"), "look at the gateway's log"),
    }
}

/// The certificate, unless what ends says more of it.
fn certificate(this: &Administration, breaks: &[Break], now: Timestamp) -> Option<Finding> {
    let told = breaks.iter().any(|ends| ends.whose == Whose::Own && ends.part == Part::Certificate);
    let svid = this.identity.live().current();
    let left = svid.not_after().since(now);
    (!told).then(|| Finding::ok("certificate", format!("{} expires in {}", svid.id(), words(left))))
}

fn authority(this: &Administration) -> Finding {
    let detail = format!("{} ({})", status::authority(&this.identity), this.identity.source());
    match this.config.identity.source {
        IdentitySource::SelfSigned => Finding::warning(
            "authority",
            detail,
            "a self-made authority is fine to begin with; for production keep its key in a PKI of your own",
        ),
        IdentitySource::Files | IdentitySource::Spire => Finding::ok("authority", detail),
    }
}

fn federation(this: &Administration) -> Finding {
    let Some(membership) = this.follower.current() else {
        return Finding::warning(
            "federation",
            "this cluster has not joined a cluster set",
            "join one with fedctl join TOKEN",
        );
    };
    let link = this.follower.link();
    if let Some(rewound) = link.rewound {
        let hint = "what this gateway knows stays in force and traffic goes on; where the service is operated, when its state is the right one: fedctl recover";
        return Finding::failed("federation", format!("it has gone back to an older state: {rewound}"), hint);
    }
    match link.connected {
        Some(_) if membership.pending => {
            let authority = status::authority(&this.identity);
            Finding::warning(
                "federation",
                format!("waiting for approval of the join, with the authority {authority}"),
                format!("an operator compares the fingerprint: fedctl approve {}", membership.own),
            )
        }
        Some(address) => {
            Finding::ok("federation", format!("following {address} at revision {}", membership.position.revision))
        }
        None => Finding::warning(
            "federation",
            format!("the federation service does not answer: {}", link.last_error),
            "traffic goes on; changes of membership wait until the service is back",
        ),
    }
}

/// What is not believed, what a rotation waits for, and what ends soon.
fn trust(this: &Administration) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (cluster, refused) in this.follower.refused().iter() {
        findings.push(Finding::failed(
            &format!("bundle of {cluster}"),
            refused.error.to_string(),
            format!(
                "compare fingerprints with the operators of {cluster}; when it is right: fedctl trust accept {cluster}"
            ),
        ));
    }
    if let Some(error) = this.follower.link().bundle_error {
        findings.push(Finding::failed(
            "bundle of this cluster",
            format!("the federation service does not take it: {error}"),
            "the other members believe the version before; look at the log of the federation service",
        ));
    }
    let standing = this.identity.standing().borrow().clone();
    if let Some(fault) = &standing.fault {
        let hint =
            "the certificate in use stays until it expires; mend what is named, and the gateway goes on by itself";
        findings.push(Finding::warning("renewal of the certificate", fault.clone(), hint));
    }
    if standing.phase != Phase::Settled {
        let waits: Vec<_> = standing.blockers.iter().map(|blocker| blocker.reason.clone()).collect();
        let detail = format!("{}: {}", standing.phase, waits.join("; "));
        let hint = format!("fedctl trust rotate {} --status", this.config.cluster.name);
        findings.push(Finding::warning("rotation of the authority", detail, hint));
    }
    findings
}

fn peer(peer: &PeerStatus) -> Vec<Finding> {
    let check = format!("peer {}", peer.cluster);
    let Some(best) = peer.tunnels.iter().find(|tunnel| tunnel.state == TunnelState::Up) else {
        let reason = peer.last_error.clone().unwrap_or_else(|| {
            if peer.dials.is_empty() {
                "it has no address and has not dialled in".to_owned()
            } else {
                "no tunnel yet".to_owned()
            }
        });
        let hint = "check that UDP reaches the addresses it advertises, and that its gateway runs";
        return vec![Finding::failed(&check, reason, hint)];
    };
    let detail = format!("{} tunnel(s), round trip {:.1} ms", peer.tunnels.len(), best.rtt.as_secs_f64() * 1000.0);
    let mut findings = vec![Finding::ok(&check, detail)];
    findings.extend(peer.skew_millis().and_then(|millis| clock(&peer.cluster, millis)));
    findings
}

/// A clock that is so far off that somebody should know.
fn clock(cluster: &ClusterName, millis: i64) -> Option<Finding> {
    let skew = Duration::from_millis(millis.unsigned_abs());
    let clock = format!("clock of {cluster}");
    let off = format!("{} {}", words(skew), if millis < 0 { "behind" } else { "ahead" });
    if skew > MAX_SKEW {
        Some(Finding::failed(&clock, off, "set both clocks by NTP: new certificates may be refused"))
    } else if skew > SKEW_TO_MENTION {
        Some(Finding::warning(&clock, off, "set both clocks by NTP"))
    } else {
        None
    }
}

fn quarantined(this: &Administration) -> Vec<Finding> {
    let manifests = this.manifests.borrow().clone();
    let finding = |q: &federation_kube::manifests::Quarantined| match &q.file {
        Some(_) => Finding::failed("manifest", q.to_string(), "mend the file; what was good before stays in force"),
        None => Finding::failed("object", q.to_string(), "mend the object; what was good before stays in force"),
    };
    manifests.quarantined.iter().map(finding).collect()
}

fn services(this: &Administration) -> Vec<Finding> {
    let tables = this.tables.borrow().clone();
    let mut findings = Vec::new();
    for (key, import) in tables.imports() {
        for conflict in &import.conflicts {
            findings.push(Finding::warning(
                &format!("service {key}"),
                format!("its exports disagree: {}", conflict.reason()),
                "the oldest export wins; make the exports agree",
            ));
        }
        let usable = import.sources.iter().any(|(c, s)| s.health.ready > 0 && tables.is_reachable(c));
        if !usable {
            findings.push(Finding::warning(
                &format!("service {key}"),
                "no reachable cluster has a ready endpoint for it",
                "check the readiness of its pods in the clusters that export it",
            ));
        }
    }
    findings
}

async fn names(this: &Administration) -> Finding {
    let listen = this.config.dns.listen;
    match tokio::time::timeout(Duration::from_secs(2), tokio::net::TcpStream::connect(listen)).await {
        Ok(Ok(_)) => Finding::ok("dns", format!("answers at {listen}")),
        Ok(Err(error)) => Finding::failed("dns", format!("{listen}: {error}"), "look at the gateway's log"),
        Err(_) => Finding::failed("dns", format!("{listen} does not answer"), "look at the gateway's log"),
    }
}
