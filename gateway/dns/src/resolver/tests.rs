use std::sync::Arc;

use prometheus_client::registry::Registry;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{DnsConfig, DnsServer, answer::tests::tables};

/// The DNS of a gateway.
async fn gateway(tasks: &mut JoinSet<()>) -> SocketAddr {
    let config = DnsConfig { listen: (Ipv4Addr::LOCALHOST, 0).into(), ttl: Duration::from_secs(5) };
    let server = DnsServer::bind(config, &mut Registry::default()).await.unwrap();
    let (address, tables) = (server.local_addr(), watch::channel(Arc::new(tables())).1);
    tasks.spawn(server.run(tables, CancellationToken::new()));
    address
}

/// A resolver that answers every question with what `change` makes of an empty answer.
async fn resolver(tasks: &mut JoinSet<()>, change: impl Fn(&mut Message) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tasks.spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let mut answer = Message::from_vec(&buffer[..length]).unwrap();
            answer.metadata.message_type = MessageType::Response;
            change(&mut answer);
            socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
        }
    });
    address
}

fn code(code: ResponseCode) -> impl Fn(&mut Message) + Send + 'static {
    move |answer| answer.metadata.response_code = code
}

async fn heard(servers: &[SocketAddr]) -> Heard {
    Resolvers::of(servers).ask(&Zone::default()).await.unwrap()
}

#[tokio::test]
async fn where_a_gateway_is_asked_the_version_of_the_names_comes_back() {
    let mut tasks = JoinSet::new();
    let expected = Heard { resolver: Ipv4Addr::LOCALHOST.into(), said: Said::Version("1.0.0".to_owned()) };
    assert_eq!(heard(&[gateway(&mut tasks).await]).await, expected);
}

#[tokio::test]
async fn a_name_that_is_not_there_is_the_answer_and_a_failure_is_asked_of_the_next() {
    let mut tasks = JoinSet::new();
    let (none, empty) = (resolver(&mut tasks, code(ResponseCode::NXDomain)).await, resolver(&mut tasks, |_| {}).await);
    let (failing, gateway) = (resolver(&mut tasks, code(ResponseCode::ServFail)).await, gateway(&mut tasks).await);
    assert_eq!(heard(&[none, gateway]).await.said, Said::Nothing);
    assert_eq!(heard(&[empty, gateway]).await.said, Said::Nothing);
    assert_eq!(heard(&[failing, gateway]).await.said, Said::Version("1.0.0".to_owned()));
    let Said::Failure(said) = heard(&[failing]).await.said else { panic!("a failure is told") };
    assert!(said.contains("server failure") || said.contains("Server Failure"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_or_answers_something_else_is_silent() {
    let mut tasks = JoinSet::new();
    let other = resolver(&mut tasks, |answer| answer.metadata.id ^= 1).await;
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    assert_eq!(heard(&[other, silent.local_addr().unwrap()]).await.said, Said::Silence);
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_is_named() {
    assert_eq!(Resolvers::of_file("search a.local\n#nameserver 1.1.1.1\n").ask(&Zone::default()).await, None);
}

#[test]
fn resolvers_are_read_as_clients_read_them() {
    let text = "search shop.svc.cluster.local\nnameserver 10.96.0.10\n nameserver\tfd00::a \nnameserver fe80::1%eth0\noptions ndots:5\nnameserver\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";
    let expected = ["10.96.0.10:53", "[fd00::a]:53", "10.0.0.3:53"].map(|address| address.parse().unwrap());
    assert_eq!(Resolvers::of_file(text), Resolvers(expected.into()));
}
