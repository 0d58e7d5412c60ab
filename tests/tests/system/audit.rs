//! The audit log: what is in it, and what its verification finds, as a person sees it.

use std::path::Path;

use federation_pki::token::{JoinToken, TokenSecret};
use serde_json::Value;
use tests::fleet::{Fleet, Settings};

use crate::fedctl::{Ended, fedctl, federation, gateway, words};

async fn verify(file: &Path, options: &str) -> Ended {
    fedctl(&words(&format!("audit verify {} {options}", file.display()))).await
}

/// What is wrong with a file that holds these lines.
async fn fault(dir: &Path, lines: &[&str], options: &str) -> String {
    let file = dir.join("forged");
    std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let ended = verify(&file, options).await;
    assert!(ended.code.contains("(1)"), "{ended:?}");
    ended.stdout
}

#[tokio::test]
async fn the_log_tells_who_did_what_and_survives_a_crash_of_the_service() {
    let mut fleet = Fleet::of(&["east"]).await;
    fleet.add(Settings::of("west")).await;
    let token = fleet.federation().token("west").await;
    let mut guessed: JoinToken = token.parse().unwrap();
    guessed.secret = TokenSecret::random();
    for _ in 0..3 {
        fleet["west"].join(&guessed.to_string()).await.unwrap_err();
    }
    fleet["west"].join(&token).await.unwrap();
    fedctl(&words(&format!("leave --yes {}", gateway(&fleet, "west")))).await.done();
    fleet.kill_federation().await;
    fleet.start_federation().await;
    fedctl(&words(&format!("members remove east --yes {}", federation(&fleet)))).await.done();

    let listed = fedctl(&words(&format!("audit list -o json {}", federation(&fleet)))).await.done();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    let told: Vec<_> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| format!("{} {} {}", word(entry, "actor"), word(entry, "action"), word(entry, "subject")))
        .collect();
    let refused = told.iter().position(|line| line.contains("join-refused")).unwrap();
    assert!(told[refused].starts_with("stranger:127.") && told[refused].ends_with(" west"), "{told:?}");
    let mut others = told.clone();
    others.remove(refused);
    assert_eq!(
        others,
        [
            "service set-up federation",
            "operator:admin token-created east",
            "member:east join east",
            "operator:admin token-created west",
            "member:west join west",
            "member:west member-left west",
            "operator:admin member-removed east",
        ]
    );
    let some = fedctl(&words(&format!("audit list --action join --subject east {}", federation(&fleet)))).await.done();
    assert!(some.lines().count() == 2 && some.contains(&fleet["east"].authority().fingerprint().to_string()), "{some}");
    let later = fedctl(&words(&format!("audit list --since 2 --limit 1 {}", federation(&fleet)))).await.done();
    assert!(later.lines().count() == 2 && later.contains("token-created"), "{later}");
}

#[tokio::test]
async fn an_exported_log_is_verified_without_the_service_and_every_forgery_is_named() {
    let mut fleet = Fleet::of(&["east"]).await;
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let operator = format!("--operator {}", fleet.federation().store().join("operator").display());
    let exported = fedctl(&words(&format!("audit export {} {}", first.display(), federation(&fleet)))).await.done();
    assert!(exported.contains("3 entries, from ") && exported.contains(", whole"), "{exported}");
    let over = fedctl(&words(&format!("audit export {} {}", first.display(), federation(&fleet)))).await;
    assert!(over.code.contains("(2)"), "an export is never overwritten: {over:?}");
    fleet.federation().token("west").await;
    let streamed = fedctl(&words(&format!("audit export - {}", federation(&fleet)))).await.done();
    std::fs::write(&second, &streamed).unwrap();
    fleet.stop_federation().await;

    let known = verify(&second, &operator).await;
    assert!(
        known.code.contains("(0)") && known.stdout.contains("4 entries, from ") && known.stderr.is_empty(),
        "{known:?}"
    );
    let unknown = verify(&second, "").await;
    assert!(unknown.code.contains("(0)") && unknown.stderr.contains("was not compared"), "{unknown:?}");
    verify(&second, &format!("{operator} --continues {}", first.display())).await.done();
    let other = verify(&second, &format!("--authority SHA256:{}", "0".repeat(64))).await;
    assert!(other.code.contains("(1)") && other.stdout.contains("the seal is by another authority"), "{other:?}");

    let lines: Vec<&str> = streamed.lines().collect();
    let changed = lines[3].replace("member:east", "member:west");
    let forged = [lines[0], lines[1], lines[2], changed.as_str(), lines[4], lines[5]];
    assert!(fault(dir.path(), &forged, &operator).await.contains("entry 3 was changed"));
    let removed = [lines[0], lines[1], lines[4], lines[5]];
    assert!(fault(dir.path(), &removed, &operator).await.contains("entries 2 to 3 are missing"));
    assert!(fault(dir.path(), &lines[..4], &operator).await.contains("the file ends before its seal, after entry 3"));
    let cut = [lines[0], lines[1], lines[2], lines[3], lines[5]];
    assert!(fault(dir.path(), &cut, &operator).await.contains("entry 4 is missing"));
    let earlier = std::fs::read_to_string(&first).unwrap();
    let shortened = verify(&first, &format!("{operator} --continues {}", second.display())).await;
    assert!(shortened.stdout.contains("it was shortened"), "{shortened:?}");
    let old_seal = earlier.lines().last().unwrap();
    let stale = [lines[0], lines[1], lines[2], lines[3], lines[4], old_seal];
    assert!(fault(dir.path(), &stale, &operator).await.contains("entry 4 is not covered by the seal"));
}
