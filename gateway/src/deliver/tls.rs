//! TLS to endpoints: who they must prove to be, and the handshake.
//!
//! Owns where the roots come from that are believed about names. Never falls back to plain bytes: an endpoint that does not
//! prove what its export asks for gets none.

use std::{io, path::Path, sync::Arc};

use anyhow::Context as _;
use federation_model::{
    export::{ClientIdentity, EndpointProof, EndpointTls},
    spiffe::TrustDomain,
};
use federation_pki::{
    endpoint,
    trust::TrustStore,
    verify::broken_rule,
    web::{WebError, WebRoots},
};
use federation_runtime::state::read_text;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{config::DeliveryConfig, identity::ClusterIdentity};

/// What endpoints are believed by.
#[derive(Debug)]
pub struct EndpointTrust {
    identity: Arc<ClusterIdentity>,
    /// The bundles of other trust domains, and what is revoked.
    others: Arc<TrustStore>,
    roots: Roots,
}

/// The authorities that are believed about names.
#[derive(Debug)]
enum Roots {
    File(WebRoots),
    /// Read when they are needed for the first time: many gateways never need them, and some systems have none.
    System(OnceCell<Result<WebRoots, WebError>>),
}

impl EndpointTrust {
    /// Reads the file of roots, where there is one. `others` holds the bundles of all trust domains but the own one.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(
        config: &DeliveryConfig,
        identity: Arc<ClusterIdentity>,
        others: Arc<TrustStore>,
    ) -> anyhow::Result<Self> {
        let roots = match &config.tls_roots {
            Some(file) => Roots::File(read_roots(file)?),
            None => Roots::System(OnceCell::new()),
        };
        Ok(Self { identity, others, roots })
    }

    /// Shakes hands over `tcp` with an endpoint of the service whose name in the cluster set is `host`.
    ///
    /// # Errors
    /// Why the endpoint is not believed, or is not understood.
    pub async fn secure(&self, tcp: TcpStream, tls: &EndpointTls, host: &str) -> Result<TlsStream<TcpStream>, String> {
        let name = match &tls.proof {
            EndpointProof::ServerName(name) => name.as_str(),
            EndpointProof::ServiceHost | EndpointProof::SpiffeId(_) => host,
        };
        let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name} cannot be a server name"))?;
        let config = self.client_config(tls).await?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        connected.map_err(|error| refusal(&error))
    }

    async fn client_config(&self, tls: &EndpointTls) -> Result<ClientConfig, String> {
        let presents = match tls.presents {
            ClientIdentity::None => None,
            ClientIdentity::Gateway => Some(self.identity.live()),
        };
        let config = match &tls.proof {
            EndpointProof::SpiffeId(id) => endpoint::by_id(self.trust_in(id.trust_domain()), id.clone(), presents),
            EndpointProof::ServiceHost | EndpointProof::ServerName(_) => {
                endpoint::by_name(self.roots().await?, presents)
            }
        };
        config.map_err(|error| error.to_string())
    }

    /// Who knows the bundle of a trust domain. No tunnel believes that of the own cluster, so it is kept apart.
    fn trust_in(&self, domain: &TrustDomain) -> Arc<TrustStore> {
        if *domain != self.identity.cluster().trust_domain {
            return Arc::clone(&self.others);
        }
        let own = TrustStore::new();
        // A bundle that is not usable counts as empty, which the verification says.
        let _ = own.replace([self.identity.bundle()]);
        own.revoke(&self.others.revocations());
        Arc::new(own)
    }

    async fn roots(&self) -> Result<&WebRoots, String> {
        let system = match &self.roots {
            Roots::File(roots) => return Ok(roots),
            Roots::System(system) => system,
        };
        let read = || WebRoots::new(rustls_native_certs::load_native_certs().certs);
        let found = system.get_or_try_init(|| tokio::task::spawn_blocking(read)).await;
        let found = found.map_err(|error| format!("the authorities of the system were not read: {error}"))?;
        found.as_ref().map_err(|error| format!("no authority is known to believe: {error}; set `delivery.tls_roots`"))
    }
}

fn read_roots(file: &Path) -> anyhow::Result<WebRoots> {
    let text = read_text(file).context("`delivery.tls_roots`")?;
    WebRoots::from_pem(&text).with_context(|| format!("`delivery.tls_roots`: {}", file.display()))
}

/// Says which rule the endpoint broke, if that is why the handshake failed.
fn refusal(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return format!("no TLS handshake ({error})");
    };
    let rustls::Error::InvalidCertificate(certificate) = tls else { return format!("no TLS handshake ({tls})") };
    broken_rule(tls).map_or_else(|| certificate.to_string(), ToString::to_string)
}
