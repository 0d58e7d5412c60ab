//! The HTTP server over TLS, with a certificate that no gateway has the key of.
//!
//! Owns its own authority, which clients are given as a file: what the client verifies is this server and nobody between.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

use crate::{
    Workload,
    answer::{Headers, answer},
    arrival::arrive,
    listen::listen,
    say,
};

/// How long a caller may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves HTTPS, after the certificates have been written to `out`.
pub(crate) async fn serve(workload: Workload, name: &str, out: &Path) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(certify(name, out)?));
    listen(workload.listen, |stream, peer| {
        let (workload, acceptor) = (workload.clone(), acceptor.clone());
        async move {
            let mut arrival = arrive(stream, peer).await?;
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(arrival.io));
            let stream = handshake.await.context("the handshake took too long")?.context("TLS handshake")?;
            let (_, session) = stream.get_ref();
            arrival.caller["tls"] = json!({
                "server_name": session.server_name(),
                "version": session.protocol_version().map(|version| format!("{version:?}")),
            });
            answer(stream, &workload, (arrival.caller, Headers::Claim)).await
        }
    })
    .await
}

fn certify(name: &str, out: &Path) -> anyhow::Result<ServerConfig> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, format!("authority of {name}"));
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new([name.to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, name);
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &authority)?;

    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    for (file, pem) in [("ca.pem", authority.pem()), ("server.pem", leaf.pem())] {
        let path = out.join(file);
        fs::write(&path, pem).with_context(|| path.display().to_string())?;
    }
    say(format_args!("certificates are in {}", out.display()));

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let chain = vec![leaf.der().clone()];
    let tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(tls)
}
