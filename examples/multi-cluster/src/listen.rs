//! The accept loop that every server of the demo shares.
//!
//! Owns the limit on connections. Never reads a byte of them.

use std::{future::Future, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::say;

/// Connections at a time: far more than the demo makes, far fewer than the open files a process may have.
const MAX_CONNECTIONS: usize = 256;
/// How long accepting rests when the process has run out of something.
const REST: Duration = Duration::from_millis(50);

/// Serves every connection with `serve`, until the process ends.
pub(crate) async fn listen<F>(
    listen: SocketAddr,
    mut serve: impl FnMut(TcpStream, SocketAddr) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}: is another demo running? stop it, or use --port-base"))?;
    say(format_args!("listening on {listen}"));
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, peer)) => {
                let connection = serve(stream, peer);
                connections.spawn(async move {
                    if let Err(error) = connection.await {
                        say(format_args!("connection from {peer}: {error:#}"));
                    }
                });
            }
            Err(error) => {
                say(format_args!("accept: {error}"));
                tokio::time::sleep(REST).await;
            }
        }
    }
}
