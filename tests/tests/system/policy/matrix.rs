//! Every kind of client, every way of delivery, every kind of verdict, against a reference of a few lines.

use super::world::{CRON, Client, LOCAL, Mode, Sees, WEB, World, authentication, authorization};

/// A caller as the destination knows it.
struct Who {
    principal: Option<&'static str>,
    assurance: u8,
    cluster: &'static str,
}

const NONE: u8 = 0;
const ATTESTED: u8 = 1;
const MTLS: u8 = 2;

const fn who(client: Client) -> Who {
    match client {
        Client::Pod | Client::ServerName => Who { principal: Some(WEB), assurance: ATTESTED, cluster: "east" },
        Client::Stranger => Who { principal: None, assurance: NONE, cluster: "east" },
        Client::Proven => Who { principal: Some(CRON), assurance: MTLS, cluster: "east" },
        Client::Local => Who { principal: Some(LOCAL), assurance: ATTESTED, cluster: "west" },
    }
}

/// Policies, their names, and whom they let through.
type Case = (&'static str, String, fn(&Who) -> bool);

fn cases() -> Vec<Case> {
    let everyone_known = format!("action: ALLOW, from: [{{principals: [\"{WEB}\", \"{CRON}\", \"{LOCAL}\"]}}]");
    vec![
        ("", String::new(), |_| true),
        ("allow-known", authorization("allow-known", &everyone_known), |who| who.principal.is_some()),
        (
            "allow-nobody",
            authorization("allow-nobody", "action: ALLOW, from: [{principals: [\"spiffe://east.example/ns/x/sa/y\"]}]"),
            |_| false,
        ),
        ("allow-proven", authorization("allow-proven", "action: ALLOW, from: [{assurance: mtls}]"), |who| {
            who.assurance >= MTLS
        }),
        ("allow-attested", authorization("allow-attested", "action: ALLOW, from: [{assurance: attested}]"), |who| {
            who.assurance >= ATTESTED
        }),
        ("deny-east", authorization("deny-east", "action: DENY, from: [{clusters: [east]}]"), |who| {
            who.cluster != "east"
        }),
        ("strict", authentication("strict", "STRICT"), |who| who.assurance >= MTLS),
        ("permissive", authentication("permissive", "PERMISSIVE"), |_| true),
        ("trial", authorization("trial", "action: AUDIT, audits: DENY"), |_| true),
    ]
}

/// What a client sees, by the rules of `docs/policy.md` and no others.
fn expected(client: Client, mode: Mode, passes: bool) -> Sees {
    match (client, mode) {
        // No gateway can read the requests inside the client's own TLS, so none can name the caller in them.
        (Client::ServerName, Mode::Http) => Sees::Alert(HANDSHAKE_FAILURE),
        _ if passes => Sees::Service,
        (_, Mode::Http) => Sees::Status(403),
        (Client::ServerName | Client::Proven, _) | (_, Mode::Passthrough) => Sees::Alert(ACCESS_DENIED),
        (Client::Pod | Client::Stranger | Client::Local, Mode::Plain | Mode::ProxyV2 | Mode::Tls) => Sees::Reset,
    }
}

const HANDSHAKE_FAILURE: u8 = 40;
const ACCESS_DENIED: u8 = 49;

#[tokio::test]
async fn every_client_sees_in_every_mode_what_the_policies_say() {
    let world = World::new().await;
    for (name, yaml, passes) in cases() {
        let names: Vec<&str> = name.split_terminator(',').collect();
        world.policies(&yaml, &names).await;
        for client in Client::ALL {
            for mode in Mode::ALL.into_iter().filter(|mode| client.calls(*mode)) {
                let told = world.introduced.seen().len();
                let sees = world.call(client, mode).await;
                assert_eq!(sees, expected(client, mode, passes(&who(client))), "{name:?}: {client:?} calls {mode:?}");
                let heard = world.introduced.seen().len() > told;
                assert_eq!(heard, mode == Mode::ProxyV2 && sees == Sees::Service, "{name:?}: {client:?} {mode:?}");
            }
        }
    }
    for cluster in [world.east(), world.west()] {
        assert_eq!(cluster.metrics().await.sum("landbridge_gateway_connections_total", &["outcome=\"aborted\""]), 0.0);
    }
}

#[tokio::test]
async fn the_destination_is_told_of_each_caller_what_the_policies_judge() {
    let world = World::new().await;
    for client in Client::ALL.into_iter().filter(|client| client.calls(Mode::ProxyV2)) {
        let Who { principal, assurance, cluster } = who(client);
        let assurance = ["none", "attested", "mtls"][usize::from(assurance)];
        assert_eq!(world.call(client, Mode::ProxyV2).await, Sees::Service);
        let told = world.introduced.seen().pop().unwrap();
        assert_eq!(told.principal.as_deref(), principal, "{client:?}");
        assert_eq!(
            (told.cluster.as_deref(), told.assurance.as_deref()),
            (Some(cluster), Some(assurance)),
            "{client:?}"
        );
        let answer = world.get(client, "/").await;
        assert_eq!(answer.told("x-landbridge-principal"), Vec::from_iter(principal), "{client:?}");
        assert_eq!(answer.told("x-landbridge-source-cluster"), [cluster], "{client:?}");
        assert_eq!(answer.told("x-landbridge-assurance"), [assurance], "{client:?}");
        assert_eq!(answer.told("x-forwarded-client-cert").len(), usize::from(principal.is_some()), "{client:?}");
        assert_eq!(answer.told("client-cert").len(), usize::from(assurance == "mtls"), "{client:?}");
    }
}
