use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

async fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    (text[9..12].parse().unwrap(), text)
}

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    stop: CancellationToken,
    server: tokio::task::JoinSet<io::Result<()>>,
}

async fn running() -> Running {
    let mut metrics = Registry::with_prefix("landbridge");
    let counter: Counter = Counter::default();
    counter.inc_by(7);
    metrics.register("joins", "Joins", counter);
    let readiness = Readiness::default();
    let server = Admin::new("landbridge-test", readiness.clone(), metrics)
        .json("/debug/things", "every thing", || ["one", "two"])
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)), "admin.listen")
        .await
        .unwrap();
    let (address, stop) = (server.local_addr(), CancellationToken::new());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(server.serve(stop.clone()));
    Running { address, readiness, stop, server: tasks }
}

#[tokio::test]
async fn readiness_is_503_with_the_reason_until_every_condition_holds() {
    let admin = running().await;
    let (store, peers) = (admin.readiness.condition("store"), admin.readiness.condition("peers"));
    store.holds();
    peers.fails("no peer is connected");
    let (status, body) = request(admin.address, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("\"reason\": \"no peer is connected\""), "{body}");
    assert_eq!(admin.readiness.blocked_by().unwrap(), "peers: no peer is connected");
    peers.holds();
    let (status, body) = request(admin.address, "GET", "/readyz").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"ready\": true") && !body.contains("reason"), "{body}");
}

#[tokio::test]
async fn metrics_are_openmetrics() {
    let admin = running().await;
    let (status, body) = request(admin.address, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(body.contains("content-type: application/openmetrics-text; version=1.0.0"), "{body}");
    assert!(body.contains("landbridge_joins_total 7\n") && body.ends_with("# EOF\n"), "{body}");
}

#[tokio::test]
async fn the_root_lists_every_route_and_extra_routes_answer_json() {
    let admin = running().await;
    let (_, body) = request(admin.address, "GET", "/").await;
    for path in ["/livez", "/readyz", "/metrics", "/debug/things"] {
        assert!(body.contains(&format!("\"path\": \"{path}\"")), "{path}: {body}");
    }
    let (status, body) = request(admin.address, "GET", "/debug/things").await;
    assert!(status == 200 && body.contains("content-type: application/json") && body.contains("\"two\""), "{body}");
    assert_eq!(request(admin.address, "GET", "/livez").await.0, 200);
    assert_eq!(request(admin.address, "GET", "/nothing").await.0, 404);
}

#[tokio::test]
async fn nothing_but_get_is_answered() {
    let admin = running().await;
    for path in ["/", "/readyz", "/debug/things"] {
        let (status, body) = request(admin.address, "POST", path).await;
        assert!(status == 405 && body.contains("allow: GET"), "{path}: {body}");
    }
}

#[tokio::test]
async fn an_address_in_use_names_the_key_to_change() {
    let admin = running().await;
    let again = Admin::new("landbridge-test", Readiness::default(), Registry::default());
    let error = again.bind(admin.address, "admin.listen").await.unwrap_err().to_string();
    assert!(error.contains(&admin.address.to_string()) && error.contains("set `admin.listen` to a free"), "{error}");
}

#[tokio::test]
async fn stopping_ends_the_server() {
    let mut admin = running().await;
    admin.stop.cancel();
    admin.server.join_next().await.unwrap().unwrap().unwrap();
}
