//! The bundle endpoints among the parts of the program.
//!
//! Owns which of them the settings ask for, and their tasks. Never answers.

use std::{net::SocketAddr, sync::Arc};

use federation_pki::{
    identity::LiveIdentity,
    tls::{Clients, server_config},
    web::{self, WebIdentity},
};
use federation_runtime::tasks::{OnEnd, Spawner};

use crate::{
    authority::service_id,
    bundles::{ALPN, Endpoint, Facts, Profile, WebPairFiles},
    config::Config,
    rpc::Context,
};

/// Those that are open.
#[derive(Debug)]
pub(super) struct Endpoints {
    spiffe: Option<Endpoint>,
    web: Option<(Endpoint, WebPairFiles)>,
}

impl Endpoints {
    /// Opens the ports that the settings name.
    pub(super) async fn bind(config: &Config, context: &Context) -> anyhow::Result<Self> {
        let bundles = &config.bundles;
        let open = async |address: Option<SocketAddr>, key, profile| -> anyhow::Result<Option<Endpoint>> {
            let Some(address) = address else { return Ok(None) };
            let facts = Facts { profile, refresh_hint: bundles.refresh_hint };
            let (registry, metrics) = (context.registry.clone(), context.metrics.clone());
            Endpoint::bind((address, key), facts, registry, metrics).await.map(Some)
        };
        let id = Profile::HttpsSpiffe(service_id(&config.trust.domain));
        let spiffe = open(bundles.listen, "bundles.listen", id).await?;
        let web = open(bundles.web_listen, "bundles.web_listen", Profile::HttpsWeb).await?;
        let web = web.zip(bundles.web_dir.clone()).map(|(endpoint, directory)| {
            let (clock, metrics) = (context.clock.clone(), context.metrics.clone());
            (endpoint, WebPairFiles { directory, identity: Arc::new(WebIdentity::default()), clock, metrics })
        });
        Ok(Self { spiffe, web })
    }

    /// Where the `https_spiffe` one listens.
    pub(super) fn spiffe_addr(&self) -> Option<SocketAddr> {
        self.spiffe.as_ref().and_then(|endpoint| endpoint.local_addr().ok())
    }

    /// Where the `https_web` one listens.
    pub(super) fn web_addr(&self) -> Option<SocketAddr> {
        self.web.as_ref().and_then(|(endpoint, _)| endpoint.local_addr().ok())
    }

    /// Serves until `accept` stops. The pair of the web is followed for as long; without it that endpoint refuses every
    /// handshake, and nothing else is worse for it.
    pub(super) fn spawn(self, accept: &Spawner, identity: Arc<LiveIdentity>) -> anyhow::Result<()> {
        if let Some(endpoint) = self.spiffe {
            let tls = server_config(identity, Clients::Anyone, ALPN)?;
            accept.spawn("bundles", OnEnd::Stop, endpoint.serve(tls, accept.stop().clone()));
        }
        if let Some((endpoint, files)) = self.web {
            let tls = web::server_config(Arc::clone(&files.identity), ALPN)?;
            accept.spawn("bundles web pair", OnEnd::Stop, files.follow(accept.stop().clone()));
            accept.spawn("bundles web", OnEnd::Stop, endpoint.serve(tls, accept.stop().clone()));
        }
        Ok(())
    }
}
