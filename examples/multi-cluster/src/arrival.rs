//! What a server is told of its caller before the first byte of the application.
//!
//! Owns the optional PROXY protocol v2 header (`landbridge.dev/deliver: proxy-v2`): it is recognised by its signature, so the
//! same server also takes connections without one. A server that trusts the header must be reachable by its gateway alone.

use std::{io::Cursor, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use bytes::{Buf, BytesMut};
use proxy_header::{Error, ParseConfig, ProxyHeader, Tlv};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, Chain, Join},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// The first bytes of every header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The largest header accepted: a SPIFFE ID of 2048 bytes, a name of 253, and room.
const MAX_HEADER: usize = 4096;
/// How long a caller may take for its first bytes.
const TIMEOUT: Duration = Duration::from_secs(10);
/// TLVs of Landbridge.
const PRINCIPAL: u8 = 0xE0;
const SOURCE_CLUSTER: u8 = 0xE1;
const ASSURANCE: u8 = 0xE2;

/// A connection, and what is known of its caller.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The application's bytes.
    pub(crate) io: Io,
    /// The caller as JSON.
    pub(crate) caller: Value,
}

/// The connection, with the bytes read while looking for the header put back in front.
pub(crate) type Io = Join<Chain<Cursor<BytesMut>, OwnedReadHalf>, OwnedWriteHalf>;

/// Reads the header, when there is one.
pub(crate) async fn arrive(mut stream: TcpStream, peer: SocketAddr) -> anyhow::Result<Arrival> {
    let mut bytes = BytesMut::with_capacity(MAX_HEADER);
    let reading = read_header(&mut stream, &mut bytes);
    let header = tokio::time::timeout(TIMEOUT, reading).await.context("the caller said nothing")??;
    let mut caller = header.unwrap_or_else(|| json!({}));
    caller["peer"] = peer.to_string().into();
    let (read, write) = stream.into_split();
    let read = AsyncReadExt::chain(Cursor::new(bytes), read);
    Ok(Arrival { io: tokio::io::join(read, write), caller })
}

async fn read_header(stream: &mut TcpStream, bytes: &mut BytesMut) -> anyhow::Result<Option<Value>> {
    let config = ParseConfig { include_tlvs: true, allow_v1: false, allow_v2: true };
    loop {
        let seen = bytes.len().min(SIGNATURE.len());
        if bytes[..seen] != SIGNATURE[..seen] {
            return Ok(None);
        }
        if seen == SIGNATURE.len() {
            match ProxyHeader::parse(bytes, config) {
                Ok((header, length)) => {
                    let caller = describe(&header);
                    bytes.advance(length);
                    return Ok(Some(caller));
                }
                Err(Error::BufferTooShort) if bytes.len() < MAX_HEADER => {}
                Err(error) => bail!("bad PROXY header: {error}"),
            }
        }
        if stream.read_buf(bytes).await? == 0 {
            return Ok(None);
        }
    }
}

fn describe(header: &ProxyHeader<'_>) -> Value {
    let mut caller = json!({
        "client": header.proxied_address().map(|address| address.source.to_string()),
        "authority": header.authority(),
        "traceparent": header.unique_id().map(String::from_utf8_lossy),
    });
    for tlv in header.tlvs().filter_map(Result::ok) {
        let Tlv::Custom(kind, value) = tlv else { continue };
        let name = match kind {
            PRINCIPAL => "principal",
            SOURCE_CLUSTER => "source_cluster",
            ASSURANCE => "assurance",
            _ => continue,
        };
        caller[name] = String::from_utf8_lossy(&value).into();
    }
    caller
}

#[cfg(test)]
mod tests {
    use super::*;
    use proxy_header::ProxiedAddress;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    async fn arrived(sent: &[&[u8]]) -> anyhow::Result<(Value, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let sending = async {
            for part in sent {
                client.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
        };
        let receiving = async {
            let mut arrival = arrive(stream, peer).await?;
            let mut rest = Vec::new();
            arrival.io.read_to_end(&mut rest).await?;
            anyhow::Ok((arrival.caller, rest))
        };
        tokio::join!(sending, receiving).1
    }

    fn header() -> Vec<u8> {
        let addresses = ProxiedAddress::stream("10.0.0.5:1".parse().unwrap(), "10.0.0.6:2".parse().unwrap());
        let mut header = ProxyHeader::with_address(addresses);
        header.append_tlv(Tlv::Custom(PRINCIPAL, b"spiffe://east.example/a".as_slice().into()));
        header.append_tlv(Tlv::Custom(SOURCE_CLUSTER, b"east".as_slice().into()));
        header.append_tlv(Tlv::Custom(ASSURANCE, b"attested".as_slice().into()));
        let mut bytes = Vec::new();
        header.encode_v2(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_header_is_read_and_taken_off_the_stream() {
        let header = header();
        for cut in [0, 5, 12, 16, header.len() - 1] {
            let (caller, rest) = arrived(&[&header[..cut], &header[cut..], b"GET /"]).await.unwrap();
            assert_eq!(caller["principal"], "spiffe://east.example/a");
            assert_eq!(caller["source_cluster"], "east");
            assert_eq!(caller["assurance"], "attested");
            assert_eq!(caller["client"], "10.0.0.5:1");
            assert_eq!(rest, b"GET /");
        }
    }

    #[tokio::test]
    async fn a_stream_without_a_header_is_left_as_it_is() {
        for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), b"\r\n\r\nGET", b"\r", b""] {
            let (caller, rest) = arrived(&[bytes]).await.unwrap();
            assert_eq!(caller["principal"], Value::Null);
            assert_eq!(rest, bytes);
        }
    }

    #[tokio::test]
    async fn a_broken_header_ends_the_connection() {
        let mut broken = header();
        broken[12] = 0x71;
        assert!(arrived(&[&broken]).await.is_err());
    }
}
