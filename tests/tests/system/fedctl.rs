//! `fedctl` against real programs: the whole way from nothing to a cluster set, as a person goes it.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use clap::Parser as _;
use federation_fedctl::{
    args::Cli,
    print::{Console, Features},
    run,
};
use federation_runtime::config::load;
use serde_json::Value;
use tests::{
    client::{line, part},
    fleet::{Fleet, Settings},
    manifests::Export,
    probe::Echo,
};

/// What a command wrote.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs one command with nobody at the keyboard.
pub(super) async fn fedctl(arguments: &[String]) -> Ended {
    let arguments = [&["fedctl".to_owned()], arguments].concat();
    let command = move || {
        let cli = Cli::try_parse_from(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        let (stdout, stderr) = (Written::default(), Written::default());
        let features = Features { color: false, questions: false, progress: false };
        let streams = (Box::new(io::empty()) as _, Box::new(stdout.clone()) as _, Box::new(stderr.clone()) as _);
        let mut console = Console::new(streams, features, cli.output, SystemTime::now().into());
        let code = format!("{:?}", run(cli, &mut console));
        Ended { code, stdout: stdout.text(), stderr: stderr.text() }
    };
    tokio::task::spawn_blocking(command).await.unwrap()
}

pub(super) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Ended {
    /// The answer of a command that must have succeeded.
    pub(super) fn done(self) -> String {
        assert!(self.code.contains("(0)"), "{self:?}");
        self.stdout
    }
}

#[tokio::test]
async fn a_cluster_set_is_made_looked_at_and_ended_with_fedctl_alone() {
    let mut fleet = Fleet::new().await;
    for name in ["east", "west"] {
        fleet.add(Settings::of(name)).await;
    }
    let (url, operator) = (fleet.federation().grpc(), fleet.federation().store().join("operator"));
    let federation = format!("--federation https://{url} --operator {}", operator.display());
    let gateway =
        |fleet: &Fleet, name: &str| format!("--gateway unix:{}", fleet[name].state().join("admin.sock").display());

    for name in ["east", "west"] {
        let created = fedctl(&words(&format!("token create --cluster {name} -o json {federation}"))).await.done();
        let created: Value = serde_json::from_str(&created).unwrap();
        let token = created["token"].as_str().unwrap().to_owned();
        let joined = fedctl(&words(&format!("join {token} --yes {}", gateway(&fleet, name)))).await;
        assert!(joined.code.contains("(0)"), "{joined:?}");
        let authority = fleet[name].authority().fingerprint().to_string();
        assert!(joined.stdout.contains(&authority) || joined.stderr.contains(&authority), "{joined:?}");
    }
    fleet.connected().await;
    let _echo = Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap();
    fleet["west"].export(&Export::new("production/api", 8080, fleet["west"].host(10)));
    fleet["east"].sees("production/api", &["west"]).await;

    let members = fedctl(&words(&format!("members {federation}"))).await.done();
    assert!(members.contains("east.example") && members.contains("west.example"), "{members}");
    let status = fedctl(&words(&format!("status {}", gateway(&fleet, "east")))).await.done();
    assert!(status.contains("west") && status.to_lowercase().contains("connected"), "{status}");
    let services = fedctl(&words(&format!("services -o json {}", gateway(&fleet, "east")))).await.done();
    assert!(services.contains("api.production.svc.clusterset.local"), "{services}");
    let checked = fedctl(&words(&format!("check {}", gateway(&fleet, "east")))).await;
    assert!(checked.code.contains("(0)"), "{checked:?}");
    let tokens = fedctl(&words(&format!("token list {federation}"))).await.done();
    assert!(tokens.contains("used"), "{tokens}");
    let mut stream = fleet["east"].connect("production/api", 8080).await;
    assert_eq!(line(&mut stream).await.unwrap(), "west");
    assert_eq!(part(&mut stream).await.unwrap(), "bye\n");

    let left = fedctl(&words(&format!("leave --yes {}", gateway(&fleet, "west")))).await;
    assert!(left.code.contains("(0)"), "{left:?}");
    fleet["east"].knows(&[]).await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_the_next_step_and_another_exit_code() {
    let mut fleet = Fleet::new().await;
    fleet.add(Settings::of("east")).await;
    let socket = fleet["east"].state().join("admin.sock");
    let gateway = format!("--gateway unix:{}", socket.display());
    let token = fleet.federation().token("north").await;
    let wrong = fedctl(&words(&format!("join {token} --yes {gateway}"))).await;
    assert!(wrong.code.contains("(2)") && wrong.stderr.contains("fedctl token create --cluster east"), "{wrong:?}");
    let nowhere = fedctl(&words("status --gateway unix:/nowhere/admin.sock")).await;
    assert!(nowhere.code.contains("(2)") && nowhere.stderr.contains("/nowhere/admin.sock"), "{nowhere:?}");
    fleet["east"].write("broken.yaml", "kind: [\n");
    let checked = tests::wait::until("the check finds the broken manifest", async || {
        let checked = fedctl(&words(&format!("check {gateway}"))).await;
        checked.stdout.contains("broken.yaml").then_some(checked)
    })
    .await;
    assert!(checked.code.contains("(1)"), "{checked:?}");
}

#[tokio::test]
async fn the_settings_that_init_writes_are_those_the_programs_read() {
    let dir = tempfile::tempdir().unwrap();
    let (east, federation) = (dir.path().join("east"), dir.path().join("federation"));
    let init = format!(
        "init gateway --cluster east --trust-domain east.example --advertise gw.east.example:15443 --dir {}",
        east.display()
    );
    fedctl(&words(&init)).await.done();
    let config: gateway::config::Config = load(Some(&east.join("gateway.toml")), &BTreeMap::new()).unwrap();
    let config = config.checked().unwrap();
    assert_eq!(config.cluster.name.as_str(), "east");
    assert_eq!(config.tunnel.advertise[0].to_string(), "gw.east.example:15443");
    assert!(config.catalog.dir.is_dir() && config.catalog.dir.starts_with(dir.path()));

    fedctl(&words(&format!("init federation --name federation.example --dir {}", federation.display()))).await.done();
    let file = federation.join("federation.toml");
    let config: federation::config::Config = load(Some(&file), &BTreeMap::new()).unwrap();
    config.check().unwrap();
    assert_eq!(config.grpc.names, ["federation.example"]);
    // The defaults that the files show in comments are keys that exist.
    for file in [east.join("gateway.toml"), file] {
        let text = std::fs::read_to_string(&file).unwrap();
        let shown = |line: &str| {
            let key = line
                .strip_prefix("# ")
                .filter(|rest| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')));
            key.unwrap_or(line).to_owned()
        };
        let uncommented: Vec<_> = text.lines().map(shown).collect();
        std::fs::write(&file, uncommented.join("\n")).unwrap();
    }
    load::<gateway::config::Config>(Some(&east.join("gateway.toml")), &BTreeMap::new()).unwrap();
    load::<federation::config::Config>(Some(&federation.join("federation.toml")), &BTreeMap::new()).unwrap();
}
