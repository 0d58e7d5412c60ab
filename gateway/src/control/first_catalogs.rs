//! Whether a gateway that starts has heard what the other clusters export.
//!
//! Owns that decision. A gateway that calls itself ready too early answers with the services of its own cluster alone, and
//! one that waits for a cluster that is down never becomes ready: so it waits for those it can dial, and not for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use federation_model::{member::Member, names::ClusterName};

/// How long a start waits for the other clusters.
pub const GRACE: Duration = Duration::from_secs(5);
/// The most names a reason lists.
const MAX_NAMES: usize = 5;

/// The members whose catalogs a start waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstCatalogs {
    awaited: BTreeSet<ClusterName>,
    until: Instant,
}

impl FirstCatalogs {
    /// Awaits every member that has an address; one without is not ours to reach.
    #[must_use]
    pub fn of(members: &BTreeMap<ClusterName, Member>, now: Instant) -> Self {
        let dialable = members.values().filter(|member| !member.advertise.is_empty());
        Self { awaited: dialable.map(|member| member.cluster.clone()).collect(), until: now + GRACE }
    }

    /// The catalogs of these clusters are in the tables.
    pub fn handle_arrived<'a>(&mut self, clusters: impl Iterator<Item = &'a ClusterName>) {
        for cluster in clusters {
            self.awaited.remove(cluster);
        }
    }

    /// These are the members now; nobody waits for one that has left.
    pub fn handle_members(&mut self, members: &BTreeMap<ClusterName, Member>) {
        self.awaited.retain(|cluster| members.contains_key(cluster));
    }

    /// When [`Self::handle_timeout`] is to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.awaited.is_empty()).then_some(self.until)
    }

    /// Time has passed; the clusters that are awaited no longer.
    pub fn handle_timeout(&mut self, now: Instant) -> BTreeSet<ClusterName> {
        if now < self.until { BTreeSet::new() } else { std::mem::take(&mut self.awaited) }
    }

    /// Why the start is not complete, if so.
    #[must_use]
    pub fn awaits(&self) -> Option<String> {
        (!self.awaited.is_empty()).then(|| format!("waiting for the catalogs of {}", names(&self.awaited)))
    }
}

/// The first few names.
pub(super) fn names(clusters: &BTreeSet<ClusterName>) -> String {
    let shown: Vec<&str> = clusters.iter().take(MAX_NAMES).map(ClusterName::as_str).collect();
    let more = clusters.len().saturating_sub(MAX_NAMES);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation_model::{bundle::TrustBundle, spiffe::SpiffeId, time::Timestamp};

    fn member(cluster: &str, advertise: &[&str]) -> (ClusterName, Member) {
        let gateway_id = SpiffeId::new(format!("spiffe://{cluster}.example/landbridge/gateway")).unwrap();
        let name: ClusterName = cluster.parse().unwrap();
        let member = Member {
            cluster: name.clone(),
            bundle: TrustBundle {
                trust_domain: gateway_id.trust_domain().clone(),
                sequence: 1,
                authorities: Vec::new(),
            },
            gateway_id,
            advertise: advertise.iter().map(|text| text.parse().unwrap()).collect(),
            region: String::new(),
            zone: String::new(),
            lineage: federation_model::lineage::Lineage::default(),
            joined_at: Timestamp(1),
        };
        (name, member)
    }

    fn cluster(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    fn members() -> BTreeMap<ClusterName, Member> {
        [member("west", &["west.example:1"]), member("north", &["north.example:1"]), member("south", &[])].into()
    }

    #[test]
    fn a_start_waits_for_the_members_it_can_dial_and_names_them() {
        let now = Instant::now();
        let mut first = FirstCatalogs::of(&members(), now);
        assert_eq!(first.awaits().unwrap(), "waiting for the catalogs of north, west");
        first.handle_arrived([cluster("west"), cluster("south")].iter());
        assert_eq!(first.awaits().unwrap(), "waiting for the catalogs of north");
        first.handle_arrived([cluster("north")].iter());
        assert_eq!((first.awaits(), first.poll_timeout()), (None, None));
    }

    #[test]
    fn a_start_without_members_waits_for_nothing() {
        let first = FirstCatalogs::of(&BTreeMap::new(), Instant::now());
        assert_eq!((first.awaits(), first.poll_timeout()), (None, None));
    }

    #[test]
    fn a_start_goes_on_without_a_member_that_does_not_answer() {
        let now = Instant::now();
        let mut first = FirstCatalogs::of(&members(), now);
        first.handle_arrived([cluster("west")].iter());
        assert_eq!(first.handle_timeout(now + GRACE - Duration::from_millis(1)), BTreeSet::new());
        assert!(first.awaits().is_some());
        assert_eq!(first.poll_timeout(), Some(now + GRACE));
        assert_eq!(first.handle_timeout(now + GRACE), [cluster("north")].into());
        assert_eq!((first.awaits(), first.poll_timeout()), (None, None));
    }

    #[test]
    fn a_start_does_not_wait_for_a_member_that_has_left() {
        let mut first = FirstCatalogs::of(&members(), Instant::now());
        first.handle_members(&[member("west", &["west.example:1"])].into());
        assert_eq!(first.awaits().unwrap(), "waiting for the catalogs of west");
    }

    #[test]
    fn a_long_list_of_names_is_cut() {
        let many = (0..9).map(|n| member(&format!("c{n}"), &["a:1"])).collect();
        let first = FirstCatalogs::of(&many, Instant::now());
        assert!(first.awaits().unwrap().ends_with("c4 and 4 more"));
    }
}
