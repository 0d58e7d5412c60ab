//! One verified connection to the federation service.
//!
//! Owns resolving, connecting and the TLS handshake, and tells what went wrong in each. Never retries: it tries every
//! address once.

use std::{error::Error, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use federation_model::addr::{GatewayAddr, Host};
use federation_pki::verify::{VerifyError, broken_rule};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};

/// A name is resolved and a socket connected within this time each: across an ocean both take well below a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server allows a handshake as long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried.
const MAX_RESOLVED: usize = 4;
/// A silent connection is probed after this time, and given up when the answer takes longer than the next.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// What the federation service is called on a connection. With https:// tonic would insist on TLS of its own.
pub(crate) const FEDERATION: &str = "http://landbridge-federation";
/// The ALPN protocol of gRPC.
pub(crate) const ALPN: &[u8] = b"h2";

/// One address that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The address.
    pub address: GatewayAddr,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.reason)
    }
}

/// Why there is no connection to the federation service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// No address answered.
    #[error(
        "the federation service cannot be reached ({}): check that landbridge-federation runs, the address, and firewalls on the way",
        listed(.attempts)
    )]
    Unreachable {
        /// Every address that was tried.
        attempts: Vec<Attempt>,
    },
    /// The service that answers is not the one the token pins.
    #[error("{address} is not the federation service of this join token: {reason}")]
    PinMismatch {
        /// The address.
        address: GatewayAddr,
        /// What was presented.
        reason: String,
    },
    /// The service that answers does not prove to be the federation service.
    #[error("{address} does not prove to be the federation service: {reason}")]
    Untrusted {
        /// The address.
        address: GatewayAddr,
        /// Which rule was broken.
        reason: String,
    },
    /// The certificate of the service is not valid at this time.
    #[error(
        "the clocks of this host and of {address} differ, or the service did not renew its certificate: {reason}; set both clocks by NTP"
    )]
    Clock {
        /// The address.
        address: GatewayAddr,
        /// Which times were compared.
        reason: String,
    },
}

impl DialError {
    /// Refusals tell more than silence, and a wrong clock more than a refusal.
    fn rank(&self) -> u8 {
        match self {
            Self::Unreachable { .. } => 0,
            Self::Untrusted { .. } => 1,
            Self::PinMismatch { .. } => 2,
            Self::Clock { .. } => 3,
        }
    }
}

fn listed(attempts: &[Attempt]) -> String {
    match attempts {
        [] => "no address is known".to_owned(),
        attempts => attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}

/// Connects to the first address that answers and is believed.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) addresses: Vec<GatewayAddr>,
    pub(crate) tls: Arc<ClientConfig>,
}

/// A connection, and the address that answered.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pub(crate) channel: Channel,
    pub(crate) address: GatewayAddr,
}

impl Dialer {
    /// Tries every address once, starting at number `first`.
    pub(crate) async fn dial(&self, first: usize) -> Result<Connected, DialError> {
        let mut failed = Failed::default();
        for address in self.from(first) {
            match self.channel(address).await {
                Ok(channel) => return Ok(Connected { channel, address: address.clone() }),
                Err(failure) => failed.add(address, failure),
            }
        }
        Err(failed.error())
    }

    /// The same, for whoever has something else to do with the stream.
    pub(crate) async fn stream(&self, first: usize) -> Result<(TlsStream<TcpStream>, GatewayAddr), DialError> {
        let mut failed = Failed::default();
        for address in self.from(first) {
            match self.open(address).await {
                Ok(stream) => return Ok((stream, address.clone())),
                Err(failure) => failed.add(address, failure),
            }
        }
        Err(failed.error())
    }

    /// Every address once, starting at number `first`.
    fn from(&self, first: usize) -> impl Iterator<Item = &GatewayAddr> {
        let count = self.addresses.len();
        self.addresses.iter().cycle().skip(first % count.max(1)).take(count)
    }

    async fn channel(&self, address: &GatewayAddr) -> Result<Channel, Failure> {
        let stream = self.open(address).await?;
        channel_over(stream, FEDERATION).await.map_err(|error| Failure::Silent(chain(&error)))
    }

    async fn open(&self, address: &GatewayAddr) -> Result<TlsStream<TcpStream>, Failure> {
        let socket = open(address).await.map_err(Failure::Silent)?;
        // Messages are small and answered one by one.
        let _ = socket.set_nodelay(true);
        let name = match address.host() {
            Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
            Host::Dns(name) => ServerName::try_from(name.clone()).map_err(|e| Failure::Silent(e.to_string()))?,
        };
        let handshake = TlsConnector::from(Arc::clone(&self.tls)).connect(name, socket);
        match timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(refused(address, &error)),
            Err(_) => Err(Failure::Silent(format!("no TLS handshake within {HANDSHAKE_TIMEOUT:?}"))),
        }
    }
}

enum Failure {
    Silent(String),
    Refused(DialError),
}

/// What became of the addresses so far.
#[derive(Default)]
struct Failed {
    attempts: Vec<Attempt>,
    worst: Option<DialError>,
}

impl Failed {
    fn add(&mut self, address: &GatewayAddr, failure: Failure) {
        match failure {
            Failure::Silent(reason) => self.attempts.push(Attempt { address: address.clone(), reason }),
            Failure::Refused(error) => {
                if self.worst.as_ref().is_none_or(|held| held.rank() < error.rank()) {
                    self.worst = Some(error);
                }
            }
        }
    }

    fn error(self) -> DialError {
        self.worst.unwrap_or(DialError::Unreachable { attempts: self.attempts })
    }
}

async fn open(address: &GatewayAddr) -> Result<TcpStream, String> {
    let port = address.port().number();
    let resolved: Vec<SocketAddr> = match address.host() {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, port)],
        Host::Dns(name) => match timeout(CONNECT_TIMEOUT, lookup_host((name.as_str(), port))).await {
            Ok(Ok(found)) => found.take(MAX_RESOLVED).collect(),
            Ok(Err(error)) => return Err(format!("the name cannot be resolved ({error})")),
            Err(_) => return Err(format!("the name was not resolved within {CONNECT_TIMEOUT:?}")),
        },
    };
    let mut reason = "the name has no address".to_owned();
    for socket in resolved {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(socket)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("no answer within {CONNECT_TIMEOUT:?}"),
        }
    }
    Err(reason)
}

/// Says which of our own rules the server broke, if that is why the handshake failed.
fn refused(address: &GatewayAddr, error: &io::Error) -> Failure {
    let Some(tls) = tls_error_in(error) else {
        return Failure::Silent(format!("no TLS handshake ({error})"));
    };
    let rustls::Error::InvalidCertificate(certificate) = tls else {
        let hint = if matches!(tls, rustls::Error::InvalidMessage(_)) {
            "; is this the gRPC port of the federation service?"
        } else {
            ""
        };
        return Failure::Silent(format!("no TLS handshake ({tls}){hint}"));
    };
    let address = address.clone();
    let Some(rule) = broken_rule(tls) else {
        return Failure::Refused(DialError::Untrusted { address, reason: certificate.to_string() });
    };
    let reason = rule.to_string();
    Failure::Refused(if matches!(rule, VerifyError::Expired { .. } | VerifyError::NotYetValid { .. }) {
        DialError::Clock { address, reason }
    } else if matches!(
        rule,
        VerifyError::PinMissing(_) | VerifyError::PinUnusable { .. } | VerifyError::NotFederation(_)
    ) {
        DialError::PinMismatch { address, reason }
    } else {
        DialError::Untrusted { address, reason }
    })
}

/// Hands one established stream to tonic. When it breaks the channel is of no more use: whoever holds it dials again.
pub(crate) async fn channel_over<S>(stream: S, name: &'static str) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = Some(TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        std::future::ready(stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    Endpoint::from_static(name)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

/// The error of rustls among the causes of `error`. An `io::Error` hides the error it wraps from `source`.
pub(crate) fn tls_error_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The messages of an error and its causes, each once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if !texts.iter().any(|held| held.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // No real chain is that long; a cyclic one would be.
    const MAX_DEPTH: usize = 16;
    std::iter::successors(Some(error), |cause| cause_of(*cause)).take(MAX_DEPTH)
}

fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tls_error_is_found_inside_io_errors() {
        let inner = rustls::Error::HandshakeNotComplete;
        let error = io::Error::other(io::Error::other(inner.clone()));
        assert_eq!(tls_error_in(&error), Some(&inner));
        assert!(tls_error_in(&io::Error::other("else")).is_none());
    }

    #[test]
    fn all_that_were_silent_are_named_and_the_one_that_tells_most_outranks_them() {
        let [east, west]: [GatewayAddr; 2] = ["east.example:1", "west.example:1"].map(|text| text.parse().unwrap());
        let untrusted = DialError::Untrusted { address: west.clone(), reason: "no".to_owned() };
        let clock = DialError::Clock { address: east.clone(), reason: "late".to_owned() };
        let silent = || {
            let mut failed = Failed::default();
            failed.add(&east, Failure::Silent("closed".to_owned()));
            failed.add(&west, Failure::Silent("no HTTP/2".to_owned()));
            failed
        };
        let told = silent().error().to_string();
        assert!(told.contains("(east.example:1: closed; west.example:1: no HTTP/2)"), "{told}");
        for refusals in [[&untrusted, &clock], [&clock, &untrusted]] {
            let mut failed = silent();
            for refusal in refusals {
                failed.add(&east, Failure::Refused(refusal.clone()));
            }
            assert_eq!(failed.error(), clock);
        }
    }

    #[test]
    fn every_address_has_its_turn_wherever_the_first_is() {
        let verifier =
            Arc::new(federation_pki::verify::PinnedAuthority(federation_model::bundle::Fingerprint::of(b"nobody")));
        let tls = Arc::new(federation_pki::tls::client_config(None, verifier, ALPN).unwrap());
        let turns = |addresses: &[&str], first| {
            let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let dialer = Dialer { addresses, tls: Arc::clone(&tls) };
            dialer.from(first).map(ToString::to_string).collect::<Vec<_>>()
        };
        let all = ["a.example:1", "b.example:1", "c.example:1"];
        assert_eq!(turns(&all, 0), all);
        assert_eq!(turns(&all, 4), ["b.example:1", "c.example:1", "a.example:1"]);
        assert!(turns(&[], 3).is_empty());
    }

    #[tokio::test]
    async fn every_address_that_does_not_answer_is_named() {
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: GatewayAddr = closed.local_addr().unwrap().to_string().parse().unwrap();
        drop(closed);
        let verifier =
            Arc::new(federation_pki::verify::PinnedAuthority(federation_model::bundle::Fingerprint::of(b"nobody")));
        let tls = federation_pki::tls::client_config(None, verifier, ALPN).unwrap();
        let addresses = vec![address.clone(), "nowhere.invalid:1".parse().unwrap()];
        let error = Dialer { addresses, tls: Arc::new(tls) }.dial(0).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{address}: Connection refused")), "{error}");
        assert!(error.contains("nowhere.invalid:1: the name "), "{error}");
    }
}
