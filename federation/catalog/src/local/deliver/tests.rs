use federation_model::{spiffe::TrustDomain, time::Timestamp};

use super::*;
use crate::{
    local::{LocalState, compile},
    objects::{Objects, Protocol, ServiceObject, ServicePortObject, ServiceType},
};

fn number(port: u16) -> Port {
    Port::new(port).unwrap()
}

/// `shop/web` with the TCP ports 80 `http` and 5432 `db` and the UDP port 53 `dns`, exported with these annotations.
fn exported(annotations: &[(&str, &str)]) -> LocalState {
    let port = |name: &str, port, transport| ServicePortObject {
        name: Some(name.parse().unwrap()),
        protocol: Protocol::Carried(transport),
        port: number(port),
        app_protocol: None,
        target_port: None,
    };
    let mut objects = Objects::default();
    objects.insert_service(ServiceObject {
        key: "shop/web".parse().unwrap(),
        service_type: ServiceType::ClusterIp,
        ports: vec![
            port("http", 80, Transport::Tcp),
            port("db", 5432, Transport::Tcp),
            port("dns", 53, Transport::Udp),
        ],
        session_affinity: federation_model::catalog::SessionAffinity::None,
        internal_traffic_policy: None,
        traffic_distribution: None,
    });
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    objects.insert_service_export(ServiceExportObject {
        key: "shop/web".parse().unwrap(),
        created: Timestamp(1),
        exported_labels: BTreeMap::new(),
        exported_annotations: BTreeMap::new(),
        annotations: annotations.iter().map(own).collect(),
    });
    compile(&objects, &TrustDomain::new("east.example").unwrap())
}

fn modes_of(annotations: &[(&str, &str)]) -> DeliverModes {
    let state = exported(annotations);
    let web = &"shop/web".parse().unwrap();
    let ready = &state.conditions[web].ready.message;
    state.exports.get(web).unwrap_or_else(|| panic!("it is exported: {ready}")).deliver.clone()
}

fn refusal(annotations: &[(&str, &str)]) -> String {
    let state = exported(annotations);
    assert!(state.exports.is_empty(), "{annotations:?} is exported");
    let conditions = &state.conditions[&"shop/web".parse().unwrap()];
    assert_eq!((conditions.valid.reason.as_str(), conditions.ready.reason.as_str()), ("Valid", "Failed"));
    conditions.ready.message.clone()
}

#[test]
fn one_word_is_for_every_port_and_nothing_means_the_bytes_as_they_are() {
    for word in ["passthrough", "plain", "proxy-v2", "http", "tls"] {
        assert_eq!(modes_of(&[(DELIVER, word)]).to_string(), word);
    }
    assert_eq!(modes_of(&[]), DeliverModes::default());
}

#[test]
fn ports_are_named_by_name_or_number_and_the_others_get_the_default() {
    for (text, means) in [
        ("http, 5432=proxy-v2", "http, 5432=proxy-v2"),
        ("db = proxy-v2 , http=plain", "plain, 80=plain, 5432=proxy-v2"),
        ("80=http,passthrough", "passthrough, 80=http"),
    ] {
        assert_eq!(modes_of(&[(DELIVER, text)]).to_string(), means, "{text}");
    }
}

#[test]
fn an_export_whose_delivery_is_not_understood_is_held_back_and_told_what_to_write() {
    for text in ["proxy-v1", "Plain", "", "http,", "80=", "http plain", "http=http=plain"] {
        let message = refusal(&[(DELIVER, text)]);
        assert!(message.contains("landbridge.dev/deliver") && message.contains("proxy-v2"), "{text}: {message}");
    }
    for (text, port) in [
        ("metrics=plain", "metrics"),
        ("81=plain", "81"),
        ("dns=plain", "dns"),
        ("0=plain", "0"),
        ("=http", ""),
        ("http; db=plain", "http; db"),
    ] {
        let message = refusal(&[(DELIVER, text)]);
        assert!(message.contains(&format!("{port:?}")) && message.contains("http (80), db (5432)"), "{message}");
    }
    for text in ["http, plain", "http, 80=plain, http=plain", "db=tls, 5432=tls"] {
        assert!(refusal(&[(DELIVER, text)]).contains("twice"), "{text}");
    }
}

#[test]
fn the_tls_annotations_say_what_an_endpoint_proves_and_what_it_is_shown() {
    let tls_of = |annotations: &[(&str, &str)]| match modes_of(annotations).mode_of(number(80)) {
        Deliver::Tls(tls) => tls.clone(),
        other @ (Deliver::Plain | Deliver::Passthrough | Deliver::ProxyV2 | Deliver::Http) => {
            panic!("port 80 is delivered as {other}")
        }
    };
    assert_eq!(tls_of(&[(DELIVER, "tls")]), EndpointTls::default());
    let id = "spiffe://east.example/ns/shop/sa/web";
    let tls = tls_of(&[(DELIVER, "80=tls"), (TLS_SPIFFE_ID, id), (TLS_CLIENT_IDENTITY, "gateway")]);
    assert_eq!(tls.proof, EndpointProof::SpiffeId(SpiffeId::new(id).unwrap()));
    assert_eq!(tls.presents, ClientIdentity::Gateway);
    let tls = tls_of(&[(DELIVER, "tls"), (TLS_SERVER_NAME, "Web.Example.")]);
    assert_eq!(tls.proof, EndpointProof::ServerName("web.example".parse().unwrap()));
}

#[test]
fn tls_annotations_that_are_not_understood_hold_the_export_back() {
    for (annotation, value) in [
        (TLS_SPIFFE_ID, "east.example/web"),
        (TLS_SPIFFE_ID, "spiffe://east.example"),
        (TLS_SERVER_NAME, "*.example"),
        (TLS_SERVER_NAME, "10.0.0.1"),
        (TLS_CLIENT_IDENTITY, "workload"),
    ] {
        let message = refusal(&[(DELIVER, "tls"), (annotation, value)]);
        assert!(message.contains(annotation) && message.contains(value), "{message}");
    }
    let both = [(DELIVER, "tls"), (TLS_SPIFFE_ID, "spiffe://east.example/web"), (TLS_SERVER_NAME, "web.example")];
    assert!(refusal(&both).contains("both"));
}

#[test]
fn tls_annotations_without_a_port_that_uses_them_are_warned_of() {
    let state = exported(&[(DELIVER, "plain"), (TLS_SERVER_NAME, "*")]);
    assert!(!state.exports.is_empty());
    assert!(matches!(state.warnings[..], [Warning::WithoutTls { annotation: TLS_SERVER_NAME, .. }]));
}
