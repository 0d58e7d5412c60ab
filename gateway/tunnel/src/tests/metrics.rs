//! What is measured of tunnels.

use super::*;

#[tokio::test]
async fn metrics_show_tunnels_and_streams() {
    let mut set = Set::of(&["east", "west"]);
    let mut registry = prometheus_client::registry::Registry::default();
    set.get("east").tunnels().register(&mut registry);
    let exposition = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    assert!(!exposition().contains("tunnel_clock_skew_seconds{"), "nothing is measured of a peer without a tunnel");
    set.connected("east", "west").await;
    let _halves = set.stream("east", "west", "x").await;
    let text = exposition();
    for line in [
        "tunnel_up{peer=\"west\"} 1",
        "tunnel_clock_skew_seconds{peer=\"west\"} ",
        "tunnel_streams_open{peer=\"west\"} 1",
        "tunnel_streams_total{peer=\"west\",direction=\"outbound\"} 1",
        "tunnel_handshakes_total{side=\"dial\",result=\"done\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
