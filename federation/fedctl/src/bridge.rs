//! The other end of `--context`: bytes between a person's `fedctl` and a program beside this one.
//!
//! Owns the greeting, by which the person's side knows that the bytes after it are the program's, and the copying until one side
//! ends. The admin socket and the operator credential stay where they are. Never looks into what it carries.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

/// What is said before anything else.
pub const GREETING: &str = "landbridge bridge 1\n";

/// Copies both ways between a program and a person until one of them ends.
///
/// # Errors
/// When one of them fails.
pub async fn carry(
    program: impl AsyncRead + AsyncWrite,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    output.write_all(GREETING.as_bytes()).await?;
    output.flush().await?;
    let (mut from, mut to) = tokio::io::split(program);
    tokio::select! {
        biased;
        copied = tokio::io::copy(&mut input, &mut to) => copied.map(drop),
        copied = tokio::io::copy(&mut from, &mut output) => copied.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_after_the_greeting_until_the_program_ends() {
        let (mut program, here) = tokio::io::duplex(64);
        let (person, there) = tokio::io::duplex(64);
        let (input, output) = tokio::io::split(there);
        let (mut said, mut to) = tokio::io::split(person);
        let told = async {
            to.write_all(b"ping").await.unwrap();
            let mut heard = [0; 4];
            program.read_exact(&mut heard).await.unwrap();
            program.write_all(b"pong").await.unwrap();
            drop(program);
            heard
        };
        let (carried, heard) = tokio::join!(carry(here, input, output), told);
        carried.unwrap();
        let mut all = String::new();
        said.read_to_string(&mut all).await.unwrap();
        assert_eq!((&heard, all.as_str()), (b"ping", "landbridge bridge 1\npong"));
    }
}
