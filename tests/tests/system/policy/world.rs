//! East calls, west serves in every way of delivery, and has the policies.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::{Duration, SystemTime},
};

use federation_client::gateway::messages::TestPolicyRequest;
use federation_model::spiffe::SpiffeId;
use federation_pki::{Validity, ca::SvidRequest, svid::Svid, tls::provider};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use tests::{
    client::{line, say},
    fleet::{Cluster, Fleet, Settings, host_of},
    manifests::{Export, pod},
    probe::Echo,
    tls::{self, TlsEcho},
    wait::until,
    web::{self, Web},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// The pod of each cluster.
pub(super) const POD: u8 = 20;
/// An address of each cluster that is no pod's.
pub(super) const NOBODY: u8 = 99;
pub(super) const WEB: &str = "spiffe://east.example/ns/production/sa/web";
pub(super) const CRON: &str = "spiffe://east.example/ns/production/sa/cron";
const SECURED: &str = "spiffe://west.example/ns/production/sa/secured";
pub(super) const LOCAL: &str = "spiffe://west.example/ns/production/sa/local";

/// How a service is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    ProxyV2,
    Http,
    Passthrough,
    Tls,
}

impl Mode {
    pub(super) const ALL: [Self; 5] = [Self::Plain, Self::ProxyV2, Self::Http, Self::Passthrough, Self::Tls];

    pub(super) const fn service(self) -> &'static str {
        match self {
            Self::Plain => "production/plain",
            Self::ProxyV2 => "production/introduced",
            Self::Http => "production/site",
            Self::Passthrough => "production/sealed",
            Self::Tls => "production/secured",
        }
    }

    pub(super) const fn port(self) -> u16 {
        match self {
            Self::Plain | Self::ProxyV2 | Self::Http => 8080,
            Self::Passthrough | Self::Tls => 8443,
        }
    }

    const fn annotation(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::ProxyV2 => "proxy-v2",
            Self::Http => "http",
            Self::Passthrough => "passthrough",
            Self::Tls => "tls",
        }
    }
}

/// Who calls, and by which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    /// A pod of east, by the import address.
    Pod,
    /// A host of east that is no pod, by the import address.
    Stranger,
    /// The pod, by the server name in its TLS.
    ServerName,
    /// Whoever has the key of a workload of east, where TLS ends.
    Proven,
    /// A pod of west itself, by the import address.
    Local,
}

impl Client {
    pub(super) const ALL: [Self; 5] = [Self::Pod, Self::Stranger, Self::ServerName, Self::Proven, Self::Local];

    /// Whether this client can call what is delivered so, or be told that it cannot.
    pub(super) const fn calls(self, mode: Mode) -> bool {
        match (self, mode) {
            (Self::Pod | Self::Stranger | Self::Local, _)
            | (Self::ServerName, Mode::Http | Mode::Passthrough)
            | (Self::Proven, Mode::Plain | Mode::ProxyV2 | Mode::Http | Mode::Tls) => true,
            (Self::ServerName, Mode::Plain | Mode::ProxyV2 | Mode::Tls) | (Self::Proven, Mode::Passthrough) => false,
        }
    }
}

/// What a client sees of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// The destination.
    Service,
    /// An answer in HTTP that is not the destination's.
    Status(u16),
    /// A TLS alert.
    Alert(u8),
    /// A reset.
    Reset,
}

pub(super) struct World {
    pub(super) fleet: Fleet,
    pub(super) introduced: Echo,
    pub(super) site: Web,
    pub(super) sealed: TlsEcho,
    _plain: Echo,
    _secured: TlsEcho,
}

impl World {
    pub(super) async fn new() -> Self {
        let fleet = Fleet::with([Settings::of("east"), Settings::of("west")]).await;
        let (east, west) = (&fleet["east"], &fleet["west"]);
        for (number, mode) in (10_u8..).zip(Mode::ALL) {
            let export = Export::new(mode.service(), mode.port(), west.host(number));
            let export = export.annotated("deliver", mode.annotation());
            west.export(&if mode == Mode::Tls { export.annotated("tls-spiffe-id", SECURED) } else { export });
        }
        let secured = svid(west, SECURED);
        let key = PrivateKeyDer::from_pem_slice(secured.key_pem().expose().as_bytes()).unwrap();
        east.write("pod.yaml", &pod("production", "web-1", "web", east.host(POD)));
        west.write("pod.yaml", &pod("production", "local-1", "local", west.host(POD)));
        let world = Self {
            _plain: Echo::start("west", west.at(10, 8080), false).await.unwrap(),
            _secured: TlsEcho::with("west", (secured.chain()[0].clone(), key), west.at(14, 8443)).await.unwrap(),
            introduced: Echo::start("west", west.at(11, 8080), true).await.unwrap(),
            site: Web::start("west", west.at(12, 8080)).await.unwrap(),
            sealed: TlsEcho::start("west", &host_of(Mode::Passthrough.service()), west.at(13, 8443)).await.unwrap(),
            fleet,
        };
        world.ready().await;
        world
    }

    /// Waits until both clusters see every service and know their pods.
    pub(super) async fn ready(&self) {
        for cluster in [self.east(), self.west()] {
            for mode in Mode::ALL {
                cluster.sees(mode.service(), &["west"]).await;
            }
            until(&format!("{} knows its pod", cluster.name()), async || {
                (!cluster.tables().await["principals"].as_object()?.is_empty()).then_some(())
            })
            .await;
        }
    }

    pub(super) fn east(&self) -> &Cluster {
        &self.fleet["east"]
    }

    pub(super) fn west(&self) -> &Cluster {
        &self.fleet["west"]
    }

    /// Writes policies into west, and waits until those that hold for the site are exactly these.
    pub(super) async fn policies(&self, yaml: &str, names: &[&str]) {
        self.west().write("policies.yaml", yaml);
        self.in_force(names).await;
    }

    /// Waits until the policies that hold for the site are exactly these.
    pub(super) async fn in_force(&self, names: &[&str]) {
        let mut wanted = names.to_vec();
        wanted.sort_unstable();
        until(&format!("the policies in force are {wanted:?}"), async || {
            let request = TestPolicyRequest {
                namespace: "production".to_owned(),
                service: "site".to_owned(),
                ..TestPolicyRequest::default()
            };
            let tested = self.west().admin().await.test_policy(request).await.ok()?;
            let policies = tested.calls.first()?.considered.iter().map(|policy| policy.policy.clone());
            let mut now: Vec<String> = policies.filter_map(|name| Some(name.rsplit_once('/')?.1.to_owned())).collect();
            now.sort_unstable();
            (now == wanted).then_some(())
        })
        .await;
    }

    /// A connection of a client that has shaken hands where it has to.
    pub(super) async fn connect(&self, client: Client, mode: Mode) -> io::Result<Connection> {
        let (service, port) = (mode.service(), mode.port());
        let (cluster, host) = match client {
            Client::Pod | Client::ServerName => (self.east(), POD),
            Client::Stranger | Client::Proven => (self.east(), NOBODY),
            Client::Local => (self.west(), POD),
        };
        let source = cluster.host(host);
        let tcp = match client {
            Client::Pod | Client::Stranger | Client::Local => cluster.connect_from(source, service, port).await,
            Client::ServerName => cluster.dial(source, cluster.sni()).await,
            Client::Proven => cluster.dial(source, cluster.mtls()).await,
        };
        let config = match (client, mode) {
            (Client::Proven, _) => self.proving(CRON),
            (Client::ServerName, _) | (_, Mode::Passthrough) => tls::believing(self.sealed.certificate()),
            (_, Mode::Plain | Mode::ProxyV2 | Mode::Http | Mode::Tls) => return Ok(Box::new(tcp)),
        };
        let stream: TlsStream<TcpStream> = tls::connect(config, &host_of(service), tcp).await?;
        Ok(Box::new(stream))
    }

    /// A client that has the key of this workload of east.
    fn proving(&self, id: &str) -> ClientConfig {
        let svid = svid(self.east(), id);
        let key = PrivateKeyDer::from_pem_slice(svid.key_pem().expose().as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.east().authority().certificate().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(Arc::new(roots)).with_client_auth_cert(svid.chain().to_vec(), key).unwrap()
    }

    /// One call, to its end.
    pub(super) async fn call(&self, client: Client, mode: Mode) -> Sees {
        let called = async { converse(&mut self.connect(client, mode).await?, mode).await };
        called.await.unwrap_or_else(|error| seen(&error))
    }

    /// What a request of a client is answered.
    pub(super) async fn get(&self, client: Client, path: &str) -> web::Answer {
        let mut stream = self.connect(client, Mode::Http).await.unwrap();
        web::ask(&mut stream, &web::get(path, "")).await.unwrap()
    }
}

/// An SVID of a workload of this cluster.
fn svid(cluster: &Cluster, id: &str) -> Svid {
    let validity = Validity::starting(SystemTime::now().into(), Duration::from_secs(3600));
    let request = SvidRequest { id: SpiffeId::new(id).unwrap(), names: Vec::new(), validity };
    cluster.authority().issue(&request).unwrap()
}

/// A connection of a client, whatever it is made of.
pub(super) type Connection = Box<dyn Stream>;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Speaks with the destination, as what is delivered so wants to be spoken with.
async fn converse(stream: &mut Connection, mode: Mode) -> io::Result<Sees> {
    match mode {
        Mode::Plain | Mode::ProxyV2 | Mode::Passthrough | Mode::Tls => {
            // Where the write fails, the read says why.
            let said = say(stream, "hello").await?;
            assert_eq!((said.as_str(), line(stream).await?.as_str()), ("west", "hello"));
            Ok(Sees::Service)
        }
        Mode::Http => {
            let answer = web::ask(stream, &web::get("/", "")).await?;
            if answer.status != 200 {
                return Ok(Sees::Status(answer.status));
            }
            assert!(answer.body.starts_with("west\nGET /\n"), "{answer:?}");
            Ok(Sees::Service)
        }
    }
}

/// What an error shows.
pub(super) fn seen(error: &io::Error) -> Sees {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => Sees::Alert((*alert).into()),
        Some(other) => panic!("neither an alert nor a reset: {other}"),
        None if error.kind() == ErrorKind::ConnectionReset => Sees::Reset,
        None => panic!("neither an alert nor a reset: {error:?}"),
    }
}

/// An `AuthorizationPolicy` of the namespace `production`, with these lines of its `spec`.
pub(super) fn authorization(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: policy.landbridge.dev/v1alpha1\nkind: AuthorizationPolicy\n\
         metadata: {{namespace: production, name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// A `PeerAuthentication` of the namespace `production`.
pub(super) fn authentication(name: &str, mode: &str) -> String {
    format!(
        "apiVersion: policy.landbridge.dev/v1alpha1\nkind: PeerAuthentication\n\
         metadata: {{namespace: production, name: {name}}}\nspec: {{mode: {mode}}}\n"
    )
}
