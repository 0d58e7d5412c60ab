//! The service's own authority, its certificate, and the operator credential.
//!
//! Owns where they are kept and when they are made anew. Never issues anything to a cluster: each has its own authority.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use federation_model::{
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{
    ca::{Authority, SubjectName, SvidRequest},
    identity::LiveIdentity,
    renew,
    svid::Svid,
    validity::Validity,
};
use federation_runtime::{admin::Condition, state as files};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, config::Config, metrics::Metrics};

const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
const SERVICE_LIFETIME: Duration = Duration::from_secs(86_400);
/// Long, for it lies in a directory that people copy; it is made anew after half of it.
const OPERATOR_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// How often the wall clock is compared with what is due: it may jump, and hosts sleep.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const OPERATOR_NAME: &str = "admin";

/// The id of the service.
pub(crate) fn service_id(trust_domain: &TrustDomain) -> SpiffeId {
    id(trust_domain, &["landbridge", "federation"])
}

/// The operator that an id names, if it names one.
pub(crate) fn operator_of<'a>(id: &'a SpiffeId, trust_domain: &TrustDomain) -> Option<&'a str> {
    let name = id.path().strip_prefix("/landbridge/operator/")?;
    (id.trust_domain() == trust_domain && !name.is_empty() && !name.contains('/')).then_some(name)
}

fn id(trust_domain: &TrustDomain, segments: &[&str]) -> SpiffeId {
    SpiffeId::from_segments(trust_domain.clone(), segments)
        .expect("the segments are constants of letters, which a SPIFFE path may hold")
}

/// Loads the authority, or makes one at the first start; says whether it was made.
pub(crate) fn authority(config: &Config, directory: &Path, now: Timestamp) -> anyhow::Result<(Authority, bool)> {
    let domain = &config.trust.domain;
    if let Some(external) = &config.trust.ca_dir {
        let read = |name| files::read_text(&external.join(name)).context("`trust.ca_dir`");
        let authority = Authority::from_pem(&read("tls.crt")?, &read("tls.key")?, domain)
            .with_context(|| format!("the authority in {} (`trust.ca_dir`)", external.display()))?;
        return Ok((authority, false));
    }
    anyhow::ensure!(
        !config.trust.require_external_ca,
        "`trust.require_external_ca` is true and `trust.ca_dir` is not set: name a directory with tls.crt and tls.key of an authority"
    );
    let home = directory.join("authority");
    let (certificate, key) = (home.join("ca.crt"), home.join("ca.key"));
    if certificate.exists() {
        let pem = (files::read_text(&certificate)?, files::read_private_text(&key)?);
        let authority = Authority::from_pem(&pem.0, &pem.1, domain)
            .with_context(|| format!("the authority in {}", home.display()))?;
        return Ok((authority, false));
    }
    let authority = Authority::generate(
        domain,
        &format!("Landbridge federation {domain}"),
        Validity::starting(now, AUTHORITY_LIFETIME),
    )?;
    files::create_private_dir(&home)?;
    // The certificate comes last: it says that the pair is whole.
    files::write_private(&key, authority.key_pem().expose().as_bytes())?;
    files::write_private(&certificate, authority.certificate_pem().as_bytes())?;
    Ok((authority, true))
}

/// Issues the certificates of the service, and keeps them fresh.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) authority: Arc<Authority>,
    pub(crate) names: Vec<SubjectName>,
    pub(crate) operator_dir: PathBuf,
    pub(crate) clock: Clock,
}

impl Issuer {
    /// A certificate of the service.
    pub(crate) fn service(&self) -> anyhow::Result<Svid> {
        let svid = self.authority.issue(&SvidRequest {
            id: service_id(self.authority.trust_domain()),
            names: self.names.clone(),
            validity: Validity::starting(self.clock.now(), SERVICE_LIFETIME),
        });
        svid.context("the certificate of the service")
    }

    /// Writes the operator credential when there is none, or half of its life is over, or it is of another authority.
    pub(crate) fn operator(&self) -> anyhow::Result<()> {
        let directory = &self.operator_dir;
        if self.operator_is_fresh() {
            return Ok(());
        }
        let svid = self.authority.issue(&SvidRequest {
            id: id(self.authority.trust_domain(), &["landbridge", "operator", OPERATOR_NAME]),
            names: Vec::new(),
            validity: Validity::starting(self.clock.now(), OPERATOR_LIFETIME),
        })?;
        files::create_private_dir(directory)?;
        files::write_private(&directory.join("ca.crt"), self.authority.certificate_pem().as_bytes())?;
        files::write_private(&directory.join("tls.key"), svid.key_pem().expose().as_bytes())?;
        files::write_private(&directory.join("tls.crt"), svid.certificate_pem().as_bytes())?;
        tracing::info!(directory = %directory.display(), "operator credential written");
        Ok(())
    }

    fn operator_is_fresh(&self) -> bool {
        let read = |name: &str| files::read_text(&self.operator_dir.join(name));
        let (Ok(authority), Ok(certificate), Ok(key)) = (read("ca.crt"), read("tls.crt"), read("tls.key")) else {
            return false;
        };
        // A pair that does not belong together was interrupted while it was written.
        let Ok(svid) = Svid::from_pem(&certificate, &key) else { return false };
        authority == self.authority.certificate_pem()
            && svid.chain().get(1) == Some(self.authority.certificate())
            && self.clock.now() < renew::due(&svid.validity(), 0.5)
    }

    /// Renews both for as long as the program runs.
    pub(crate) async fn keep_fresh(
        self,
        identity: Arc<LiveIdentity>,
        condition: Condition,
        metrics: Metrics,
        stop: CancellationToken,
    ) {
        let mut jitter = rand::random::<f64>();
        let mut failure: Option<String> = None;
        loop {
            let current = identity.current();
            metrics.identity_until(current.not_after());
            match &failure {
                _ if self.clock.now() > current.not_after() => {
                    condition.fails("the certificate of the service has expired and could not be renewed");
                }
                Some(error) => condition.endangered(format!("the certificate cannot be renewed: {error}")),
                None => condition.holds(),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.clock.now() >= renew::due(&current.validity(), jitter) {
                match self.service() {
                    Ok(svid) => {
                        tracing::info!(serial = svid.serial(), "certificate renewed");
                        identity.replace(svid);
                        (jitter, failure) = (rand::random(), None);
                    }
                    Err(error) => {
                        tracing::error!("the certificate cannot be renewed: {error:#}");
                        failure = Some(format!("{error:#}"));
                    }
                }
            }
            if let Err(error) = self.operator() {
                tracing::error!("the operator credential cannot be renewed: {error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::new("federation.internal").unwrap()
    }

    #[test]
    fn only_ids_of_operators_in_the_services_own_trust_domain_name_an_operator() {
        let of = |text: &str| operator_of(&SpiffeId::new(text).unwrap(), &domain()).map(str::to_owned);
        assert_eq!(of("spiffe://federation.internal/landbridge/operator/admin").as_deref(), Some("admin"));
        for other in [
            "spiffe://west.example/landbridge/operator/admin",
            "spiffe://federation.internal/landbridge/federation",
            "spiffe://federation.internal/landbridge/operator/admin/x",
            "spiffe://federation.internal/x/landbridge/operator/admin",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn the_authority_is_made_once_and_the_operator_credential_renewed_at_half_life() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default();
        let time = Arc::new(std::sync::atomic::AtomicU64::new(1_800_000_000));
        let (first, made) = authority(&config, dir.path(), Timestamp(1_800_000_000)).unwrap();
        assert!(made);
        let (again, made) = authority(&config, dir.path(), Timestamp(1_800_000_000)).unwrap();
        assert!(!made && again.fingerprint() == first.fingerprint());

        let read = Arc::clone(&time);
        let clock = Clock::new(move || Timestamp(read.load(std::sync::atomic::Ordering::Relaxed)).into());
        let operator_dir = dir.path().join("operator");
        let issuer =
            Issuer { authority: Arc::new(first), names: Vec::new(), operator_dir: operator_dir.clone(), clock };
        let serial = || std::fs::read_to_string(operator_dir.join("tls.crt")).unwrap();
        issuer.operator().unwrap();
        let first = serial();
        issuer.operator().unwrap();
        assert_eq!(serial(), first);
        time.fetch_add(200 * 86_400, std::sync::atomic::Ordering::Relaxed);
        issuer.operator().unwrap();
        assert_ne!(serial(), first);
    }

    #[test]
    fn an_external_authority_can_be_required() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.trust.require_external_ca = true;
        let error = authority(&config, dir.path(), Timestamp(1_800_000_000)).unwrap_err().to_string();
        assert!(error.contains("`trust.ca_dir`"), "{error}");
        let (own, _) = authority(&Config::default(), dir.path(), Timestamp(1_800_000_000)).unwrap();
        let external = dir.path().join("external");
        std::fs::create_dir(&external).unwrap();
        std::fs::write(external.join("tls.crt"), own.certificate_pem()).unwrap();
        std::fs::write(external.join("tls.key"), own.key_pem().expose()).unwrap();
        config.trust.ca_dir = Some(external);
        let (loaded, made) = authority(&config, dir.path(), Timestamp(1_800_000_000)).unwrap();
        assert!(!made && loaded.fingerprint() == own.fingerprint());
    }
}
