//! Follows the federation service: joins, applies what changes, leaves.
//!
//! Owns the order in which a change takes effect: on disk, then in the trust store, then in the members that tunnels are
//! made to, and it is acknowledged once tunnels and connections were judged by it. What a member's own authority does not
//! speak for is not applied at all. A change that the disk refuses is in force all the same, since it may remove
//! somebody; it is not acknowledged. Never forgets a member because the service cannot be reached.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use federation_client::{
    membership::{MemberClient, Publication},
    watch::{WatchEvent, WatchUpdate},
};
use federation_model::{
    addr::GatewayAddr,
    bundle::Fingerprint,
    lineage::Lineage,
    names::ClusterName,
    spiffe::{SpiffeId, TrustDomain},
};
use federation_pki::{identity::LiveIdentity, trust::TrustStore};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Applied, Current, Known, Membership, MembershipFile, Refused,
    effects::{Acknowledging, Effects},
    metrics::Refusals,
    revocations,
};
use crate::{SOFTWARE, config::Config, control::Members};

/// How the connection to the federation service is.
#[derive(Debug, Clone, Default)]
pub struct Link {
    /// Where the service answers.
    pub connected: Option<GatewayAddr>,
    /// Why it last did not.
    pub last_error: String,
    /// Why it does not take the newest version of this cluster's bundle.
    pub bundle_error: Option<String>,
}

impl Link {
    fn lost(&mut self, why: String) {
        (self.connected, self.last_error) = (None, why);
    }
}

/// The membership of this cluster, with everything that depends on it.
#[derive(Debug)]
pub struct Follower {
    file: MembershipFile,
    current: watch::Sender<Current>,
    members: watch::Sender<Members>,
    trust: Arc<TrustStore>,
    identity: Arc<LiveIdentity>,
    lineage: watch::Receiver<Arc<Lineage>>,
    disowned: Arc<Notify>,
    state_dir: PathBuf,
    known: Mutex<Known>,
    refused: watch::Sender<Arc<BTreeMap<ClusterName, Refused>>>,
    metrics: Refusals,
    link: Mutex<Link>,
    publication: Publication,
    addresses: Vec<GatewayAddr>,
    trust_domain: TrustDomain,
    /// Held while the membership is replaced: a change that arrives while the cluster leaves must not bring it back.
    replacing: Mutex<()>,
}

impl Follower {
    /// Loads the last membership and puts it into force.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn open(
        config: &Config,
        (identity, lineage, disowned): (Arc<LiveIdentity>, watch::Receiver<Arc<Lineage>>, Arc<Notify>),
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let file = MembershipFile::in_dir(&config.state.dir);
        let loaded = file.load()?;
        let follower = Self {
            file,
            current: watch::Sender::new(None),
            members: watch::Sender::new(Members::default()),
            trust: Arc::new(TrustStore::new()),
            identity,
            lineage,
            disowned,
            state_dir: config.state.dir.clone(),
            known: Mutex::new(Known::load(&config.state.dir)?),
            refused: watch::Sender::default(),
            metrics: Refusals::register(registry),
            link: Mutex::default(),
            publication: Publication {
                advertise: config.tunnel.advertise.clone(),
                region: config.cluster.region.clone(),
                zone: config.cluster.zone.clone(),
                software: SOFTWARE.to_owned(),
            },
            addresses: config.federation.addresses.clone(),
            trust_domain: config.cluster.trust_domain.clone(),
            replacing: Mutex::default(),
        };
        if let Some(membership) = loaded {
            anyhow::ensure!(
                membership.own == config.cluster.name,
                "the state directory belongs to cluster {}, the settings name {}; give each cluster a state.dir of its own",
                membership.own,
                config.cluster.name
            );
            follower.enforce(Some(membership));
        }
        Ok(follower)
    }

    /// The membership, as it changes.
    #[must_use]
    pub fn memberships(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    /// The members the federation service tells of that are not believed, and why.
    #[must_use]
    pub fn refused(&self) -> Arc<BTreeMap<ClusterName, Refused>> {
        self.refused.borrow().clone()
    }

    /// The membership now.
    #[must_use]
    pub fn current(&self) -> Current {
        self.current.borrow().clone()
    }

    /// The other members, as they change.
    #[must_use]
    pub fn members(&self) -> watch::Receiver<Members> {
        self.members.subscribe()
    }

    /// What the members' certificates are verified against.
    #[must_use]
    pub fn trust(&self) -> Arc<TrustStore> {
        self.trust.clone()
    }

    /// How the connection to the federation service is.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client of the service this cluster belongs to.
    ///
    /// # Errors
    /// When the kept authorities of the service are not usable.
    pub fn client(&self, membership: &Membership) -> anyhow::Result<MemberClient> {
        let mut endpoint = membership.endpoint();
        if !self.addresses.is_empty() {
            endpoint.addresses.clone_from(&self.addresses);
        }
        MemberClient::new(endpoint, self.identity.clone()).context("cannot talk to the federation service")
    }

    /// Keeps a membership and puts it into force, but for members that are not believed.
    ///
    /// # Errors
    /// When it cannot be kept; then it is not in force either.
    pub async fn adopt(self: &Arc<Self>, membership: Membership) -> anyhow::Result<()> {
        let adopt = |this: &Self| {
            let mut known = this.known();
            let mut believed = Membership { members: BTreeMap::new(), ..membership.clone() };
            let refused = membership.members.into_values().filter_map(|member| believed.admit(member, &mut known));
            let refused: Vec<Refused> = refused.collect();
            this.file.save(&believed)?;
            this.keep_known(known);
            this.report(&refused, |_| true);
            this.enforce(Some(believed));
            Ok(())
        };
        self.replace(adopt).await?
    }

    /// Believes a member that was refused, because a person compared its fingerprint; the version believed.
    ///
    /// # Errors
    /// When no such member was refused, or it has another fingerprint.
    pub async fn accept(self: &Arc<Self>, cluster: ClusterName, fingerprint: Fingerprint) -> anyhow::Result<u64> {
        let accept = move |this: &Self| {
            let refused = this.refused().get(&cluster).cloned();
            let refused = refused.with_context(|| format!("no bundle of {cluster} was refused; see fedctl members"))?;
            let offered = refused.member;
            let shown: Vec<String> = offered.bundle.fingerprints().map(|shown| shown.to_string()).collect();
            anyhow::ensure!(
                offered.bundle.fingerprints().any(|shown| shown == fingerprint),
                "the bundle of {cluster} that was refused has {}, not {fingerprint}; nothing was changed",
                shown.join(", ")
            );
            federation_pki::continuity::check(&cluster, &offered.lineage)?;
            let membership = this.current().context("this cluster is not a member of a set")?;
            let mut next = Membership::clone(&membership);
            let mut known = this.known();
            known.forget(&offered);
            next.members.remove(&cluster);
            let sequence = offered.bundle.sequence;
            if let Some(refused) = next.admit(offered, &mut known) {
                return Err(refused.error.into());
            }
            this.file.save(&next)?;
            this.keep_known(known);
            this.refused.send_modify(|refused| drop(Arc::make_mut(refused).remove(&cluster)));
            this.enforce(Some(next));
            Ok(sequence)
        };
        self.replace(accept).await?
    }

    /// Ends the membership here: every tunnel is cut.
    ///
    /// # Errors
    /// When the file cannot be removed; it is out of force all the same.
    pub async fn forget(self: &Arc<Self>) -> anyhow::Result<()> {
        let forget = |this: &Self| {
            let mut known = this.known();
            let members = this.current().map(|membership| membership.others()).unwrap_or_default();
            members.values().for_each(|member| known.remember(member));
            this.enforce(None);
            this.refused.send_replace(Arc::default());
            this.keep_known(known);
            Ok(this.file.remove()?)
        };
        self.replace(forget).await?
    }

    /// Replaces the membership, where a slow disk delays nobody; one replacement at a time.
    async fn replace<T, F>(self: &Arc<Self>, replacement: F) -> anyhow::Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> T + Send + 'static,
    {
        let this = Arc::clone(self);
        let replaced = tokio::task::spawn_blocking(move || {
            // Holders change whole values, so a poisoned lock guards nothing that is half done.
            let _alone = this.replacing.lock().unwrap_or_else(PoisonError::into_inner);
            replacement(&this)
        });
        replaced.await.context("the change of the membership ended half-way; look at the log")
    }

    /// Holders change whole values, so a poisoned lock guards nothing that is half done.
    fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep_known(&self, known: Known) {
        let mut held = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if *held == known {
            return;
        }
        if let Err(error) = known.save(&self.state_dir) {
            tracing::error!(%error, "cannot keep what is known of former members; after a restart they are believed anew");
        }
        *held = known;
    }

    /// Tells what is refused of an update; of clusters that it does not name, what was refused before still is.
    fn report(&self, refused: &[Refused], named: impl Fn(&ClusterName) -> bool) {
        self.refused.send_if_modified(|told| {
            let mut next = BTreeMap::clone(told);
            next.retain(|cluster, _| !named(cluster));
            for Refused { member, error } in refused {
                let cluster = &member.cluster;
                if told.get(cluster).is_none_or(|before| before.error != *error) {
                    tracing::error!(%cluster, %error, "the federation service tells of a bundle that is not believed");
                    self.metrics.refused(error);
                }
                next.insert(cluster.clone(), Refused { member: member.clone(), error: error.clone() });
            }
            let changed = **told != next;
            if changed {
                *told = Arc::new(next);
            }
            changed
        });
    }

    fn enforce(&self, membership: Option<Membership>) {
        let revoked = membership.as_ref().map(|membership| Arc::clone(&membership.revocations)).unwrap_or_default();
        self.trust.revoke(&revoked);
        let mut others = membership.as_ref().map(Membership::others).unwrap_or_default();
        others.retain(|cluster, member| {
            // Its gateway could vouch for the workloads of this cluster.
            let usurps = member.bundle.trust_domain == self.trust_domain;
            if usurps {
                tracing::error!(%cluster, trust_domain = %self.trust_domain,
                    "the federation service names a member with the trust domain of this cluster; it is not believed");
            }
            !usurps
        });
        let foreign = membership.as_ref().map(|membership| membership.foreign_believed(&self.trust_domain));
        let bundles = others.values().map(|member| member.bundle.clone()).chain(foreign.unwrap_or_default());
        if let Err(error) = self.trust.replace(bundles) {
            tracing::error!(%error, "some trust domains cannot be trusted: their bundles are not usable");
        }
        // Their bundles stay, so that who proves to be revoked is told so.
        revocations::exclude(&mut others, &revoked, &self.members.borrow());
        // Even when they are the same ones: tunnels and connections are judged again by what is revoked now.
        self.members.send_replace(Arc::new(others));
        self.current.send_replace(membership.map(Arc::new));
    }

    fn store_id(&self) -> String {
        self.current().map(|membership| membership.position.store_id.clone()).unwrap_or_default()
    }

    fn set_link(&self, change: impl FnOnce(&mut Link)) {
        change(&mut self.link.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Follows the service whenever this cluster is a member, until `stop`; `effects` tells when a change has taken effect.
    pub async fn run(self: Arc<Self>, effects: Effects, stop: CancellationToken) {
        let mut current = self.current.subscribe();
        loop {
            let membership = current.borrow_and_update().clone();
            let followed = async {
                match &membership {
                    Some(membership) => self.follow(membership, current.clone(), effects.clone()).await,
                    // Whoever joins tells through the channel.
                    None => drop(current.clone().changed().await),
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = followed => {}
            }
            self.set_link(|link| link.connected = None);
        }
    }

    /// Follows one membership until it is left, or replaced by that of another service.
    async fn follow(
        self: &Arc<Self>,
        membership: &Membership,
        mut current: watch::Receiver<Current>,
        effects: Effects,
    ) {
        let client = match self.client(membership) {
            Ok(client) => client,
            Err(error) => {
                self.set_link(|link| link.last_error = format!("{error:#}"));
                tracing::error!(error = format!("{error:#}"), "cannot follow the federation service");
                return drop(current.changed().await);
            }
        };
        let mut watch = client.watch(membership.position.clone());
        let mut lineage = self.lineage.clone();
        let mut acknowledging = Acknowledging::new(effects, self.members());
        loop {
            tokio::select! {
                biased;
                Ok(()) = lineage.changed() => self.announce(&client).await,
                changed = current.changed() => {
                    let same = |now: &Membership| now.federation_id == membership.federation_id;
                    if changed.is_err() || !current.borrow_and_update().as_deref().is_some_and(same) {
                        return;
                    }
                }
                revision = acknowledging.next() => watch.acknowledge(revision),
                event = watch.next() => match event {
                    WatchEvent::Connected { address } => self.connected(address, &client).await,
                    WatchEvent::Update(update) => {
                        let revision = update.position.revision;
                        if self.apply(&membership.federation_id, update).await {
                            acknowledging.handle_applied(revision);
                        }
                    }
                    WatchEvent::Disconnected { error, .. } if error.not_a_member_in(&self.store_id()) => {
                        self.set_link(|link| link.lost(error.to_string()));
                        self.removed().await;
                        return;
                    }
                    WatchEvent::Disconnected { error, retry_in } if error.not_a_member() => {
                        tracing::error!(%error, ?retry_in, "the federation service has lost its store; traffic goes on, restore the store from a backup");
                        let last_error = format!("the service has lost its store: {error}");
                        self.set_link(|link| link.lost(last_error));
                    }
                    WatchEvent::Disconnected { error, retry_in } => {
                        if error.revoked() {
                            self.disowned.notify_one();
                        }
                        tracing::warn!(%error, ?retry_in, "no connection to the federation service; traffic goes on");
                        self.set_link(|link| link.lost(error.to_string()));
                    }
                },
            }
        }
    }

    /// The service answers: it is told when this gateway's settings are not what it knows.
    async fn connected(&self, address: GatewayAddr, client: &MemberClient) {
        tracing::info!(%address, "following the federation service");
        self.set_link(|link| (link.connected, link.last_error) = (Some(address), String::new()));
        self.announce(client).await;
        let Some(membership) = self.current() else { return };
        let known = membership.members.get(&membership.own);
        let told = known.is_some_and(|own| {
            own.advertise == self.publication.advertise
                && own.region == self.publication.region
                && own.zone == self.publication.zone
        });
        if told {
            return;
        }
        match client.publish(&self.publication).await {
            Ok(revision) => tracing::info!(revision, "told the federation service the new addresses of this cluster"),
            Err(error) => {
                tracing::warn!(%error, "cannot tell the federation service the new addresses of this cluster")
            }
        }
    }

    /// Sends the newest versions of this cluster's bundle, when the service does not have them.
    async fn announce(&self, client: &MemberClient) {
        let lineage = self.lineage.borrow().clone();
        let Some(membership) = self.current() else { return };
        let known = membership.members.get(&membership.own).and_then(|own| own.lineage.newest());
        let newest = lineage.newest().map(|version| version.digest());
        if known.map(|version| version.digest()) == newest {
            return;
        }
        match client.publish_bundle(&lineage).await {
            Ok(revision) => {
                tracing::info!(revision, "told the federation service the new trust bundle of this cluster");
                self.set_link(|link| link.bundle_error = None);
            }
            Err(error) => {
                tracing::error!(%error, "the federation service does not take the new trust bundle of this cluster");
                self.set_link(|link| link.bundle_error = Some(error.to_string()));
            }
        }
    }

    /// The service says that this cluster is a member no more. It is believed: it alone admits members, and the others have
    /// closed their tunnels already.
    async fn removed(self: &Arc<Self>) {
        tracing::warn!("this cluster was removed from the cluster set; its tunnels are closed");
        if let Err(error) = self.forget().await {
            tracing::error!(error = format!("{error:#}"), "cannot remove the kept membership; remove the file by hand");
        }
    }

    /// Applies an update of the service `from`; whether it is kept.
    async fn apply(self: &Arc<Self>, from: &SpiffeId, update: WatchUpdate) -> bool {
        let from = from.clone();
        let told = revocations::told(&update);
        let apply = move |this: &Self| {
            let followed = this.current().filter(|membership| membership.federation_id == from);
            let Some(membership) = followed else { return Some(Ok(())) };
            let (mut known, named) = (this.known(), update.names());
            match membership.after(update, &mut known) {
                Applied::Member { next, refused } => {
                    if membership.pending && !next.pending {
                        tracing::info!(members = next.members.len(), "the join was approved");
                    }
                    let complete = revocations::hold(&next.revocations, &told);
                    let kept = this.file.save(&next).context("it is in force, and a restart asks for it again");
                    this.keep_known(known);
                    this.report(&refused, |cluster| named.as_ref().is_none_or(|named| named.contains(cluster)));
                    this.enforce(Some(*next));
                    Some(kept.and(complete))
                }
                Applied::Removed => None,
            }
        };
        let reason = match self.replace(apply).await {
            Ok(Some(Ok(()))) => return true,
            Ok(None) => {
                self.removed().await;
                return true;
            }
            Ok(Some(Err(error))) => format!("{error:#}"),
            Err(error) => format!("{error:#}"),
        };
        tracing::error!(error = reason, "a change of the cluster set is not acknowledged");
        false
    }
}

#[cfg(test)]
mod tests;
