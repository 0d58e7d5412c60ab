//! Private keys and join tokens: where they are, with which modes, and that nothing shows them.

use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use federation_client::{gateway::messages, operator::Credential};
use federation_model::spiffe::TrustDomain;
use federation_pki::{
    ca::Authority,
    identity::LiveIdentity,
    material::{Material, SecretTexts},
    signer::Signer,
    svid::Svid,
    token::JoinToken,
};
use gateway::{
    config::{ClusterConfig, IdentityConfig},
    identity::ClusterIdentity,
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use tests::{
    client::{line, part},
    company::Company,
    fleet::{Cluster, Fleet, Settings},
    http,
    logs::Logs,
    manifests::Export,
    mount::Mount,
    probe::Echo,
    wait::until,
};

use super::{
    super::fedctl::{fedctl, federation, gateway, words},
    API, settled, with_identity,
};

/// Where the secret number of a P-256 key begins (RFC 5915: version 1, then an octet string of 32).
const SCALAR: [u8; 5] = [2, 1, 1, 4, 32];

/// Secrets by where they were found, each in every form in which something could show it.
#[derive(Default)]
struct Secrets(BTreeMap<String, Vec<String>>);

impl Secrets {
    /// A text, such as a token.
    fn text(&mut self, place: &str, text: &str) {
        self.0.entry(place.to_owned()).or_default().push(text.to_owned());
    }

    /// Bytes: as digits, as a list, and as escaped text.
    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        assert!(bytes.len() >= 16, "{place} is too short to be a secret");
        let hex = bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let list = |shown: String| shown.trim_matches(['[', ']']).to_owned();
        // The last characters of an encoding depend on what follows.
        let cut = |text: String| text[..text.len() - 4].to_owned();
        let forms = [
            hex.to_uppercase(),
            hex,
            list(format!("{bytes:?}")),
            list(format!("{bytes:x?}")),
            list(format!("{bytes:02x?}")),
            cut(BASE64_STANDARD.encode(bytes)),
            cut(BASE64_URL_SAFE_NO_PAD.encode(bytes)),
            bytes.escape_ascii().to_string(),
        ];
        self.0.entry(place.to_owned()).or_default().extend(forms.map(squeezed));
    }

    /// A key in PEM: the lines of its body that hold the secret number, and that number.
    fn key(&mut self, place: &str, pem: &str) {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let der = key.secret_der();
        let at = der.windows(SCALAR.len()).position(|window| window == SCALAR).expect("a P-256 key") + SCALAR.len();
        self.bytes(place, &der[at..at + 32]);
        self.bytes(&format!("{place} (its encoding)"), der);
        let body: Vec<_> = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1).take(2).collect();
        assert!(body.iter().all(|line| line.len() == 64), "{place}");
        body.iter().for_each(|line| self.text(place, line));
    }

    /// Every key below a directory.
    fn below(&mut self, dir: &Path) {
        for file in files(dir) {
            let bytes = fs::read(&file).unwrap();
            let place = file.display().to_string();
            match std::str::from_utf8(&bytes) {
                Ok(text) if text.contains("PRIVATE KEY") => self.key(&place, text),
                Ok(_) | Err(_) if file.ends_with("reset.key") => self.bytes(&place, &bytes),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// None of them is in `text`, however it is broken into lines.
    fn are_not_in(&self, what: &str, text: &str) {
        let text = squeezed(text.to_owned());
        for (place, forms) in &self.0 {
            assert!(!forms.iter().any(|form| text.contains(form.as_str())), "{what} shows {place}");
        }
    }

    fn are_not_shown_by(&self, what: &str, value: &impl Debug) {
        self.are_not_in(what, &format!("{value:?} {value:#?}"));
    }
}

/// Without white space, for lists are broken into lines.
fn squeezed(mut text: String) -> String {
    text.retain(|c| !c.is_ascii_whitespace());
    text
}

/// Every file below a directory, sockets left out.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// Everything below a directory is for its owner alone.
fn is_private(dir: &Path) {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(dir), 0o700, "{}", dir.display());
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            is_private(&entry.path());
        } else {
            assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
        }
    }
}

/// Every page of an admin port.
async fn pages(address: std::net::SocketAddr) -> String {
    let (_, index) = http::get(address, "/").await.unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let routes = index["routes"].as_array().unwrap();
    assert!(routes.len() > 2, "{index}");
    let mut text = String::new();
    for route in routes {
        let (status, body) = http::get(address, route["path"].as_str().unwrap()).await.unwrap();
        assert_eq!(status, 200, "{route}");
        text.push_str(&body);
    }
    text
}

async fn renewals(cluster: &Cluster) -> f64 {
    cluster.metrics().await.sum("landbridge_gateway_certificate_renewals_total", &[])
}

/// A set of one cluster with an authority of its own and short certificates, and one with a mounted Secret.
struct World {
    fleet: Fleet,
    mount: Mount,
    secrets: Secrets,
    tokens: Vec<JoinToken>,
    _echo: Echo,
}

impl World {
    /// Joins with tokens that are remembered as secrets.
    async fn join() -> Self {
        let company = Company::default();
        let mount = Mount::of(&company.intermediate("west.example").secret());
        let mut fleet = Fleet::new().await;
        fleet.add(with_identity("east", "ttl = \"10s\"".to_owned())).await;
        fleet.add(with_identity("west", mount.settings())).await;
        let mut world = Self {
            _echo: Echo::start("west", fleet["west"].at(10, 8080), false).await.unwrap(),
            fleet,
            mount,
            secrets: Secrets::default(),
            tokens: Vec::new(),
        };
        for name in ["east", "west"] {
            let text = world.fleet.federation().token(name).await;
            world.fleet[name].join(&text).await.unwrap();
            let token: JoinToken = text.parse().unwrap();
            world.secrets.bytes(&format!("the token of {name}"), token.secret.expose());
            world.secrets.text(&format!("the token of {name}"), &text);
            world.tokens.push(token);
        }
        world.fleet.connected().await;
        world
    }

    /// Remembers every key that is on disk now.
    fn collect(&mut self) {
        let (east, west) = (self.fleet["east"].state(), self.fleet["west"].state());
        for dir in [&east, &west, &self.fleet.federation().store(), self.mount.path()] {
            self.secrets.below(dir);
        }
        assert!(self.secrets.0.len() > 10, "{:?}", self.secrets.0.keys());
    }

    /// Traffic, a rotation on either side, renewals and a revocation; keys are collected before each one goes.
    async fn live(&mut self) {
        let fleet = &self.fleet;
        fleet["west"].export(&Export::new(API, 8080, fleet["west"].host(10)));
        fleet["east"].sees(API, &["west"]).await;
        let mut stream = fleet["east"].connect(API, 8080).await;
        assert_eq!(line(&mut stream).await.unwrap(), "west");
        assert_eq!(part(&mut stream).await.unwrap(), "bye\n");
        self.collect();
        let rotated = fedctl(&words(&format!("trust rotate east --yes {}", gateway(&self.fleet, "east")))).await;
        assert!(rotated.code.contains("(0)"), "{rotated:?}");
        self.secrets.are_not_in("fedctl trust rotate", &format!("{rotated:?}"));
        self.mount.swap(&Company::default().intermediate("west.example").secret());
        until("west follows its source", async || {
            (super::standing(&self.fleet["west"]).await.sequence == 3).then_some(())
        })
        .await;
        settled(&self.fleet["west"]).await;
        self.collect();
        let before = renewals(&self.fleet["east"]).await;
        until("east renews its certificate", async || (renewals(&self.fleet["east"]).await > before).then_some(()))
            .await;
        self.collect();
        let revoke =
            format!("revoke id spiffe://east.example/ns/a/sa/b --reason lost --yes {}", federation(&self.fleet));
        fedctl(&words(&revoke)).await.done();
    }
}

#[tokio::test]
async fn no_key_or_token_is_in_logs_answers_or_pages_and_their_files_are_private() {
    let logs = Logs::default();
    let captured = logs.capture();
    let mut world = World::join().await;
    world.live().await;
    let fleet = &world.fleet;

    let at_gateway = ["status", "services", "certs", "check", "trust rotate east --status"];
    let at_federation = ["status", "members", "token list", "audit list", "revoke list", "trust foreign list"];
    let told = at_gateway.map(|command| format!("{command} -o json {}", gateway(fleet, "east"))).into_iter();
    for command in told.chain(at_federation.map(|command| format!("{command} -o json {}", federation(fleet)))) {
        let answer = fedctl(&words(&command)).await;
        assert!(answer.code.contains("(0)"), "{command}: {answer:?}");
        world.secrets.are_not_in(&command, &format!("{}{}", answer.stdout, answer.stderr));
    }
    for address in [fleet["east"].admin_http(), fleet["west"].admin_http(), fleet.federation().admin()] {
        world.secrets.are_not_in(&format!("a page of {address}"), &pages(address).await);
    }
    for dir in [fleet["east"].state(), fleet["west"].state(), fleet.federation().store()] {
        is_private(&dir);
    }
    let store: Vec<u8> = files(&fleet.federation().store()).iter().flat_map(|file| fs::read(file).unwrap()).collect();
    for token in &world.tokens {
        let secret = token.secret.expose();
        assert!(!store.windows(secret.len()).any(|window| window == secret), "the store has the secret of {token:?}");
    }

    let World { mut fleet, secrets, .. } = world;
    for name in ["east", "west"] {
        fleet[name].stop().await;
    }
    fleet.stop_federation().await;
    drop(captured);
    let text = logs.text();
    for program in ["gateway is running", "serving", "quinn", "rustls", "h2"] {
        assert!(text.contains(program), "the logs lack {program}: {} bytes", text.len());
    }
    for level in ["TRACE", "DEBUG", "INFO"] {
        assert!(text.contains(level), "the logs lack {level}");
    }
    secrets.are_not_in("a log", &text);
}

#[tokio::test]
async fn values_that_hold_keys_do_not_show_them() {
    let mut fleet = Fleet::new().await;
    fleet.add(Settings::of("east")).await;
    let token: JoinToken = fleet.federation().token("east").await.parse().unwrap();
    let mut secrets = Secrets::default();
    secrets.bytes("the token", token.secret.expose());
    secrets.text("the token", &token.to_string());
    let (state, operator) = (fleet["east"].state(), fleet.federation().store().join("operator"));
    let own = tempfile::tempdir().unwrap();
    let domain = TrustDomain::new("east.example").unwrap();
    let cluster = ClusterConfig {
        name: "east".parse().unwrap(),
        trust_domain: domain.clone(),
        region: String::new(),
        zone: String::new(),
    };
    let opened = ClusterIdentity::open(own.path(), &cluster, &IdentityConfig::default(), None, &mut Default::default());
    let (identity, keeper, reporter) = opened.unwrap();
    for dir in [state.as_path(), &operator, own.path()] {
        secrets.below(dir);
    }

    let read = |file: &str| fs::read_to_string(state.join(file)).unwrap();
    let authority = Arc::new(Authority::from_pem(&read("ca/tls.crt"), &read("ca/tls.key"), &domain).unwrap());
    let svid = Svid::from_pem(&read("svid/tls.crt"), &read("svid/tls.key")).unwrap();
    let texts = [read("ca/tls.crt"), read("ca/tls.key")];
    let texts = SecretTexts { certificate: &texts[0], key: &texts[1], authorities: Some(&texts[0]) };
    let now = std::time::SystemTime::now().into();
    let issuer = Material::from_secret(texts, &cluster.gateway_id(), now).unwrap();
    let leaf = Material::Leaf { svid: svid.clone(), authorities: vec![authority.certificate().clone()] };

    secrets.are_not_shown_by("SecretTexts", &texts);
    secrets.are_not_shown_by("SecretPem", &authority.key_pem());
    secrets.are_not_shown_by("Authority", &authority);
    secrets.are_not_shown_by("Svid", &svid);
    secrets.are_not_shown_by("CertifiedKey", &svid.certified_key());
    secrets.are_not_shown_by("Material", &(issuer, leaf));
    let signers = (Signer::Authority(authority), Signer::Gateway(Arc::new(svid.clone())));
    secrets.are_not_shown_by("Signer", &signers);
    secrets.are_not_shown_by("LiveIdentity", &LiveIdentity::new(svid));
    secrets.are_not_shown_by("ClusterIdentity", &identity);
    secrets.are_not_shown_by("Keeper", &(keeper, reporter));
    secrets.are_not_shown_by("Credential", &Credential::load(&operator).unwrap());
    secrets.are_not_shown_by("JoinToken", &token);
    let request = messages::JoinRequest { token: token.to_string(), dry_run: false, wait_seconds: 0 };
    secrets.are_not_shown_by("JoinRequest", &request);
    // And the search itself finds what is there.
    let found = std::panic::catch_unwind(|| secrets.are_not_in("a key file", &read("ca/tls.key")));
    assert!(found.is_err());
}
