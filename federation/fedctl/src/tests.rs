//! Whole commands, run against a gateway and a console made for the test.

mod analyze;
mod audit;
mod gateway;
mod install;
mod policy;

use std::{
    io::{self, Cursor, Write},
    process::ExitCode,
    sync::{Arc, Mutex},
};

use clap::Parser;
use federation_client::operator::{Listing, MemberStatus};
use federation_model::{
    bundle::{Fingerprint, TrustBundle},
    member::Member,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::token::{JoinToken, TokenId, TokenSecret};

use crate::{
    args::Cli,
    print::{Console, Features},
    run,
};

/// 2026-01-02T03:04:05Z.
pub(crate) const NOW: u64 = 1_767_323_045;

/// A token for a cluster, of a federation whose authority is `Fingerprint::of(b"federation")`.
pub(crate) fn token(cluster: &str) -> JoinToken {
    JoinToken {
        addresses: vec!["federation.example:15010".parse().unwrap()],
        pin: Fingerprint::of(b"federation"),
        id: TokenId::random(),
        secret: TokenSecret::random(),
        expires_at: Timestamp(NOW + 899),
        cluster: cluster.parse().unwrap(),
    }
}

/// Three members: west knows everything, east is behind, north is away.
pub(crate) fn listing() -> Listing {
    let bundle = |trust_domain: &str, authority: &str| TrustBundle {
        trust_domain: TrustDomain::new(trust_domain).unwrap(),
        sequence: 1,
        authorities: vec![authority.as_bytes().to_vec().into()],
    };
    let member = |cluster: &str, watching, acknowledged, advertise: &[&str]| MemberStatus {
        member: Member {
            cluster: cluster.parse().unwrap(),
            gateway_id: SpiffeId::new(format!("spiffe://{cluster}.example/landbridge/gateway")).unwrap(),
            advertise: advertise.iter().map(|address| address.parse().unwrap()).collect(),
            bundle: bundle(&format!("{cluster}.example"), cluster),
            region: String::new(),
            zone: String::new(),
            lineage: federation_model::lineage::Lineage::default(),
            joined_at: Timestamp(NOW - 93_784),
        },
        watching,
        acknowledged,
        last_seen: Some(Timestamp(NOW - 4)).filter(|_| watching),
        software: "landbridge 0.1.0".to_owned(),
        pending: false,
    };
    Listing {
        members: vec![
            member("west", true, 7, &["west.example:15443"]),
            member("east", true, 6, &["192.0.2.1:15443", "192.0.2.2:15443"]),
            member("north", false, 3, &[]),
        ],
        revision: 7,
        federation: bundle("federation.internal", "federation"),
        federation_id: SpiffeId::new("spiffe://federation.internal/landbridge/federation").unwrap(),
        software: "landbridge 0.1.0".to_owned(),
        certificate: Vec::new(),
        next_renewal: None,
    }
}

/// As [`listing`], with south, which waits for approval and has two authorities.
pub(crate) fn listing_with_one_that_waits() -> Listing {
    let mut listing = listing();
    let mut south = listing.members[0].clone();
    south.member.cluster = "south".parse().unwrap();
    south.member.gateway_id = SpiffeId::new("spiffe://south.example/landbridge/gateway").unwrap();
    south.member.bundle.trust_domain = TrustDomain::new("south.example").unwrap();
    south.member.bundle.authorities = vec![b"south".to_vec().into(), b"old south".to_vec().into()];
    (south.pending, south.acknowledged) = (true, 0);
    listing.members.push(south);
    listing
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("another test thread panicked"))?.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What came of a command.
struct Ran {
    code: ExitCode,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn assert_code(&self, code: u8) {
        assert_eq!(
            format!("{:?}", self.code),
            format!("{:?}", ExitCode::from(code)),
            "{}\n{}",
            self.stdout,
            self.stderr
        );
    }
}

/// Runs a command line; with an `input` somebody sits at a terminal.
fn fedctl(arguments: &[&str], input: Option<&str>) -> Ran {
    let cli = Cli::try_parse_from([&["fedctl"], arguments].concat()).unwrap();
    let (stdout, stderr) = (Paper::default(), Paper::default());
    let stdin = Cursor::new(input.unwrap_or_default().to_owned());
    let features = Features { color: false, questions: input.is_some(), progress: false };
    let streams = (Box::new(stdin) as _, Box::new(stdout.clone()) as _, Box::new(stderr.clone()) as _);
    let mut console = Console::new(streams, features, cli.output, Timestamp(NOW));
    let code = run(cli, &mut console);
    Ran { code, stdout: stdout.text(), stderr: stderr.text() }
}

#[test]
fn a_gateway_that_is_not_there_is_told_with_a_hint_and_exit_code_2() {
    let ran = fedctl(&["status", "--gateway", "unix:/nowhere/admin.sock"], None);
    ran.assert_code(2);
    insta::assert_snapshot!("no_gateway", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_check_of_a_gateway_that_is_not_there_is_a_failed_check() {
    let ran = fedctl(&["check", "--gateway", "unix:/nowhere/admin.sock", "-o", "json"], None);
    ran.assert_code(1);
    let answer: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["findings"][0]["level"]), (&false.into(), &"failed".into()));
}

#[test]
fn commands_of_operators_say_what_they_need() {
    let ran = fedctl(&["members"], None);
    ran.assert_code(2);
    assert!(ran.stderr.contains("try: --federation https://host:port"), "{}", ran.stderr);
    let ran = fedctl(&["token", "list", "--federation", "localhost:1"], None);
    assert!(ran.stderr.contains("try: --operator DIR"), "{}", ran.stderr);
    let ran = fedctl(&["token", "list", "--federation", "localhost:1", "--operator", "/nowhere"], None);
    ran.assert_code(2);
    assert!(ran.stderr.contains("there is no operator credential in /nowhere"), "{}", ran.stderr);
}

#[test]
fn init_writes_a_configuration_once_and_never_over_another() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let init = |cluster| {
        let advertise = ["--advertise", "192.0.2.1:15443", "--advertise", "gw.example:15443"];
        let line = ["init", "gateway", "--cluster", cluster, "--trust-domain", "west.example", "--dir", at];
        fedctl(&[&line[..], &advertise[..]].concat(), None)
    };
    let ran = init("west");
    ran.assert_code(0);
    insta::assert_snapshot!("init_gateway", ran.stdout.replace(root.to_str().unwrap(), "DIR"));
    let text = std::fs::read_to_string(dir.path().join("gateway.toml")).unwrap();
    insta::assert_snapshot!("gateway_toml", text.replace(root.to_str().unwrap(), "DIR"));
    assert!(dir.path().join("manifests").is_dir());
    let again = init("west");
    again.assert_code(0);
    assert!(again.stdout.starts_with("There already"), "{}", again.stdout);
    let other = init("east");
    other.assert_code(2);
    assert!(other.stderr.contains("with other contents"), "{}", other.stderr);
}

#[test]
fn init_of_the_federation_service_names_what_gateways_dial() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let at = dir.path().to_str().unwrap();
    let ran = fedctl(&["init", "federation", "--name", "fed.example", "--name", "192.0.2.9", "--dir", at], None);
    ran.assert_code(0);
    insta::assert_snapshot!("init_federation", ran.stdout.replace(root.to_str().unwrap(), "DIR"));
    let text = std::fs::read_to_string(dir.path().join("federation.toml")).unwrap();
    insta::assert_snapshot!("federation_toml", text.replace(root.to_str().unwrap(), "DIR"));
}

#[test]
fn the_written_configurations_are_toml_with_the_keys_of_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    fedctl(&["init", "federation", "--dir", at], None).assert_code(0);
    fedctl(&["init", "gateway", "--cluster", "west", "--trust-domain", "west.example", "--dir", at], None)
        .assert_code(0);
    let load = |name: &str| -> serde_json::Value {
        federation_runtime::config::load(Some(&dir.path().join(name)), &Default::default()).unwrap()
    };
    let gateway = load("gateway.toml");
    assert_eq!(gateway["cluster"]["name"], "west");
    assert_eq!(gateway["tunnel"]["advertise"], serde_json::json!([]));
    assert_eq!(load("federation.toml")["grpc"]["names"], serde_json::json!(["localhost"]));
}

/// Keys of a template with the text behind them, those in comments among them.
fn keys_of(template: &str) -> Vec<(String, String)> {
    let mut section = "";
    let mut keys = Vec::new();
    for line in template.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.trim_start_matches("# ").split_once(" = ")
            && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        {
            let default = value.split("  #").next().unwrap_or(value).trim();
            keys.push((
                format!("{section}.{key}"),
                if line.starts_with('#') { default.to_owned() } else { String::new() },
            ));
        }
    }
    keys
}

#[test]
fn the_templates_have_only_keys_of_the_reference_and_show_its_defaults() {
    let page = federation_runtime::reference::page(env!("CARGO_MANIFEST_DIR"), "config.md");
    let page = std::fs::read_to_string(page).unwrap();
    /// Examples rather than defaults.
    const EXAMPLES: [&str; 2] = ["federation.addresses", "trust.ca_dir"];
    for (name, template) in [
        ("gateway.toml", include_str!("cmd/init/gateway.toml")),
        ("federation.toml", include_str!("cmd/init/federation.toml")),
    ] {
        let documented = federation_runtime::reference::documented(&page, name);
        let keys = keys_of(template);
        assert!(keys.len() > 10, "{keys:?}");
        for (key, default) in keys {
            let reference = documented.get(&key).unwrap_or_else(|| panic!("{name}: {key} is not in docs/config.md"));
            if !default.is_empty() && !EXAMPLES.contains(&key.as_str()) {
                assert_eq!(reference.as_deref(), Some(default.as_str()), "{name}: {key}");
            }
        }
    }
}

#[test]
fn completion_scripts_are_written_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = fedctl(&["completion", shell], None);
        ran.assert_code(0);
        assert!(ran.stdout.contains("fedctl"), "{shell}");
    }
}
