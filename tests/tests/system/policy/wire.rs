//! How a refusal looks to the application: never like an answer of the destination, and never like nothing.

use std::io::ErrorKind;

use futures::FutureExt as _;
use http::uri::PathAndQuery;
use proto::gateway::v1::{
    self as wire, ListPoliciesRequest, ListPoliciesResponse,
    gateway_policies_server::{GatewayPolicies, GatewayPoliciesServer},
};
use tests::{
    client::{rest, say, soon},
    manifests::Export,
    web::{self, Answer},
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    client::Grpc,
    transport::{Endpoint, Server},
};
use tonic_prost::ProstCodec;

use super::world::{Client, Mode, NOBODY, POD, Sees, WEB, World, authentication, authorization};

const CHAT: &str =
    "action: DENY, from: [{principals: [\"spiffe://east.example/ns/production/sa/web\"]}], to: [{paths: [\"/chat\"]}]";

#[tokio::test]
async fn a_refused_request_is_answered_with_one_short_line_that_tells_no_rule() {
    let world = World::new().await;
    let refuses = [
        ("closed", authorization("closed", "action: DENY"), "refuse this call of a caller that is not known"),
        ("strict", authentication("strict", "STRICT"), "refuse this call of a caller that is not known"),
    ];
    for (name, yaml, reason) in refuses {
        world.policies(&yaml, &[name]).await;
        let Answer { status, head, body } = world.get(Client::Stranger, "/secret").await;
        assert_eq!(status, 403, "{head}");
        assert!(head.contains("x-landbridge-refused: denied"), "{head}");
        assert_eq!(body, format!("the policies of cluster west {reason}\n"));
        let known = world.get(Client::Pod, "/secret").await;
        assert_eq!(known.body, format!("the policies of cluster west refuse this call of {WEB}\n"));
    }
    assert_eq!(world.site.asked(), <[String; 0]>::default(), "nothing reached the server");
}

#[tokio::test]
async fn one_connection_is_told_of_each_request_whether_it_passes() {
    let world = World::new().await;
    world.policies(&authorization("gate", "action: DENY, to: [{methods: [DELETE]}]"), &["gate"]).await;
    for client in [Client::Pod, Client::Proven, Client::Local] {
        let mut stream = world.connect(client, Mode::Http).await.unwrap();
        for (method, status) in [("GET", 200), ("DELETE", 403), ("PUT", 200), ("DELETE", 403)] {
            let request = format!("{method} / HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(web::ask(&mut stream, &request).await.unwrap().status, status, "{client:?}: {method}");
        }
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_reset_all_the_same() {
    let world = World::new().await;
    world.policies(&authorization("closed", "action: DENY"), &["closed"]).await;
    let (east, west) = (world.east(), world.west());
    for mode in [Mode::Plain, Mode::ProxyV2, Mode::Passthrough, Mode::Tls] {
        for (cluster, host) in [(east, POD), (east, NOBODY), (west, POD)] {
            let refusal = cluster.refusal_from(cluster.host(host), mode.service(), mode.port()).await;
            assert_eq!(refusal, ErrorKind::ConnectionReset, "{} {mode:?}", cluster.name());
        }
    }
}

#[tokio::test]
async fn a_tls_client_that_nothing_serves_gets_an_alert_on_an_import_address_too() {
    let world = World::new().await;
    let (west, lonely) = (world.west(), "production/lonely");
    west.export(&Export::new(lonely, 8443, west.host(15)));
    for cluster in [world.east(), west] {
        cluster.sees(lonely, &["west"]).await;
        let config = tests::tls::believing(world.sealed.certificate());
        let stream = cluster.connect(lonely, 8443).await;
        let error = tests::tls::connect(config, &tests::fleet::host_of(lonely), stream).await.unwrap_err();
        assert_eq!(super::world::seen(&error), Sees::Alert(80), "{}", cluster.name());
        // Half a record header tells nothing, and gets a reset.
        let mut unclear = cluster.connect(lonely, 8443).await;
        unclear.write_all(&[22, 3, 1]).await.unwrap();
        assert_eq!(rest(&mut unclear).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_tls_client_of_a_service_that_is_delivered_as_http_gets_an_alert_whatever_the_policies_say() {
    let world = World::new().await;
    let (east, site) = (world.east(), Mode::Http);
    for (yaml, names) in [(String::new(), &[][..]), (authorization("closed", "action: DENY"), &["closed"])] {
        world.policies(&yaml, names).await;
        let config = tests::tls::believing(world.sealed.certificate());
        let stream = east.connect_from(east.host(POD), site.service(), site.port()).await;
        let error = tests::tls::connect(config, &tests::fleet::host_of(site.service()), stream).await.unwrap_err();
        assert_eq!(super::world::seen(&error), Sees::Alert(40), "{names:?}");
    }
    assert_eq!(world.site.asked(), <[String; 0]>::default());
}

#[tokio::test]
async fn a_websocket_passes_or_is_refused_by_its_request() {
    let world = World::new().await;
    for client in [Client::Pod, Client::Proven, Client::Stranger, Client::Local] {
        let mut stream = world.connect(client, Mode::Http).await.unwrap();
        assert_eq!(web::ask(&mut stream, &web::websocket("/chat")).await.unwrap().status, 101, "{client:?}");
        assert_eq!(say(&mut stream, "over the socket").await.unwrap(), "over the socket", "{client:?}");
    }
    world.policies(&authorization("chat", CHAT), &["chat"]).await;
    let asked = world.site.asked().len();
    let mut stream = world.connect(Client::Pod, Mode::Http).await.unwrap();
    let refused = web::ask(&mut stream, &web::websocket("/chat")).await.unwrap();
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("refuse this call"), "{refused:?}");
    assert_eq!(world.site.asked().len(), asked, "the server heard of it");
    let mut other = world.connect(Client::Stranger, Mode::Http).await.unwrap();
    assert_eq!(web::ask(&mut other, &web::websocket("/chat")).await.unwrap().status, 101);
}

/// A service of gRPC: that of a gateway, of which one call is answered.
struct Answering;

#[tonic::async_trait]
impl GatewayPolicies for Answering {
    async fn list_policies(&self, _: Request<ListPoliciesRequest>) -> Result<Response<ListPoliciesResponse>, Status> {
        let policy = wire::Policy { name: "heard".to_owned(), ..wire::Policy::default() };
        Ok(Response::new(ListPoliciesResponse { policies: vec![policy] }))
    }

    async fn test_policy(
        &self,
        _: Request<wire::TestPolicyRequest>,
    ) -> Result<Response<wire::TestPolicyResponse>, Status> {
        Err(Status::data_loss("the destination's own words"))
    }

    async fn report_policies(
        &self,
        _: Request<wire::ReportPoliciesRequest>,
    ) -> Result<Response<wire::ReportPoliciesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn explain_connection(
        &self,
        _: Request<wire::ExplainConnectionRequest>,
    ) -> Result<Response<wire::ExplainConnectionResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn grpc_is_refused_in_its_own_words_and_trailers_pass() {
    const GRPC: &str = "production/grpc";
    let world = World::new().await;
    let west = world.west();
    let listener = TcpListener::bind(west.at(16, 8080)).await.unwrap();
    let mut tasks = JoinSet::new();
    let serving = Server::builder().add_service(GatewayPoliciesServer::new(Answering));
    tasks.spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)).map(drop));
    west.export(&Export::new(GRPC, 8080, west.host(16)).annotated("deliver", "http"));
    world.east().sees(GRPC, &["west"]).await;
    // Whoever listens there does so once the tables are in force.
    drop(world.east().connect(GRPC, 8080).await);
    let url = format!("http://{}:8080", world.east().address_of(GRPC).await);
    let channel = Endpoint::from_shared(url).unwrap().local_address(Some(world.east().host(POD)));
    let mut client = Grpc::new(soon("a channel", channel.connect()).await.unwrap());
    let path =
        |method: &str| PathAndQuery::try_from(format!("/landbridge.gateway.v1.GatewayPolicies/{method}")).unwrap();
    let list = async |client: &mut Grpc<_>| {
        client.ready().await.unwrap();
        let codec = ProstCodec::<ListPoliciesRequest, ListPoliciesResponse>::default();
        client.unary(Request::new(ListPoliciesRequest {}), path("ListPolicies"), codec).await
    };
    assert_eq!(soon("an answer", list(&mut client)).await.unwrap().into_inner().policies[0].name, "heard");
    let codec = ProstCodec::<wire::TestPolicyRequest, wire::TestPolicyResponse>::default();
    client.ready().await.unwrap();
    let tested = client.unary(Request::new(wire::TestPolicyRequest::default()), path("TestPolicy"), codec);
    let error = soon("the words of the destination", tested).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::DataLoss, "the destination's own words"));

    let gate = authorization("gate", "action: DENY, to: [{methods: [POST], paths: [\"*/ListPolicies\"]}]");
    world.policies(&gate, &["gate"]).await;
    let refused = soon("a refusal", list(&mut client)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), format!("the policies of cluster west refuse this call of {WEB}"));
}
