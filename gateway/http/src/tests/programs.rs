//! Clients over TCP: programs that others wrote, and what only a socket shows. Where a program is missing, that is said past the capture of the test runner.

use std::{io::Write as _, process::Output, sync::Arc};

use federation_model::outcome::Outcome;
use http::StatusCode;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
};

use super::stage::{Set, rest, soon, until};
use crate::{Refused, serve};

/// Serves `set` to whoever connects; the address.
async fn listen(set: &Set, tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let set = set.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (io, _) = listener.accept().await.unwrap();
            connections.spawn(serve(io, set.delivery(), std::future::pending(), std::future::pending()));
        }
    });
    address
}

/// Runs a program; nothing, said loudly, when there is none of this name.
async fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match soon(Command::new(program).args(arguments).kill_on_drop(true).output()).await {
        Ok(output) => Some(output),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: HTTP with {program}: {error}");
            None
        }
    }
}

#[tokio::test]
async fn curl_is_served_in_both_versions() {
    for (two, version) in [(false, "--http1.1"), (true, "--http2-prior-knowledge")] {
        let set = Set::echo(two);
        let mut tasks = JoinSet::new();
        let url = format!("http://{}/a?b", listen(&set, &mut tasks).await);
        let upload = "x".repeat(3_000_000);
        let file = std::env::temp_dir().join(format!("gateway-http-curl-{}-{two}", std::process::id()));
        std::fs::write(&file, &upload).unwrap();
        let data = format!("@{}", file.display());
        let ask =
            ["-sS", "-i", version, "-H", "Client-Cert: evil", "-H", "X_Landbridge_Assurance: evil", "--data-binary"];
        let output = run("curl", &[&ask[..], &[&data, &url]].concat()).await;
        std::fs::remove_file(&file).unwrap();
        let Some(output) = output else { return };
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{version}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(answer.contains(if two { "HTTP/2 200" } else { "HTTP/1.1 200 OK" }), "{version}: {}", &answer[..1000]);
        assert!(answer.contains("\nx-landbridge-assurance: attested\n"), "{version}: {}", &answer[..1000]);
        assert!(!answer.contains("evil") && answer.ends_with(&upload), "{version}");
        until("it is recorded", || !set.recorded().is_empty()).await;
        assert_eq!(set.records()[0].sent, 3_000_000, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h2load_gets_every_answer_in_both_versions() {
    for (two, version) in [(false, "--h1"), (true, "--no-tls-proto=h2c")] {
        let set = Set::echo(two);
        let mut tasks = JoinSet::new();
        let url = format!("http://{}/load", listen(&set, &mut tasks).await);
        let Some(output) = run("h2load", &[version, "-n2000", "-c4", "-m32", &url]).await else { return };
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(report.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{version}: {report}");
        until("all are recorded", || set.recorded().len() >= 2000).await;
        let completed = set.recorded().iter().filter(|(.., outcome)| *outcome == Outcome::Completed).count();
        assert_eq!((completed, set.dialled()), (2000, 4), "{version}: one connection to the endpoint for each client");
    }
}

#[tokio::test]
async fn a_client_whose_upload_is_refused_reads_why() {
    let mut set = Set::echo(false);
    set.verdict = Arc::new(|_, _, _| {
        Err(Refused {
            outcome: Outcome::Denied,
            status: StatusCode::FORBIDDEN,
            reason: "no uploads".into(),
            rule: None,
            remedy: None,
        })
    });
    let mut tasks = JoinSet::new();
    let mut client = TcpStream::connect(listen(&set, &mut tasks).await).await.unwrap();
    let upload = [&b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n"[..], &[b'x'; 4_000_000]].concat();
    soon(client.write_all(&upload)).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n") && answer.ends_with("no uploads\n"), "{answer}");
}
