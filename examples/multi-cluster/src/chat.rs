//! The server of long sessions: it speaks first, and numbers the lines it is sent.
//!
//! Owns one counter for each session, which shows that a session is one connection from beginning to end. It knows whom it
//! greets from the PROXY header in front of the connection: plain TCP has no other place for that.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{Workload, arrival::arrive, listen::listen, say};

/// The longest line.
const MAX_LINE: u64 = 4096;

/// Serves sessions.
pub(crate) async fn serve(workload: Workload) -> anyhow::Result<()> {
    listen(workload.listen, |stream, peer| session(stream, peer, workload.clone())).await
}

async fn session(stream: TcpStream, peer: SocketAddr, workload: Workload) -> anyhow::Result<()> {
    let Workload { cluster, pod, .. } = workload;
    let arrival = arrive(stream, peer).await?;
    let caller = arrival.caller["principal"].as_str().unwrap_or("somebody").to_owned();
    let (read, mut write) = tokio::io::split(arrival.io);
    let mut read = BufReader::new(read);
    write.write_all(format!("{pod} in {cluster} greets {caller}\n").as_bytes()).await?;
    say(format_args!("session with {caller} at {peer} begins"));
    let mut number = 0_u64;
    loop {
        let mut line = String::new();
        let length = (&mut read).take(MAX_LINE).read_line(&mut line).await.context("reading")?;
        if length == 0 {
            break;
        }
        number += 1;
        write.write_all(format!("{pod} {number}: {}\n", line.trim_end()).as_bytes()).await.context("writing")?;
    }
    write.write_all(format!("{pod} says goodbye after {number} lines\n").as_bytes()).await?;
    say(format_args!("session with {caller} ends after {number} lines"));
    Ok(())
}
