//! Random events in a fleet, and a model that says what every cluster must see after each of them.
//!
//! A seed that fails prints its events; keep it as a test with a name.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tests::{
    client::line,
    fleet::{Fleet, Settings},
    manifests::Export,
    probe::Echo,
};

const CLUSTERS: [&str; 3] = ["east", "west", "north"];
const SERVICES: [&str; 2] = ["production/api", "production/db"];
const PORT: u16 = 8080;

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Export(&'static str, &'static str),
    Withdraw(&'static str, &'static str),
    Partition(&'static str, &'static str),
    Heal(&'static str, &'static str),
    Kill(&'static str),
    Stop(&'static str),
    Start(&'static str),
}

/// What is so.
#[derive(Debug, Default)]
struct Model {
    exports: BTreeSet<(&'static str, &'static str)>,
    partitions: BTreeSet<(&'static str, &'static str)>,
    down: BTreeSet<&'static str>,
}

impl Model {
    /// Every event that makes sense now.
    fn possible(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for cluster in CLUSTERS {
            for service in SERVICES {
                let exported = self.exports.contains(&(cluster, service));
                events.push(if exported { Event::Withdraw(cluster, service) } else { Event::Export(cluster, service) });
            }
            if self.down.contains(cluster) {
                events.push(Event::Start(cluster));
            } else if self.down.is_empty() {
                events.extend([Event::Kill(cluster), Event::Stop(cluster)]);
            }
        }
        for (one, other) in pairs() {
            let cut = self.partitions.contains(&(one, other));
            events.push(if cut { Event::Heal(one, other) } else { Event::Partition(one, other) });
        }
        events
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Export(cluster, service) => self.exports.insert((cluster, service)),
            Event::Withdraw(cluster, service) => self.exports.remove(&(cluster, service)),
            Event::Partition(one, other) => self.partitions.insert((one, other)),
            Event::Heal(one, other) => self.partitions.remove(&(one, other)),
            Event::Kill(cluster) | Event::Stop(cluster) => self.down.insert(cluster),
            Event::Start(cluster) => self.down.remove(cluster),
        };
    }

    fn up(&self) -> impl Iterator<Item = &'static str> {
        CLUSTERS.into_iter().filter(|cluster| !self.down.contains(cluster))
    }

    fn reaches(&self, from: &'static str, to: &'static str) -> bool {
        let cut = self.partitions.contains(&(from, to)) || self.partitions.contains(&(to, from));
        from == to || !cut && !self.down.contains(to)
    }

    /// The clusters that serve `service` to applications in `from`.
    fn sources(&self, from: &'static str, service: &'static str) -> Vec<&'static str> {
        let exporting = CLUSTERS.into_iter().filter(|cluster| self.exports.contains(&(*cluster, service)));
        exporting.filter(|cluster| self.reaches(from, cluster)).collect()
    }
}

fn pairs() -> [(&'static str, &'static str); 3] {
    [("east", "west"), ("east", "north"), ("west", "north")]
}

struct World {
    fleet: Fleet,
    model: Model,
    _echoes: Vec<Echo>,
}

impl World {
    async fn new() -> Self {
        let fleet = Fleet::with(CLUSTERS.map(Settings::attentive)).await;
        let mut echoes = Vec::new();
        for name in CLUSTERS {
            echoes.push(Echo::start(name, fleet[name].at(10, PORT), false).await.unwrap());
        }
        Self { fleet, model: Model::default(), _echoes: echoes }
    }

    async fn happens(&mut self, event: Event) {
        let export = |fleet: &Fleet, cluster: &str, service| Export::new(service, PORT, fleet[cluster].host(10));
        match event {
            Event::Export(cluster, service) => self.fleet[cluster].export(&export(&self.fleet, cluster, service)),
            Event::Withdraw(cluster, service) => self.fleet[cluster].withdraw(&export(&self.fleet, cluster, service)),
            Event::Partition(one, other) => self.fleet.partition(one, other),
            Event::Heal(one, other) => self.fleet.heal(one, other),
            Event::Kill(cluster) => self.fleet[cluster].kill().await,
            Event::Stop(cluster) => self.fleet[cluster].stop().await,
            Event::Start(cluster) => self.fleet[cluster].start().await,
        }
        self.model.apply(event);
    }

    /// Waits until every cluster sees what the model says, and tries it.
    async fn agrees(&self) {
        for from in self.model.up() {
            for to in CLUSTERS.into_iter().filter(|to| *to != from) {
                self.fleet[from].reaches(to, self.model.reaches(from, to)).await;
            }
            for service in SERVICES {
                let sources = self.model.sources(from, service);
                self.fleet[from].sees(service, &sources).await;
                if !sources.is_empty() {
                    let mut stream = self.fleet[from].connect(service, PORT).await;
                    let answered = line(&mut stream).await.unwrap();
                    let own = sources.contains(&from);
                    assert!(if own { answered == from } else { sources.contains(&answered.as_str()) }, "{answered}");
                }
            }
        }
    }
}

/// Prints the events when the test fails.
struct Story(Vec<Event>);

impl Drop for Story {
    #[expect(clippy::print_stdout, reason = "shown by the test runner with the failure alone")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the events were {:?}", self.0);
        }
    }
}

async fn story(seed: u64, length: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut world = World::new().await;
    let mut story = Story(Vec::new());
    for _ in 0..length {
        let possible = world.model.possible();
        let event = possible[rng.random_range(0..possible.len())];
        story.0.push(event);
        world.happens(event).await;
        world.agrees().await;
    }
    // Whatever happened, all is well once everything is mended.
    for (one, other) in pairs() {
        world.happens(Event::Heal(one, other)).await;
    }
    for cluster in world.model.down.clone() {
        world.happens(Event::Start(cluster)).await;
    }
    world.agrees().await;
    let ended: BTreeMap<_, _> = {
        let mut ended = BTreeMap::new();
        for cluster in CLUSTERS {
            ended.insert(cluster, world.fleet[cluster].metrics().await.ended("Outbound", "aborted"));
        }
        ended
    };
    assert!(ended.values().all(|aborted| *aborted == 0.0), "{ended:?}");
}

#[tokio::test]
async fn every_cluster_sees_what_is_so_after_any_event_of_the_first_story() {
    story(seed(1), 12).await;
}

#[tokio::test]
async fn every_cluster_sees_what_is_so_after_any_event_of_the_second_story() {
    story(seed(2), 12).await;
}

/// The seed of a story; another one for `LANDBRIDGE_TEST_SEED`, so that more stories can be told by the hour.
fn seed(number: u64) -> u64 {
    let given = std::env::var("LANDBRIDGE_TEST_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    given.unwrap_or(0).wrapping_mul(1000) + number
}
