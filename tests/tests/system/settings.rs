//! Settings that cannot work, said before anything starts, with what to change.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use federation_runtime::config::load;
use gateway::{app::Gateway, config::Config};
use gateway_tunnel::TunnelSocket;
use tempfile::TempDir;
use tests::fleet::Fleet;
use tokio_util::sync::CancellationToken;

/// The settings of a gateway that could run, on ports of its own.
fn settings(dir: &Path) -> Config {
    let file = dir.join("gateway.toml");
    let text = "[cluster]\nname = \"east\"\ntrust_domain = \"east.example\"\n\
                [outbound]\nsni_listen = \"127.0.0.1:0\"\n[dns]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    fs::write(&file, text).unwrap();
    fs::create_dir_all(dir.join("manifests")).unwrap();
    let mut config: Config = load(Some(&file), &BTreeMap::new()).unwrap();
    config.state.dir = dir.join("state");
    config.catalog.dir = dir.join("manifests");
    config.checked().unwrap()
}

/// Why a gateway does not start.
async fn refusal(config: Config) -> String {
    let any = TunnelSocket::Bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let started = Gateway::start(config, any, CancellationToken::new()).await;
    format!("{:#}", started.expect_err("the settings cannot work"))
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_setting_it_comes_from() {
    let dir = TempDir::new().unwrap();
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (taken, taken_udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
    let dns =
        Config { dns: gateway::config::DnsConfig { listen: taken, ..Default::default() }, ..settings(dir.path()) };
    let admin = Config { admin: gateway::config::AdminConfig { listen: taken }, ..settings(dir.path()) };
    let mut sni = settings(dir.path());
    sni.outbound.sni_listen = Some(taken);
    for (config, key) in [(dns, "dns.listen"), (admin, "admin.listen"), (sni, "outbound.sni_listen")] {
        let reason = refusal(config).await;
        assert!(reason.contains(key) && reason.contains(&taken.to_string()) && reason.contains("free"), "{reason}");
    }
    let socket = TunnelSocket::Bind(taken_udp);
    let started = Gateway::start(settings(dir.path()), socket, CancellationToken::new()).await;
    let reason = format!("{:#}", started.unwrap_err());
    assert!(reason.contains("tunnel.listen") && reason.contains(&taken_udp.to_string()), "{reason}");
}

#[tokio::test]
async fn two_gateways_do_not_share_a_state_directory() {
    let fleet = Fleet::of(&["east"]).await;
    let dir = TempDir::new().unwrap();
    let mut config = settings(dir.path());
    config.state.dir = fleet["east"].state();
    let reason = refusal(config).await;
    assert!(reason.contains("state"), "{reason}");
    assert_eq!(fleet["east"].get("/livez").await.unwrap().0, 200, "who was there first is not disturbed");
}

#[tokio::test]
async fn state_that_cannot_be_used_is_named_with_what_to_do() {
    let mut fleet = Fleet::of(&["east"]).await;
    fleet["east"].stop().await;
    let state = fleet["east"].state();
    let start = async |fleet: &mut Fleet| format!("{:#}", fleet["east"].try_start().await.unwrap_err());

    let key = state.join("ca/tls.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let reason = start(&mut fleet).await;
    assert!(reason.contains("tls.key") && reason.contains("chmod"), "{reason}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let good = fs::read(&key).unwrap();
    fs::write(&key, "no key at all").unwrap();
    let reason = start(&mut fleet).await;
    assert!(reason.contains(&state.join("ca").display().to_string()), "{reason}");
    fs::write(&key, good).unwrap();

    let membership = state.join("membership.pb");
    let good = fs::read(&membership).unwrap();
    fs::write(&membership, &good[..good.len() / 2]).unwrap();
    let reason = start(&mut fleet).await;
    assert!(reason.contains("membership.pb is damaged") && reason.contains("fedctl join"), "{reason}");
    fs::write(&membership, good).unwrap();
    fleet["east"].start().await;
    assert_eq!(fleet["east"].get("/readyz").await.unwrap().0, 200, "nothing was broken by the attempts");
}

#[tokio::test]
async fn the_state_of_another_cluster_is_not_used() {
    let mut fleet = Fleet::of(&["east"]).await;
    fleet["east"].stop().await;
    let dir = TempDir::new().unwrap();
    let mut config = settings(dir.path());
    config.cluster.name = "west".parse().unwrap();
    config.state.dir = fleet["east"].state();
    let reason = refusal(config).await;
    assert!(reason.contains("cluster east") && reason.contains("west") && reason.contains("state.dir"), "{reason}");
}

#[tokio::test]
async fn a_directory_of_manifests_that_is_not_there_is_named_with_its_setting() {
    let dir = TempDir::new().unwrap();
    let mut config = settings(dir.path());
    config.catalog.dir = dir.path().join("nowhere");
    let reason = refusal(config).await;
    assert!(reason.contains("catalog.dir") && reason.contains("nowhere"), "{reason}");
}

#[test]
fn keys_that_no_setting_has_are_named_with_the_one_that_was_meant() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("gateway.toml");
    let cluster = "[cluster]\nname = \"east\"\ntrust_domain = \"east.example\"\n";
    let cases = [
        (format!("{cluster}[tunnel]\nlissen = \"0.0.0.0:1\"\n"), "tunnel.lissen", "listen"),
        (format!("{cluster}[limits]\nhello_timeout = 5\n"), "limits.hello_timeout", ""),
        ("[cluster]\nname = \"East\"\ntrust_domain = \"east.example\"\n".to_owned(), "cluster.name", "lowercase"),
        ("[cluster]\ntrust_domain = \"east.example\"\n".to_owned(), "cluster.name", "missing"),
    ];
    for (text, key, hint) in cases {
        fs::write(&file, &text).unwrap();
        let error = load::<Config>(Some(&file), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("gateway.toml") && error.contains(key) && error.contains(hint), "{text}\n{error}");
    }
}
