//! Which workload owns which address.
//!
//! Owns attestation by source address: an address speaks for a pod only while that pod runs and no other has it, and never
//! for a pod on the host network, whose address is that of everything on its node. A network gives the address of a pod that
//! has ended to the next one: until the objects agree whose it is, it is nobody's. Only the addresses of pods that changed are
//! judged again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use federation_model::spiffe::{SpiffeId, TrustDomain, service_account_id};

use super::warning::Warning;
use crate::objects::{ObjectKey, PodObject, PodPhase, Shared};

type Pods = Shared<ObjectKey, PodObject>;

/// The principals of the running pods by address.
#[derive(Debug, Clone)]
pub(super) struct Owners {
    trust_domain: TrustDomain,
    pods: Pods,
    principals: Arc<BTreeMap<IpAddr, Arc<SpiffeId>>>,
    /// Why an address is nobody's, where that may not be meant.
    warnings: BTreeMap<IpAddr, Warning>,
}

impl Owners {
    pub(super) fn new(trust_domain: TrustDomain) -> Self {
        Self { trust_domain, pods: Pods::default(), principals: Arc::default(), warnings: BTreeMap::new() }
    }

    pub(super) fn principals(&self) -> &Arc<BTreeMap<IpAddr, Arc<SpiffeId>>> {
        &self.principals
    }

    /// In the order of the addresses.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.values()
    }

    /// Takes over the pods there are now.
    pub(super) fn update(&mut self, pods: &Pods) {
        let touched = touched(&self.pods, pods);
        self.pods = pods.clone();
        if touched.is_empty() {
            return;
        }
        let mut claims: BTreeMap<IpAddr, Vec<&PodObject>> = BTreeMap::new();
        // One that is starting has its address before it is said to run, and its init containers call with it.
        for pod in pods.values().filter(|pod| pod.phase != PodPhase::Ended) {
            for ip in pod.ips.iter().map(IpAddr::to_canonical).filter(|ip| touched.contains(ip)) {
                let claimants = claims.entry(ip).or_default();
                if claimants.last().is_none_or(|last| last.key != pod.key) {
                    claimants.push(pod);
                }
            }
        }
        let principals = Arc::make_mut(&mut self.principals);
        for address in touched {
            let claimants = claims.get(&address).map_or(&[][..], Vec::as_slice);
            principals.remove(&address);
            self.warnings.remove(&address);
            match owner(address, claimants, &self.trust_domain) {
                Ok(Some(id)) => drop(principals.insert(address, Arc::new(id))),
                Ok(None) => {}
                Err(warning) => drop(self.warnings.insert(address, warning)),
            }
        }
    }
}

/// The addresses of the pods that came, left or changed.
fn touched(old: &Pods, new: &Pods) -> BTreeSet<IpAddr> {
    let mut touched = BTreeSet::new();
    if Arc::ptr_eq(old, new) {
        return touched;
    }
    let mut touch = |pod: &PodObject| touched.extend(pod.ips.iter().map(IpAddr::to_canonical));
    let (mut before, mut after) = (old.iter().peekable(), new.iter().peekable());
    while let (Some((gone, was)), Some((came, is))) = (before.peek(), after.peek()) {
        let order = gone.cmp(came);
        if order.is_eq() && !Arc::ptr_eq(was, is) {
            touch(was);
            touch(is);
        } else if order.is_lt() {
            touch(was);
        } else if order.is_gt() {
            touch(is);
        }
        if order.is_le() {
            before.next();
        }
        if order.is_ge() {
            after.next();
        }
    }
    before.chain(after).for_each(|(_, pod)| touch(pod));
    touched
}

/// Whose an address is that these pods claim; nobody's when that cannot be told.
fn owner(address: IpAddr, claimants: &[&PodObject], trust_domain: &TrustDomain) -> Result<Option<SpiffeId>, Warning> {
    match claimants {
        [only] if only.phase == PodPhase::Running && !only.host_network => principal(only, trust_domain).map(Some),
        // Pods on the host network share the address of their node as a matter of course.
        shared if shared.iter().all(|pod| pod.host_network) => Ok(None),
        [first, second, ..] => {
            Err(Warning::SharedAddress { address, first: first.key.clone(), second: second.key.clone() })
        }
        [_] | [] => Ok(None),
    }
}

fn principal(pod: &PodObject, trust_domain: &TrustDomain) -> Result<SpiffeId, Warning> {
    service_account_id(trust_domain, &pod.key.namespace, &pod.service_account).map_err(|reason| {
        let service_account = pod.service_account.to_string();
        Warning::ServiceAccount { pod: pod.key.clone(), service_account, reason }
    })
}
