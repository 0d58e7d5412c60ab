//! What will break is told before it does: in `/readyz`, by `fedctl check` and `fedctl status`, and in the metrics.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use federation_model::time::Timestamp;
use federation_pki::{Validity, ca::Authority};
use tests::{
    fleet::{Fleet, Settings},
    wait::until,
};

use crate::fedctl::{fedctl, gateway, words};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// A little more than nine hours and twelve minutes.
const LEFT: Duration = Duration::from_secs(33_150);

/// Writes an authority as cert-manager does; it is nine years old and ends after `left`.
fn write_authority(dir: &Path, cluster: &str, left: Duration) {
    let now = Timestamp::from(SystemTime::now());
    let validity = Validity { not_before: Timestamp(now.0 - 9 * YEAR.as_secs()), not_after: now.after(left) };
    let domain = format!("{cluster}.example").parse().unwrap();
    let authority = Authority::generate(&domain, cluster, validity).unwrap();
    fs::write(dir.join("tls.key"), authority.key_pem().expose()).unwrap();
    fs::set_permissions(dir.join("tls.key"), Permissions::from_mode(0o600)).unwrap();
    fs::write(dir.join("tls.crt"), authority.certificate_pem()).unwrap();
}

fn from_files(cluster: &str, dir: &Path) -> Settings {
    Settings { identity: format!("source = \"files\"\ndir = \"{}\"", dir.display()), ..Settings::of(cluster) }
}

async fn told(fleet: &Fleet, command: &str, cluster: &str) -> (String, bool) {
    let ended = fedctl(&words(&format!("{command} {}", gateway(fleet, cluster)))).await;
    // Cells of a table are broken between words.
    (words(&ended.stdout).join(" "), ended.code.contains("(0)"))
}

#[tokio::test]
async fn a_fault_of_the_identity_source_is_told_everywhere_and_breaks_nothing_yet() {
    let dir = tempfile::tempdir().unwrap();
    write_authority(dir.path(), "east", YEAR);
    let fleet = Fleet::with([from_files("east", dir.path())]).await;
    let east = &fleet["east"];
    let metric = async |name: &str| east.metrics().await.sum(&format!("landbridge_gateway_{name}"), &[]);
    assert_eq!(metric("identity_source_fault").await, 0.0);
    assert_eq!(metric("trust_breaks_at_timestamp_seconds").await, 0.0, "nothing is foreseen");

    fs::write(dir.path().join("tls.crt"), "half a certificate").unwrap();
    let body = until("the fault is told to whoever asks for readiness", async || {
        let (status, body) = east.get("/readyz").await?;
        assert_eq!(status, 200, "{body}");
        body.contains("identity.dir").then_some(body)
    })
    .await;
    assert!(body.contains("\"warning\""), "{body}");
    let (check, passed) = told(&fleet, "check", "east").await;
    assert!(check.contains("identity source") && check.contains("cert-manager") && passed, "{check}");
    let (status, _) = told(&fleet, "status", "east").await;
    assert!(status.contains("ready certificate: the certificate expires in"), "{status}");
    assert_eq!(metric("identity_source_fault").await, 1.0);
    assert!(metric("trust_breaks_at_timestamp_seconds").await > 0.0);
    assert!(metric("condition_endangered").await >= 1.0);

    write_authority(dir.path(), "east", YEAR);
    until("the fault is over", async || (metric("identity_source_fault").await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn an_authority_that_ends_soon_and_the_skew_of_a_clock_are_told_by_every_member() {
    let dir = tempfile::tempdir().unwrap();
    write_authority(dir.path(), "west", LEFT);
    let fleet = Fleet::with([Settings::of("east"), from_files("west", dir.path())]).await;
    let (check, passed) = told(&fleet, "check", "east").await;
    assert!(check.contains("authority of west") && check.contains("ends in 9h1") && passed, "{check}");
    assert!(check.contains("fedctl trust rotate west"), "{check}");
    let (check, _) = told(&fleet, "check", "west").await;
    assert!(check.contains("authority of west") && check.contains("where identity.dir is written"), "{check}");
    let (_, ready) = fleet["west"].get("/readyz").await.unwrap();
    assert!(ready.contains("the authority above the certificate ends in"), "{ready}");

    let metrics = fleet["east"].metrics().await;
    let ends = metrics.sum("landbridge_gateway_trust_breaks_at_timestamp_seconds", &[]);
    let west = ["trust_domain=\"west.example\""];
    assert_eq!(metrics.sum("landbridge_gateway_believed_authority_expiry_timestamp_seconds", &west), ends);
    let (_, text) = fleet["east"].get("/metrics").await.unwrap();
    assert!(text.contains("landbridge_gateway_tunnel_clock_skew_seconds{peer=\"west\"} "), "{text}");
}
