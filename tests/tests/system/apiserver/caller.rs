//! A client of the API server that does nothing by itself.
//!
//! Owns one connection in one version of HTTP. Never retries.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tests::{apiserver::ApiServer, client::soon};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// One connection.
pub(super) struct Caller {
    sender: Sender,
    authority: String,
    token: Option<String>,
    media: String,
    _driver: JoinSet<()>,
}

/// An answer, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Where an API server is, and whom its certificate is to be from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) address: SocketAddr,
    pub(super) ca_pem: &'a str,
}

async fn connect(place: Place<'_>, http: Http) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(place.ca_pem.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(federation_pki::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http == Http::One { b"http/1.1".to_vec() } else { b"h2".to_vec() }];
    let stream = TcpStream::connect(place.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(place.address.ip()), stream).await
}

impl Caller {
    pub(super) async fn new(server: &ApiServer, http: Http, token: Option<&str>) -> Self {
        let place = Place { address: server.address(), ca_pem: server.ca_pem() };
        Self::at(place, http, token).await.expect("the API server of the tests takes connections")
    }

    pub(super) async fn at(place: Place<'_>, http: Http, token: Option<&str>) -> io::Result<Self> {
        let stream = TokioIo::new(connect(place, http).await?);
        let mut driver = JoinSet::new();
        // A connection that ends is seen by the request that wants it.
        let sender = match http {
            Http::One => {
                let (sender, connection) = http1::handshake(stream).await.unwrap();
                driver.spawn(async move { drop(connection.await) });
                Sender::One(sender)
            }
            Http::Two => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                driver.spawn(async move { drop(connection.await) });
                Sender::Two(sender)
            }
        };
        let token = token.map(str::to_owned);
        let (authority, media) = (place.address.to_string(), "application/json".to_owned());
        Ok(Self { sender, authority, token, media, _driver: driver })
    }

    /// Says from now on that bodies are of this type.
    pub(super) fn media(&mut self, media: &str) {
        media.clone_into(&mut self.media);
    }

    async fn send(
        &mut self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> hyper::Result<http::Response<Incoming>> {
        let uri = match self.sender {
            Sender::One(_) => target.to_owned(),
            Sender::Two(_) => format!("https://{}{target}", self.authority),
        };
        let mut request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, &self.media);
        if matches!(self.sender, Sender::One(_)) {
            request = request.header(header::HOST, &self.authority);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::from(body.map(Value::to_string).unwrap_or_default())).unwrap();
        match &mut self.sender {
            Sender::One(sender) => sender.send_request(request).await,
            Sender::Two(sender) => sender.send_request(request).await,
        }
    }

    /// An answer, or nothing when the connection ends before.
    pub(super) async fn try_ask(&mut self, method: Method, target: &str, body: Option<&Value>) -> Option<Answer> {
        let response = self.send(method, target, body).await.ok()?;
        let code = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.ok()?.to_bytes();
        Some(Answer { code, retry_after, body: String::from_utf8(body.to_vec()).unwrap() })
    }

    pub(super) async fn ask(&mut self, method: Method, target: &str, body: Option<&Value>) -> Answer {
        let asking = self.try_ask(method, target, body);
        soon("an answer of the API server", asking).await.expect("the connection lasts until the answer is there")
    }

    /// Whether an answer is still not there after some time, in which others were long answered.
    pub(super) async fn is_left_hanging(&mut self, method: Method, target: &str) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.try_ask(method, target, None)).await.is_err()
    }

    pub(super) async fn watch(&mut self, target: &str) -> Watch {
        let response = soon("the head of a watch", self.send(Method::GET, target, None)).await.unwrap();
        assert_eq!(response.status(), 200);
        Watch { body: response.into_body(), read: String::new() }
    }
}

/// A watch that is open.
pub(super) struct Watch {
    body: Incoming,
    read: String,
}

impl Watch {
    async fn line(&mut self) -> Option<Value> {
        while !self.read.contains('\n') {
            let frame = soon("a line of a watch", self.body.frame()).await?.ok()?;
            self.read.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
        }
        let (line, rest) = self.read.split_once('\n')?;
        let (line, rest) = (serde_json::from_str(line).unwrap(), rest.to_owned());
        self.read = rest;
        Some(line)
    }

    /// The next line of this type, of which there must be one.
    pub(super) async fn line_of(&mut self, word: &str) -> Value {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("the watch ended before it told {word}"));
            if line["type"] == word {
                return line;
            }
            assert_eq!(line["type"], "BOOKMARK", "{word} was expected: {line}");
        }
    }

    /// Waits for its end.
    pub(super) async fn ended(mut self) {
        while let Some(line) = self.line().await {
            assert_eq!(line["type"], "BOOKMARK", "the end was expected: {line}");
        }
    }
}
