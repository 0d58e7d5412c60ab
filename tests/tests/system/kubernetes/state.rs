//! What gateways whose pods come and go keep in a Secret, when there are several of one cluster.

use std::path::PathBuf;

use federation_kube::{
    connect::{Access, Cluster, ConnectOptions},
    leader::Leading,
};
use federation_runtime::state;
use gateway::kubernetes::state::KeptState;
use tempfile::TempDir;
use tests::wait::until;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::server::Server;

const SYSTEM: &str = "landbridge-system";
const SECRET: &str = "landbridge-gateway-state";

/// The state of one gateway, in a directory of its own.
struct Pod {
    dir: TempDir,
    leading: watch::Sender<Leading>,
    again: CancellationToken,
    stop: CancellationToken,
    following: JoinSet<()>,
}

impl Pod {
    /// Starts with what the Secret holds, or else with `authority`.
    async fn start(cluster: &Cluster, authority: &[u8], leads: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut kept = KeptState::restore(cluster, SYSTEM, SECRET, &state).await.unwrap();
        if !state.exists() {
            state::create_private_dir(&state).unwrap();
            state::create_private_dir(&state.join("ca")).unwrap();
            state::write_private(&state.join("ca/tls.crt"), authority).unwrap();
        }
        kept.keep_first().await.unwrap();
        let (leading, follows) = watch::channel(Leading(leads));
        let (again, stop) = (CancellationToken::new(), CancellationToken::new());
        let mut following = JoinSet::new();
        following.spawn(kept.follow(follows, again.clone(), stop.clone()));
        Self { dir, leading, again, stop, following }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("state").join(name)
    }

    async fn ends(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.following.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test]
async fn the_gateway_that_leads_starts_again_when_another_one_was_told_to_join() {
    let (server, files) = (Server::double().await, tempfile::tempdir().unwrap());
    let file = files.path().join("kubeconfig");
    std::fs::write(&file, server.kubeconfig()).unwrap();
    let options = ConnectOptions { access: Access::File(file, None), user_agent: "test".to_owned() };
    let cluster = Cluster::connect(&options).await.unwrap();
    let leader = Pod::start(&cluster, b"authority", true).await;
    let other = Pod::start(&cluster, b"another authority", false).await;
    assert_eq!(state::read_private(&other.file("ca/tls.crt")).unwrap(), b"authority", "one cluster has one authority");

    state::write_private(&other.file("membership.pb"), b"member").unwrap();
    until("the membership is kept", async || {
        let secret = server.get("Secret", SYSTEM, SECRET).await?;
        secret["data"].get("membership.pb").map(|_| ())
    })
    .await;
    leader.leading.send_replace(Leading(true));
    until("the one that leads starts again", async || leader.again.is_cancelled().then_some(())).await;
    assert!(!other.again.is_cancelled(), "the one that joined goes on");
    leader.ends().await;
    other.ends().await;

    let anew = Pod::start(&cluster, b"another authority", true).await;
    assert_eq!(state::read_private(&anew.file("membership.pb")).unwrap(), b"member");
    anew.ends().await;
}
