//! Which workload owns which address.
//!
//! Owns attestation by source address: an address speaks for a pod only while that pod runs and no other has it, and never
//! for a pod on the host network, whose address is that of everything on its node. A network gives the address of a pod that
//! has ended to the next one: until the objects agree whose it is, it is nobody's.

use std::{collections::BTreeMap, net::IpAddr};

use federation_model::spiffe::{SpiffeId, TrustDomain, service_account_id};

use super::warning::Warning;
use crate::objects::{ObjectKey, PodObject, PodPhase};

/// The principals of the running pods by address.
pub(super) fn principals(
    pods: &BTreeMap<ObjectKey, PodObject>,
    trust_domain: &TrustDomain,
    warnings: &mut Vec<Warning>,
) -> BTreeMap<IpAddr, SpiffeId> {
    let mut claims: BTreeMap<IpAddr, Vec<&PodObject>> = BTreeMap::new();
    // One that is starting has its address before it is said to run, and its init containers call with it.
    for pod in pods.values().filter(|pod| pod.phase != PodPhase::Ended) {
        for ip in &pod.ips {
            let claimants = claims.entry(ip.to_canonical()).or_default();
            if claimants.last().is_none_or(|last| last.key != pod.key) {
                claimants.push(pod);
            }
        }
    }
    let mut principals = BTreeMap::new();
    for (address, claimants) in claims {
        match claimants.as_slice() {
            [only] if only.phase == PodPhase::Running && !only.host_network => match principal(only, trust_domain) {
                Ok(id) => {
                    principals.insert(address, id);
                }
                Err(warning) => warnings.push(warning),
            },
            // Pods on the host network share the address of their node as a matter of course.
            shared if shared.iter().all(|pod| pod.host_network) => {}
            [first, second, ..] => {
                warnings.push(Warning::SharedAddress { address, first: first.key.clone(), second: second.key.clone() });
            }
            [_] | [] => {}
        }
    }
    principals
}

fn principal(pod: &PodObject, trust_domain: &TrustDomain) -> Result<SpiffeId, Warning> {
    service_account_id(trust_domain, &pod.key.namespace, &pod.service_account).map_err(|reason| {
        Warning::ServiceAccount { pod: pod.key.clone(), service_account: pod.service_account.clone(), reason }
    })
}
