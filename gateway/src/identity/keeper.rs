//! Keeps the identity fresh, and carries a rotation through.
//!
//! Owns the loop: look, take the next step, wait for whatever may change it. What the next step is, `federation_pki::rotation`
//! says, from facts that are on disk or told by the peers, so that a crash loses nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use federation_model::{bundle::Fingerprint, names::ClusterName, time::Timestamp};
use federation_pki::{
    continuity,
    material::Material,
    renew,
    rotation::{self, PeerStanding, Phase, Situation, Step, Taken, clocks_behind},
    signer::Signer,
    svid::Svid,
};
use federation_runtime::admin::Condition;
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    ClusterIdentity, Order, Ordered, Origin, Standing, Surroundings, is_urgent, issuer, now,
    origin::certificate,
    outset::{bundle, stands_under},
};

/// How often everything is looked at without a reason: the wall clock may jump, and hosts sleep.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The least time between two looks: peers that come and go must not take a processor.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// The least time between two certificates that are issued because one was revoked: another one does not help when the id is.
const LEAST_LIFE: Duration = Duration::from_secs(600);
/// Steps of one look; a rotation has three.
const MAX_STEPS: usize = 8;
/// What a certificate that cannot be renewed waits for.
const ENDS_WITH_AUTHORITY: &str = "its authority expires with it: replace the authority";

/// The owner of renewal and rotation.
#[derive(Debug)]
pub struct Keeper {
    identity: Arc<ClusterIdentity>,
    origin: Origin,
    /// What renews the certificate in use; nothing when its source has moved on.
    active: Option<Arc<Material>>,
    orders: mpsc::Receiver<Ordered>,
    /// A certificate that waits for the clocks of peers.
    ready: Option<Svid>,
    forced: bool,
    /// Whether the certificate in use is to be replaced at once, and when that was last so.
    disowned: bool,
    disowned_at: Option<Instant>,
    jitter: f64,
    failures: u32,
    retry_at: Option<Instant>,
    last_error: Option<String>,
}

/// What one look depends on.
struct Look {
    now: Timestamp,
    peers: BTreeMap<ClusterName, PeerStanding>,
    told: bool,
}

impl Keeper {
    pub(super) fn new(
        identity: Arc<ClusterIdentity>,
        origin: Origin,
        active: Option<Arc<Material>>,
        orders: mpsc::Receiver<Ordered>,
    ) -> Self {
        Self {
            identity,
            origin,
            active,
            orders,
            ready: None,
            forced: false,
            disowned: false,
            disowned_at: None,
            jitter: rand::random(),
            failures: 0,
            retry_at: None,
            last_error: None,
        }
    }

    /// Runs until `stop`; `condition` tells how the certificate is.
    pub async fn run(mut self, mut around: Surroundings, condition: Condition, stop: CancellationToken) {
        let mut changes = around.tunnels.changes();
        let disowned = self.identity.disowned();
        loop {
            changes.mark_unchanged();
            around.members.mark_unchanged();
            around.membership.mark_unchanged();
            let standing = self.look(&around);
            let wake = self.wake(&standing);
            self.tell(standing, &condition);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some((order, reply)) = self.orders.recv() => {
                    // Whoever ordered may have gone; the order holds all the same.
                    let _ = reply.send(self.obey(&order));
                }
                () = disowned.notified() => self.disown(),
                // What failed with the former material says nothing about this one.
                () = self.origin.changed() => self.retry_at = None,
                Ok(()) = changes.changed() => {}
                Ok(()) = around.members.changed() => {}
                Ok(()) = around.membership.changed() => {}
                () = sleep_until(wake) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(LEAST_PAUSE) => {}
            }
        }
    }

    fn disown(&mut self) {
        let allowed = self.disowned_at.is_none_or(|at| at.elapsed() >= LEAST_LIFE);
        if allowed && matches!(self.active.as_deref(), Some(Material::Issuer(_))) {
            tracing::warn!(
                serial = self.identity.live.current().serial(),
                "the certificate in use was revoked: another one is issued"
            );
            (self.disowned, self.disowned_at) = (true, Some(Instant::now()));
        }
    }

    /// Takes every step that can be taken now; says where things stand after it.
    fn look(&mut self, around: &Surroundings) -> Standing {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return self.standing(Phase::Settled);
        }
        self.retry_at = None;
        for _ in 0..MAX_STEPS {
            match self.step(around) {
                Ok(Some(standing)) => {
                    (self.failures, self.last_error) = (0, None);
                    return standing;
                }
                Ok(None) => {}
                Err(error) => return self.failed(&error),
            }
        }
        self.standing(Phase::Settled)
    }

    /// One step; nothing when another one may follow at once.
    fn step(&mut self, around: &Surroundings) -> anyhow::Result<Option<Standing>> {
        let lineage = self.identity.lineage.borrow().clone();
        let svid = self.identity.live.current();
        let look = Look { now: now(), peers: around.peers(&lineage, &svid), told: around.told(&lineage) };
        let (wanted, published) = (self.origin.wanted(), self.identity.bundle());
        let authorities = wanted.authorities();
        let urgent = is_urgent(&svid, look.now);
        let step = rotation::step(&Situation {
            published: &published,
            told: look.told,
            wanted: &authorities,
            in_use: stands_under(&svid, &wanted, &self.identity.cluster, look.now),
            peers: &look.peers,
            forced: self.forced || urgent,
        });
        match step {
            Step::Publish { phase, authorities } => {
                self.publish(authorities)?;
                tracing::info!(%phase, sequence = published.sequence + 1, "published another version of the trust bundle");
                self.report(if phase == Phase::Retiring { Taken::Retired } else { Taken::Published });
                self.forced = false;
                Ok(None)
            }
            Step::Activate => self.activate(&wanted, &look),
            Step::Wait { phase, blockers } => {
                if phase == Phase::Draining {
                    self.issue_from(wanted);
                    if !urgent && self.offers_another_authority(&svid, &look) {
                        return Ok(Some(Standing { blockers, ..self.standing(phase) }));
                    }
                }
                let clocks = self.renew(&look)?;
                Ok(Some(Standing { blockers, clocks, ..self.standing(phase) }))
            }
            Step::Settled { behind } => {
                self.issue_from(wanted);
                self.settle()?;
                if !behind.is_empty() && !self.forced && !urgent && self.offers_another_authority(&svid, &look) {
                    return Ok(Some(Standing { blockers: behind, ..self.standing(Phase::Preparing) }));
                }
                self.forced = false;
                let clocks = self.renew(&look)?;
                Ok(Some(Standing { behind, clocks, ..self.standing(Phase::Settled) }))
            }
            Step::TooMany(count) => anyhow::bail!(
                "the trust bundle would hold {count} authorities, {} are accepted: wait until the former ones are retired",
                federation_model::bundle::MAX_AUTHORITIES
            ),
        }
    }

    /// Signs, keeps and announces the next version of the trust bundle.
    fn publish(&self, authorities: Vec<CertificateDer<'static>>) -> anyhow::Result<()> {
        let lineage = self.identity.lineage.borrow().clone();
        let newest = self.identity.newest();
        let signer = self.signer(&newest.bundle)?;
        let next = continuity::next(&newest, authorities, (&signer, now())).context("cannot sign the trust bundle")?;
        let next = lineage.followed_by(next);
        self.identity.kept.keep_lineage(&next).context("cannot keep the next version of the trust bundle")?;
        self.identity.lineage.send_replace(Arc::new(next));
        Ok(())
    }

    /// A key that the members who hold `published` accept.
    fn signer(&self, published: &federation_model::bundle::TrustBundle) -> anyhow::Result<Signer> {
        let mut authorities = self.origin.authorities().into_iter();
        let known = authorities.find(|authority| published.authorities.contains(authority.certificate()));
        if let Some(authority) = known {
            return Ok(Signer::Authority(authority));
        }
        let svid = self.identity.live.current();
        anyhow::ensure!(
            svid.stands_under(published, now()),
            "nobody can sign the next trust bundle: neither the former authority's key nor a valid certificate of it is here; leave and join again, and have every member run fedctl trust accept"
        );
        Ok(Signer::Gateway(svid))
    }

    /// Takes a certificate of the wanted material into use, as soon as every peer's clock accepts it.
    fn activate(&mut self, wanted: &Arc<Material>, look: &Look) -> anyhow::Result<Option<Standing>> {
        let held = self.ready.take().filter(|svid| stands_under(svid, wanted, &self.identity.cluster, look.now));
        let svid = match held {
            Some(svid) => svid,
            None => certificate(wanted, &self.identity.cluster, &self.identity.config, look.now)?,
        };
        let clocks = clocks_behind(&svid.validity(), &look.peers, look.now);
        if !clocks.is_empty() && !self.forced && !is_urgent(&self.identity.live.current(), look.now) {
            self.ready = Some(svid);
            return Ok(Some(Standing { clocks, ..self.standing(Phase::Preparing) }));
        }
        self.issue_from(wanted.clone());
        self.take(svid);
        tracing::info!("certificates of the new authority are in use");
        self.report(Taken::Activated);
        self.forced = false;
        Ok(None)
    }

    /// From now on certificates come from this material.
    fn issue_from(&mut self, material: Arc<Material>) {
        self.identity.issuer.store(issuer(&material));
        self.active = Some(material);
    }

    /// Whether the source has a ready certificate of an authority that the one in use does not stand under: peers must believe
    /// that authority before they see the certificate.
    fn offers_another_authority(&self, svid: &Svid, look: &Look) -> bool {
        let Some(Material::Leaf { svid: offered, authorities }) = self.active.as_deref() else { return false };
        let alone = |der: &CertificateDer<'static>| bundle(vec![der.clone()], &self.identity.cluster);
        let mut above = authorities.iter().map(alone).filter(|one| svid.stands_under(one, look.now));
        offered.fingerprint() != svid.fingerprint() && !above.any(|one| offered.stands_under(&one, look.now))
    }

    /// Renews the certificate in use when it is time; whose clocks it waits for.
    fn renew(&mut self, look: &Look) -> anyhow::Result<Vec<(ClusterName, Duration)>> {
        let svid = self.identity.live.current();
        let Some(active) = self.active.clone() else { return Ok(Vec::new()) };
        let next = match (self.ready.take(), &*active) {
            (Some(ready), _) if stands_under(&ready, &active, &self.identity.cluster, look.now) => ready,
            (_, Material::Leaf { svid: offered, .. }) if offered.fingerprint() != svid.fingerprint() => offered.clone(),
            (_, Material::Issuer(authority))
                if self.disowned
                    || authority.expires_at() > svid.not_after()
                        && look.now >= renew::due(&svid.validity(), self.jitter) =>
            {
                certificate(&active, &self.identity.cluster, &self.identity.config, look.now)?
            }
            (_, Material::Leaf { .. } | Material::Issuer(_)) => return Ok(Vec::new()),
        };
        let clocks = clocks_behind(&next.validity(), &look.peers, look.now);
        if clocks.is_empty() || self.disowned || is_urgent(&svid, look.now) {
            self.take(next);
            return Ok(Vec::new());
        }
        self.ready = Some(next);
        Ok(clocks)
    }

    fn take(&mut self, svid: Svid) {
        if let Err(error) = self.identity.kept.keep_svid(&svid) {
            // It is in use all the same: a restart takes another one.
            tracing::error!(%error, "cannot keep the new certificate");
        }
        self.identity.present(svid);
        self.disowned = false;
        self.identity.metrics.renewed();
        self.jitter = rand::random();
    }

    /// Removes what a rotation leaves behind.
    fn settle(&mut self) -> anyhow::Result<()> {
        if let Origin::SelfSigned(own) = &mut self.origin
            && own.next.is_some()
        {
            own.promote()?;
            tracing::info!(fingerprint = %own.current.fingerprint(), "the rotation of the authority is done; the old key is removed");
        }
        Ok(())
    }

    fn obey(&mut self, order: &Order) -> Result<(), String> {
        self.retry_at = None;
        let Origin::SelfSigned(own) = &mut self.origin else {
            return match order {
                Order::Force => {
                    self.forced = true;
                    Ok(())
                }
                Order::Rotate | Order::Cancel => Err(
                    "the authority of this cluster comes from outside (`identity.source`): replace it there, and the gateway follows, gate by gate; fedctl trust rotate --status shows how far it is".to_owned(),
                ),
            };
        };
        let said = |error: anyhow::Error| format!("{error:#}");
        match order {
            Order::Rotate => own.begin().map_err(said),
            Order::Force => {
                self.forced = true;
                Ok(())
            }
            Order::Cancel => {
                let svid = self.identity.live.current();
                let relied_on = own.next.as_ref().is_some_and(|next| {
                    svid.stands_under(&bundle(vec![next.certificate().clone()], &self.identity.cluster), now())
                });
                if relied_on {
                    return Err("the next authority is in use already: let the rotation finish".to_owned());
                }
                own.cancel().map_err(said)?;
                self.report(Taken::Cancelled);
                Ok(())
            }
        }
    }

    /// Has the audit log of the set told of a step.
    fn report(&self, taken: Taken) {
        let authorities = self.active.iter().flat_map(|material| material.authorities());
        let authority = authorities.map(|der| Fingerprint::of(&der)).next();
        self.identity.reports.tell(taken, authority, self.forced);
    }

    fn failed(&mut self, error: &anyhow::Error) -> Standing {
        let pause = renew::retry(self.failures, rand::random());
        let expires_in = self.identity.live.current().not_after().since(now());
        tracing::error!(error = format!("{error:#}"), ?expires_in, ?pause, "cannot renew or rotate");
        self.identity.metrics.failed();
        self.failures = self.failures.saturating_add(1);
        self.last_error = Some(format!("{error:#}"));
        self.retry_at = Some(Instant::now() + pause);
        self.standing(Phase::Settled)
    }

    fn standing(&self, phase: Phase) -> Standing {
        let svid = self.identity.live.current();
        let ends_with_authority = self.ends_with_authority(&svid);
        let next_renewal = ends_with_authority.map(|ends| (!ends).then(|| renew::due(&svid.validity(), self.jitter)));
        let faults: Vec<_> = self.origin.fault().into_iter().chain(self.last_error.clone()).collect();
        let fault = (!faults.is_empty()).then(|| faults.join("; "));
        let late = ends_with_authority == Some(true) && now() >= renew::late(&svid.validity());
        Standing {
            phase,
            next_renewal: next_renewal.flatten(),
            failures: self.failures,
            fault: fault.or_else(|| late.then(|| ENDS_WITH_AUTHORITY.to_owned())),
            ..Standing::default()
        }
    }

    /// Whether no certificate of the authority that issued this one can be valid for longer; nothing where the authority is
    /// not here.
    fn ends_with_authority(&self, svid: &Svid) -> Option<bool> {
        let authority = issuer(self.active.as_deref()?)?;
        Some(authority.expires_at() <= svid.not_after())
    }

    /// When to look again at the latest.
    fn wake(&self, standing: &Standing) -> Instant {
        let at = Instant::now();
        let clocks = standing.clocks.iter().map(|(_, wait)| *wait).min();
        let renewal = standing.next_renewal.map(|due| due.since(now()));
        let wait = clocks.into_iter().chain(renewal).min().unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
        let wait = self.retry_at.map_or(wait, |retry| retry.saturating_duration_since(at));
        at + wait.max(LEAST_PAUSE)
    }

    fn tell(&self, standing: Standing, condition: &Condition) {
        let svid = self.identity.live.current();
        let (left, late) = (svid.not_after().since(now()), now() >= renew::late(&svid.validity()));
        match &standing.fault {
            Some(fault) if left.is_zero() => condition.fails(format!("the gateway's certificate has expired: {fault}")),
            None if left.is_zero() => condition.fails("the gateway's certificate has expired; see fedctl certs"),
            Some(fault) => condition.endangered(format!("the certificate expires in {left:?}: {fault}")),
            None if late => {
                condition.endangered(format!("the certificate expires in {left:?}, and its renewal is late"))
            }
            None => condition.holds(),
        }
        self.identity.metrics.standing(&standing, &self.identity.newest());
        self.identity.standing.send_if_modified(|held| {
            let changed = **held != standing;
            if changed {
                *held = Arc::new(standing);
            }
            changed
        });
    }
}
