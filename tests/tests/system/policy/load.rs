//! Real clients of HTTP through two gateways: curl and nghttp2's h2load.

use std::net::SocketAddr;

use tests::{client::soon, program, skip};
use tokio::process::Command;

use super::world::{Client, Mode, POD, WEB, World, authorization};

/// What a program printed, and whether it was content.
async fn run(program: &str, arguments: &[&str]) -> (String, bool) {
    let output = soon(program, Command::new(program).args(arguments).kill_on_drop(true).output()).await.unwrap();
    (String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(), output.status.success())
}

/// Where the site is for applications of east.
async fn site(world: &World) -> SocketAddr {
    let mode = Mode::Http;
    // Whoever listens there does so once the tables are in force.
    drop(world.connect(Client::Pod, mode).await.unwrap());
    SocketAddr::new(world.east().address_of(mode.service()).await, mode.port())
}

#[tokio::test]
async fn curl_is_answered_and_refused_in_both_versions() {
    if !program::is_installed("curl", "--version") {
        return skip::say("HTTP through two gateways with curl", "curl is not on PATH");
    }
    let world = World::new().await;
    world.policies(&authorization("gate", "action: DENY, to: [{paths: [\"/admin\"]}]"), &["gate"]).await;
    let (site, source) = (site(&world).await, world.east().host(POD).to_string());
    for (version, name) in [("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2")] {
        let get = async |path: &str| {
            let url = format!("http://{site}{path}");
            let (said, content) =
                run("curl", &["-sSi", "--max-time", "20", "--interface", &source, version, &url]).await;
            assert!(content, "{version}: {said}");
            said
        };
        let said = get("/public").await;
        assert!(said.starts_with(&format!("{name} 200")), "{said}");
        assert!(said.contains(&format!("\nx-landbridge-principal: {WEB}\n")), "{said}");
        let said = get("/admin").await;
        assert!(said.starts_with(&format!("{name} 403")) && said.contains("the policies of cluster west"), "{said}");
    }
}

#[tokio::test]
async fn h2load_gets_every_answer_in_both_versions() {
    if !program::is_installed("h2load", "--version") {
        return skip::say("HTTP through two gateways with h2load", "h2load, of nghttp2, is not on PATH");
    }
    let world = World::new().await;
    world.policies(&authorization("gate", "action: DENY, to: [{paths: [\"/admin\"]}]"), &["gate"]).await;
    let site = site(&world).await;
    for version in ["--h1", "--no-tls-proto=h2c"] {
        let (said, _) = run("h2load", &[version, "-n1000", "-c4", "-m16", &format!("http://{site}/load")]).await;
        assert!(said.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{version}: {said}");
        let (said, _) = run("h2load", &[version, "-n200", "-c4", "-m16", &format!("http://{site}/admin")]).await;
        assert!(said.contains("200 done, 0 succeeded, 200 failed, 0 errored, 0 timeout"), "{version}: {said}");
    }
    assert_eq!(world.site.asked().len(), 2000, "what is refused reaches nobody");
    let requests = world.west().metrics().await;
    let refused = requests.sum("landbridge_gateway_requests_total", &["outcome=\"denied\"", "status=\"4xx\""]);
    assert_eq!(refused, 400.0);
}
