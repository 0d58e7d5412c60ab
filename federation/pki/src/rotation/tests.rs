use federation_model::spiffe::TrustDomain;
use proptest::prelude::*;

use super::*;

fn der(number: u8) -> CertificateDer<'static> {
    vec![number].into()
}

/// A cluster in a rotation from authority 1 to authority 2, with what its members know.
#[derive(Debug, Clone)]
struct World {
    published: TrustBundle,
    wanted: Vec<CertificateDer<'static>>,
    leaf: CertificateDer<'static>,
    told: bool,
    peers: BTreeMap<ClusterName, PeerStanding>,
}

impl World {
    fn new(peers: &[&str]) -> Self {
        let known =
            PeerStanding { connected: true, believes: Some(1), judges_by_newest: true, ..PeerStanding::default() };
        Self {
            published: TrustBundle {
                trust_domain: TrustDomain::new("west.example").unwrap(),
                sequence: 1,
                authorities: vec![der(1)],
            },
            wanted: vec![der(2)],
            leaf: der(1),
            told: true,
            peers: peers.iter().map(|name| (name.parse().unwrap(), known.clone())).collect(),
        }
    }

    fn step(&self, forced: bool) -> Step {
        let in_use = self.wanted.contains(&self.leaf);
        let Self { published, told, wanted, peers, .. } = self;
        step(&Situation { published, told: *told, wanted, in_use, peers, forced })
    }

    /// Takes the step, as the gateway does.
    fn take(&mut self, step: &Step) {
        match step {
            Step::Publish { authorities, .. } => {
                self.published.sequence += 1;
                self.published.authorities.clone_from(authorities);
                self.told = false;
            }
            Step::Activate => {
                self.leaf = self.wanted[0].clone();
                self.peers.values_mut().for_each(|peer| peer.judges_by_newest = false);
            }
            Step::Wait { .. } | Step::Settled { .. } | Step::TooMany(_) => {}
        }
    }

    fn peer(&mut self, name: &str) -> &mut PeerStanding {
        self.peers.get_mut(name.parse::<ClusterName>().as_ref().unwrap()).unwrap()
    }

    /// Everybody hears of everything.
    fn spread(&mut self) {
        self.told = true;
        for peer in self.peers.values_mut() {
            peer.believes = Some(self.published.sequence);
            peer.judges_by_newest = true;
        }
    }
}

fn blockers(step: &Step) -> Vec<String> {
    match step {
        Step::Wait { blockers, .. } => blockers
            .iter()
            .map(|blocker| blocker.cluster.as_ref().map_or_else(|| "federation".to_owned(), ToString::to_string))
            .collect(),
        Step::Publish { .. } | Step::Activate | Step::Settled { .. } | Step::TooMany(_) => Vec::new(),
    }
}

#[test]
fn a_rotation_goes_from_old_over_both_to_new_and_waits_for_everybody_in_between() {
    let mut world = World::new(&["east", "north"]);
    let prepare = world.step(false);
    assert_eq!(prepare, Step::Publish { phase: Phase::Preparing, authorities: vec![der(1), der(2)] });
    world.take(&prepare);
    assert_eq!(blockers(&world.step(false)), ["federation", "east", "north"]);
    world.told = true;
    world.peer("east").believes = Some(2);
    assert_eq!(blockers(&world.step(false)), ["north"]);
    world.peer("north").believes = Some(2);
    assert_eq!(world.step(false), Step::Activate);
    world.take(&Step::Activate);
    assert_eq!(blockers(&world.step(false)), ["east", "north"]);
    world.peer("east").judges_by_newest = true;
    world.peer("north").refusal = Some("it is not known".to_owned());
    let waiting = world.step(false);
    assert!(
        matches!(&waiting, Step::Wait { phase: Phase::Draining, blockers } if blockers[0].reason.contains("it is not known"))
    );
    world.spread();
    let retire = world.step(false);
    assert_eq!(retire, Step::Publish { phase: Phase::Retiring, authorities: vec![der(2)] });
    world.take(&retire);
    assert!(matches!(world.step(false), Step::Settled { behind } if behind.len() == 3));
    world.spread();
    assert_eq!(world.step(false), Step::Settled { behind: Vec::new() });
}

#[test]
fn a_member_without_a_tunnel_blocks_until_it_is_heard_of_or_the_gate_is_forced() {
    let mut world = World::new(&["east"]);
    world.take(&world.step(false));
    world.spread();
    world.peer("east").connected = false;
    world.peer("east").believes = None;
    let waiting = world.step(false);
    assert!(matches!(&waiting, Step::Wait { blockers, .. } if blockers[0].consequence.contains("refuses tunnels")));
    assert_eq!(world.step(true), Step::Activate);
    // Nothing has to be drained where no tunnel is.
    world.take(&Step::Activate);
    assert!(matches!(world.step(false), Step::Publish { phase: Phase::Retiring, .. }));
}

#[test]
fn a_cluster_without_members_rotates_at_once() {
    let mut world = World::new(&[]);
    let mut steps = 0;
    loop {
        let step = world.step(false);
        if matches!(step, Step::Settled { .. }) {
            break;
        }
        world.take(&step);
        world.told = true;
        steps += 1;
        assert!(steps < 10, "{step:?}");
    }
    assert_eq!((world.published.authorities, world.leaf, steps), (vec![der(2)], der(2), 3));
}

#[test]
fn a_bundle_never_grows_beyond_its_limit() {
    let mut world = World::new(&[]);
    world.published.authorities = (10..10 + u8::try_from(MAX_AUTHORITIES).unwrap()).map(der).collect();
    assert_eq!(world.step(false), Step::TooMany(MAX_AUTHORITIES + 1));
}

#[test]
fn a_clock_that_is_behind_by_more_than_certificates_allow_for_is_waited_for() {
    let now = Timestamp(10_000);
    let validity = Validity::starting(now, Duration::from_secs(600));
    let mut world = World::new(&["east", "north"]);
    world.peer("east").skew_millis = -119_000;
    assert_eq!(clocks_behind(&validity, &world.peers, now), []);
    world.peer("east").skew_millis = -125_000;
    let behind = clocks_behind(&validity, &world.peers, now);
    assert_eq!(behind, [("east".parse().unwrap(), Duration::from_secs(5))]);
    assert_eq!(clocks_behind(&validity, &world.peers, now.after(Duration::from_secs(5))), []);
    world.peer("east").connected = false;
    assert_eq!(clocks_behind(&validity, &world.peers, now), []);
}

proptest! {
    /// Whatever happens in whatever order, nobody refuses the certificate in use unless a gate was forced.
    #[test]
    fn nobody_is_left_behind_by_a_step_that_was_not_forced(events in prop::collection::vec((0usize..3, 0u8..5), 0..60)) {
        let names = ["a", "b", "c"];
        let mut world = World::new(&names);
        // What each member believes: the authorities of the version it knows.
        let mut versions = vec![world.published.authorities.clone()];
        for (who, what) in events {
            let name = names[who];
            let newest = world.published.sequence;
            match what {
                0 => world.told = true,
                1 if world.told => world.peer(name).believes = Some(newest),
                2 => world.peer(name).judges_by_newest = true,
                3 => world.peer(name).connected ^= true,
                _ => {
                    let step = world.step(false);
                    if matches!(step, Step::Publish { .. }) {
                        world.take(&step);
                        versions.push(world.published.authorities.clone());
                    } else {
                        world.take(&step);
                    }
                }
            }
            for peer in world.peers.values().filter(|peer| peer.connected) {
                let known = usize::try_from(peer.believes.unwrap_or(1)).unwrap();
                prop_assert!(versions[known - 1].contains(&world.leaf), "{world:?}");
            }
        }
    }
}
