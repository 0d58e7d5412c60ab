//! An application that calls a service.
//!
//! Owns the small conversations of the tests. Never waits longer than a fact may take.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use crate::wait::PATIENCE;

/// A future that must be done within [`PATIENCE`].
///
/// # Panics
/// When it is not; the message is `what`.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// A future that must not be done within `time`: what is shown is that nothing happens.
///
/// # Panics
/// When it is done.
pub async fn not_within<T>(time: Duration, what: &str, future: impl Future<Output = T>) {
    assert!(timeout(time, future).await.is_err(), "{what}");
}

/// The bytes up to a line's end, without it.
///
/// # Errors
/// When the connection ends before.
pub async fn line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    soon("a line", async {
        loop {
            match stream.read_u8().await? {
                b'\n' => break Ok(String::from_utf8_lossy(&line).into_owned()),
                byte => line.push(byte),
            }
        }
    })
    .await
}

/// Everything up to the end.
///
/// # Errors
/// When the connection is reset.
pub async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon("the end of the connection", stream.read_to_end(&mut bytes)).await?;
    Ok(bytes)
}

/// Says a line and gives back the answer.
///
/// # Errors
/// When the connection ends before.
pub async fn say(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), text: &str) -> io::Result<String> {
    stream.write_all(format!("{text}\n").as_bytes()).await?;
    line(stream).await
}

/// Says goodbye: ends this direction and gives back what the server still says.
///
/// # Errors
/// When the connection is reset.
pub async fn part(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    stream.shutdown().await?;
    Ok(String::from_utf8_lossy(&rest(stream).await?).into_owned())
}

/// Bytes that repeat nowhere, so that a lost, doubled or displaced piece shows.
#[must_use]
pub fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 16).to_le_bytes()[..6]);
    }
    bytes.truncate(length);
    bytes
}
