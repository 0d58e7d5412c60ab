//! How connections of a whole gateway end.

use std::{io::ErrorKind, net::IpAddr};

use federation_model::bundle::Fingerprint;
use federation_pki::{tls::client_config, verify::PinnedAuthority};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A gateway that exports one service of its own, whose endpoint is `endpoint`.
struct Running {
    /// The address of the import.
    import: SocketAddr,
    sni: SocketAddr,
    stop: CancellationToken,
    ended: JoinSet<Shutdown>,
    dir: tempfile::TempDir,
}

/// Two addresses of the loopback network that no other test has, both usable in this /30.
fn imports() -> [IpAddr; 2] {
    let block = 0x7f1e_0000 | (rand::random::<u32>() & 0xffff & !3);
    [1, 2].map(|number| Ipv4Addr::from_bits(block + number).into())
}

fn manifest(endpoint: SocketAddr) -> String {
    let (ip, port) = (endpoint.ip(), endpoint.port());
    let metadata = "{namespace: production, name: api}";
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {metadata}\nspec: {{ports: [{{port: {port}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{namespace: production, name: api-1, labels: {{kubernetes.io/service-name: api}}}}\n\
         addressType: IPv4\nports: [{{port: {port}}}]\nendpoints: [{{addresses: [\"{ip}\"]}}]\n---\n\
         apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {metadata}\n"
    )
}

impl Running {
    async fn start(endpoint: SocketAddr, imports: [IpAddr; 2], drain_timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = settings(dir.path(), &[]);
        std::fs::write(config.catalog.dir.join("api.yaml"), manifest(endpoint)).unwrap();
        config.outbound.vip_cidr = ipnet::IpNet::new(imports[0], 30).unwrap();
        config.outbound.sni_listen = Some((Ipv4Addr::LOCALHOST, 0).into());
        config.limits.drain_timeout = drain_timeout;
        let stop = CancellationToken::new();
        let socket = TunnelSocket::Bind((Ipv4Addr::LOCALHOST, 0).into());
        let gateway = Gateway::start(config, socket, stop.clone()).await.unwrap();
        let (sni, mut ended) = (gateway.addresses().sni.unwrap(), JoinSet::new());
        ended.spawn(gateway.run());
        let import = SocketAddr::new(imports[0], endpoint.port());
        Self { import, sni, stop, ended, dir }
    }

    /// A connection to the import, as soon as somebody accepts one at either of the two addresses.
    async fn connect(&self, imports: [IpAddr; 2]) -> TcpStream {
        let connected = async {
            loop {
                for ip in imports {
                    if let Ok(stream) = TcpStream::connect((ip, self.import.port())).await {
                        return stream;
                    }
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, connected).await.expect("the import accepts connections")
    }

    /// Waits until the import has an address, which is written to disk after the tables that have it.
    async fn assigned(&self) {
        let kept = self.dir.path().join("state/addresses.json");
        while !std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("production/api")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn shutdown(mut self) -> Shutdown {
        self.stop.cancel();
        timeout(DEADLINE, self.ended.join_next()).await.expect("the gateway ends").unwrap().unwrap()
    }
}

async fn endpoint() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn connections_that_outlive_the_drain_are_reset_on_both_sides() {
    let (listener, address) = endpoint().await;
    let imports = imports();
    let gateway = Running::start(address, imports, Duration::from_millis(50)).await;
    let mut client = gateway.connect(imports).await;
    client.write_all(b"x").await.unwrap();
    let (mut server, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    server.read_exact(&mut [0]).await.unwrap();
    let shutdown = gateway.shutdown().await;
    assert!(shutdown.stuck.is_empty(), "{:?}", shutdown.stuck);
    for stream in [&mut client, &mut server] {
        let ended = timeout(DEADLINE, stream.read(&mut [0])).await.expect("the connection has ended");
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn an_import_address_that_is_taken_is_opened_when_it_is_free() {
    let (listener, address) = endpoint().await;
    let imports = imports();
    let taken = imports.map(|ip| std::net::TcpListener::bind((ip, address.port())).unwrap());
    let gateway = Running::start(address, imports, Duration::ZERO).await;
    // The address is assigned, and was not free; no table changes after that.
    timeout(DEADLINE, gateway.assigned()).await.expect("the import gets an address");
    drop(taken);
    let mut client = gateway.connect(imports).await;
    client.write_all(b"x").await.unwrap();
    timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_client_gets_its_alert_before_the_connection_is_closed_under_what_it_is_still_saying() {
    let (_listener, address) = endpoint().await;
    let gateway = Running::start(address, imports(), Duration::ZERO).await;
    let verifier = Arc::new(PinnedAuthority(Fingerprint::of(b"nobody")));
    let tls = client_config(None, verifier, b"h2").unwrap();
    let name = "no-such.production.svc.clusterset.local".try_into().unwrap();
    let mut hello = Vec::new();
    rustls::ClientConnection::new(Arc::new(tls), name).unwrap().write_tls(&mut hello).unwrap();
    let mut client = TcpStream::connect(gateway.sni).await.unwrap();
    client.write_all(&hello).await.unwrap();
    let mut answer = [0; 7];
    timeout(DEADLINE, client.read_exact(&mut answer)).await.unwrap().unwrap();
    // A fatal alert: unrecognized_name (RFC 6066 section 3).
    assert_eq!((answer[0], &answer[3..]), (21, [0, 2, 2, 112].as_slice()));
    // A reset would be the answer to this, and could overtake the alert on a longer way.
    client.write_all(&vec![0; 8 << 20]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(timeout(DEADLINE, client.read(&mut answer)).await.unwrap().unwrap(), 0);
    gateway.shutdown().await;
}
