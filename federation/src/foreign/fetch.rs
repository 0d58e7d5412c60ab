//! One request to a bundle endpoint.
//!
//! Owns the connection and its limits in time and size. Follows no redirect, for the URL is part of what an operator stated;
//! sends no credential. Never looks into the document.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use federation_model::{
    addr::{GatewayAddr, Host},
    foreign::BundleUrl,
};
use federation_pki::{
    bundle::MAX_DOCUMENT,
    verify::{VerifyError, broken_rule},
};
use http::{
    Request, Response,
    header::{ACCEPT, HOST, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::SOFTWARE;

/// From the name to the last byte. Below the time an operator's call may take, which waits for it.
const TOTAL_LIMIT: Duration = Duration::from_secs(10);
/// One socket; the next address of the name is tried after it.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried.
const MAX_RESOLVED: usize = 4;
/// What may stand before the document: status line and headers.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// Nobody is there.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable { address: GatewayAddr, reason: String },
    /// It takes too long.
    #[error("{0} did not answer within {TOTAL_LIMIT:?}")]
    TimedOut(GatewayAddr),
    /// It is not the endpoint that was stated.
    #[error("{address} is not believed: {reason}")]
    NotBelieved { address: GatewayAddr, reason: String },
    /// It does not speak HTTP as it should.
    #[error("{address} broke the exchange off: {reason}")]
    Broken { address: GatewayAddr, reason: String },
    /// It sends elsewhere.
    #[error("it answered {0}, and redirects are not followed: add the trust domain again with the URL it has moved to")]
    Redirect(u16),
    /// It does not have it.
    #[error("it answered {0} rather than 200: compare the path of the URL with what its publisher says")]
    Status(u16),
    /// More than any bundle has.
    #[error("the document has more than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// Bytes that are no text.
    #[error("the document is not UTF-8 text")]
    NotText,
}

/// Asks `url` for its document, over a connection that `tls` believes.
pub(super) async fn fetch(url: &BundleUrl, tls: Arc<ClientConfig>) -> Result<String, FetchError> {
    let exchange = async {
        let stream = connected(url.address(), tls).await?;
        let bytes = exchanged(url, stream).await?;
        String::from_utf8(bytes.into()).map_err(|_| FetchError::NotText)
    };
    timeout(TOTAL_LIMIT, exchange).await.unwrap_or_else(|_| Err(FetchError::TimedOut(url.address().clone())))
}

async fn connected(address: &GatewayAddr, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, FetchError> {
    let unreachable = |reason: String| FetchError::Unreachable { address: address.clone(), reason };
    let name = match address.host() {
        Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
        Host::Dns(name) => ServerName::try_from(name.clone()).map_err(|error| unreachable(error.to_string()))?,
    };
    let socket = open(address).await.map_err(unreachable)?;
    TlsConnector::from(tls).connect(name, socket).await.map_err(|error| refused(address, &error))
}

async fn open(address: &GatewayAddr) -> Result<TcpStream, String> {
    let port = address.port().number();
    let resolved: Vec<SocketAddr> = match address.host() {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Dns(name) => {
            let found = lookup_host((name.as_str(), port)).await;
            found.map_err(|error| format!("the name cannot be resolved ({error})"))?.take(MAX_RESOLVED).collect()
        }
    };
    let mut reason = "the name has no address".to_owned();
    for socket in resolved {
        match timeout(CONNECT_LIMIT, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("no answer within {CONNECT_LIMIT:?}"),
        }
    }
    Err(reason)
}

/// Says which rule the endpoint broke, if that is why the handshake failed.
fn refused(address: &GatewayAddr, error: &io::Error) -> FetchError {
    let address = address.clone();
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return FetchError::Unreachable { address, reason: format!("no TLS handshake ({error})") };
    };
    let rustls::Error::InvalidCertificate(certificate) = tls else {
        return FetchError::Unreachable { address, reason: format!("no TLS handshake ({tls})") };
    };
    let reason = match broken_rule(tls) {
        Some(VerifyError::UnknownTrustDomain(id)) => {
            format!("it presents {id}, which is not the id it was stated to have")
        }
        Some(rule) => rule.to_string(),
        None => certificate.to_string(),
    };
    FetchError::NotBelieved { address, reason }
}

async fn exchanged(url: &BundleUrl, stream: TlsStream<TcpStream>) -> Result<Bytes, FetchError> {
    let broken = |error: hyper::Error| FetchError::Broken { address: url.address().clone(), reason: error.to_string() };
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let (mut answer, mut connection) = (std::pin::pin!(answered(url, sender)), std::pin::pin!(connection));
    // The connection moves the bytes. It may end before all of them are looked at: then the answer has what it needs.
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        _ = &mut connection => {}
    }
    answer.await
}

async fn answered(url: &BundleUrl, mut sender: SendRequest<Empty<Bytes>>) -> Result<Bytes, FetchError> {
    let broken = |reason: String| FetchError::Broken { address: url.address().clone(), reason };
    let request = Request::get(url.path())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, SOFTWARE)
        .body(Empty::new())
        .map_err(|error| broken(error.to_string()))?;
    let response: Response<Incoming> = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
    match response.status().as_u16() {
        200 => {}
        redirect @ 300..=399 => return Err(FetchError::Redirect(redirect)),
        status => return Err(FetchError::Status(status)),
    }
    match Limited::new(response.into_body(), MAX_DOCUMENT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
        Err(error) => Err(broken(error.to_string())),
    }
}
