//! What the admin port of a program answers.
//!
//! Owns a client of one request at a time, and the reading of metrics. Never keeps a connection.

use std::{collections::BTreeMap, io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Asks for a path: the status and the body.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    request(address, "GET", path).await
}

/// Makes a request without a body: the status and the body of the answer.
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub async fn request(address: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

/// Metrics by name and labels, as in the exposition.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads an exposition.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(sample).collect())
    }

    /// The sum of the metric over every set of labels that has all of these, each written `name="value"`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let matching = self.0.iter().filter(|(key, _)| {
            let (metric, rest) = key.split_once('{').unwrap_or((key, ""));
            metric == name && labels.iter().all(|label| rest.trim_end_matches('}').split(',').any(|l| l == *label))
        });
        matching.map(|(_, value)| value).sum()
    }

    /// How many connections ended in this way.
    #[must_use]
    pub fn ended(&self, direction: &str, outcome: &str) -> f64 {
        let labels = [format!("direction=\"{direction}\""), format!("outcome=\"{outcome}\"")];
        self.sum("landbridge_gateway_connections_total", &labels.each_ref().map(String::as_str))
    }

    /// How many connections ended at all.
    #[must_use]
    pub fn all_ended(&self) -> f64 {
        self.sum("landbridge_gateway_connections_total", &[])
    }

    /// How many connections live.
    #[must_use]
    pub fn open(&self) -> f64 {
        self.sum("landbridge_gateway_connections_open", &[])
    }
}
