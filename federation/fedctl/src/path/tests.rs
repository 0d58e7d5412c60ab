use federation_model::finding::Level;
use tokio::net::UdpSocket;

use super::*;

fn path(peer: &str, address: Option<&str>, reach: Reach) -> Path {
    Path { peer: peer.parse().unwrap(), address: address.map(|address| address.parse().unwrap()), reach }
}

async fn probed(peer: &str) -> Path {
    probe(&[peer.parse().unwrap()]).await.remove(0)
}

#[test]
fn every_finding_says_from_where_and_what_to_do() {
    let reaches = [
        Reach::Unresolved { reason: "no such host".to_owned() },
        Reach::Blocked { reason: "Network is unreachable (os error 101)".to_owned() },
        Reach::Silent,
        Reach::Refused,
        Reach::TooSmall,
        Reach::Foreign,
        Reach::Reachable { rtt_micros: 12_350, payload: 1200 },
        Reach::Reachable { rtt_micros: 12_350, payload: 1352 },
        Reach::Reachable { rtt_micros: 12_350, payload: 1452 },
    ];
    let mut told = String::new();
    for reach in reaches {
        let address = (!matches!(reach, Reach::Unresolved { .. })).then_some("192.0.2.1:15443");
        let finding =
            path("east.example:15443", address, reach).finding(&Origin::Pod("landbridge-gateway-0".to_owned()));
        assert!(finding.detail.starts_with("from the pod landbridge-gateway-0: "), "{finding:?}");
        assert_eq!(finding.hint.is_empty(), finding.level == Level::Ok, "{finding:?}");
        told.push_str(&format!("{:?}: {}\n  try: {}\n", finding.level, finding.detail, finding.hint));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_size_is_judged_by_the_headers_of_its_family() {
    let judged = |peer: &str, payload| {
        path(peer, Some(peer), Reach::Reachable { rtt_micros: 1, payload }).finding(&Origin::Here)
    };
    assert_eq!(judged("192.0.2.1:1", 1200).level, Level::Warning);
    assert_eq!(judged("192.0.2.1:1", 1252).level, Level::Ok);
    assert_eq!(judged("[2001:db8::1]:1", 1200).level, Level::Warning);
    assert_eq!(judged("[2001:db8::1]:1", 1232).level, Level::Ok);
    for peer in ["192.0.2.1:1", "[2001:db8::1]:1"] {
        let finding = judged(peer, 1200);
        assert!(finding.hint.contains("at least 1280"), "{finding:?}");
    }
}

#[test]
fn a_path_survives_the_way_out_of_a_pod() {
    for reach in [Reach::Silent, Reach::Refused, Reach::Reachable { rtt_micros: 1, payload: 1252 }] {
        let path = path("east.example:15443", Some("[2001:db8::1]:15443"), reach);
        let text = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<Path>(&text).unwrap(), path, "{text}");
    }
    let text = serde_json::to_value(path("a.example:1", None, Reach::Silent)).unwrap();
    assert_eq!(text, serde_json::json!({"peer": "a.example:1", "reach": "silent"}));
}

#[tokio::test]
async fn a_port_on_which_nothing_listens_is_refused() {
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let path = probed(&free.to_string()).await;
    assert_eq!((path.reach, path.address), (Reach::Refused, Some(free)));
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_datagrams_and_says_nothing_is_silent() {
    let mute = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let before = tokio::time::Instant::now();
    let path = probed(&mute.local_addr().unwrap().to_string()).await;
    assert_eq!(path.reach, Reach::Silent);
    assert!(before.elapsed() < Duration::from_secs(4), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_that_says_something_else_is_no_gateway() {
    let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = echo.local_addr().unwrap().to_string();
    let answering = async {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = echo.recv_from(&mut buffer).await.unwrap();
            echo.send_to(&buffer[..length], from).await.unwrap();
        }
    };
    let path = tokio::select! {
        path = probed(&address) => path,
        () = answering => unreachable!("it answers for ever"),
    };
    assert_eq!(path.reach, Reach::Foreign);
}

#[tokio::test]
async fn a_name_without_an_address_is_unresolved_and_the_others_are_still_tried() {
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let peers = ["nobody.invalid:15443".to_owned(), free.to_string()].map(|peer| peer.parse().unwrap());
    let paths = probe(&peers).await;
    assert_eq!(paths.iter().map(|path| path.peer.clone()).collect::<Vec<_>>(), peers);
    assert!(matches!(paths[0].reach, Reach::Unresolved { .. }), "{paths:?}");
    assert_eq!(paths[1].reach, Reach::Refused);
}

#[test]
fn a_size_that_is_never_sent_is_not_read() {
    let read = |payload: i64| {
        let text = format!(
            r#"{{"peer": "a.example:1", "address": "192.0.2.1:1", "reach": "reachable", "rtt_micros": {}, "payload": {payload}}}"#,
            u64::MAX
        );
        serde_json::from_str::<Path>(&text)
    };
    for payload in OVER_V4.into_iter().chain(OVER_V6) {
        let finding = read(payload.into()).unwrap().finding(&Origin::Here);
        assert_ne!(finding.level, Level::Failed, "{finding:?}");
    }
    for payload in [-1, 0, 1, 1199, 1453, 65_535, 65_536] {
        assert!(read(payload).is_err(), "{payload}");
    }
}

#[test]
fn a_reason_that_is_read_is_short_and_has_no_control_characters() {
    for reach in ["unresolved", "blocked"] {
        let said = format!(r"a\u001b[2J\u009bb\r\n{}", "é".repeat(1000));
        let text = format!(r#"{{"peer": "a.example:1", "reach": "{reach}", "reason": "{said}"}}"#);
        let (Reach::Unresolved { reason } | Reach::Blocked { reason }) =
            serde_json::from_str::<Path>(&text).unwrap().reach
        else {
            panic!("{reach} has a reason");
        };
        assert!(reason.starts_with("a [2J b  é") && !reason.contains(char::is_control), "{reason:?}");
        assert_eq!(reason.chars().count(), MAX_REASON);
    }
}

#[test]
fn a_reason_from_a_pod_moves_no_cursor() {
    for reach in
        [Reach::Unresolved { reason: "a\u{1b}[2Jb\r".to_owned() }, Reach::Blocked { reason: "a\u{1b}b".to_owned() }]
    {
        let finding = path("east.example:1", None, reach).finding(&Origin::Here);
        assert!(!finding.detail.contains(char::is_control), "{finding:?}");
    }
}
