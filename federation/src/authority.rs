//! The service's own authority: made here, or read from where somebody else puts it.
//!
//! Owns where it is kept, and following the directory it comes from. Never issues anything: `issuer` does.

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
    SecretPem,
    ca::Authority,
    certificate::CertificateFacts,
    validity::{CLOCK_SKEW, Validity},
};
use federation_runtime::{
    followed::{Followed, Verdict},
    state as files,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, config::Config};

const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The id of the service.
pub(crate) fn service_id(trust_domain: &TrustDomain) -> SpiffeId {
    id(trust_domain, &["landbridge", "federation"])
}

/// An id of the service's own trust domain.
pub(crate) fn id(trust_domain: &TrustDomain, segments: &[&str]) -> SpiffeId {
    SpiffeId::from_segments(trust_domain.clone(), segments)
        .expect("the segments are constants of letters, which a SPIFFE path may hold")
}

/// The operator that an id names, if it names one.
pub(crate) fn operator_of<'a>(id: &'a SpiffeId, trust_domain: &TrustDomain) -> Option<&'a str> {
    let name = id.path().strip_prefix("/landbridge/operator/")?;
    (id.trust_domain() == trust_domain && !name.is_empty() && !name.contains('/')).then_some(name)
}

/// Loads the authority, or makes one at the first start; says whether it was made.
pub(crate) fn authority(config: &Config, directory: &Path, now: Timestamp) -> anyhow::Result<(Authority, bool)> {
    let domain = &config.trust.domain;
    if let Some(external) = &config.trust.ca_dir {
        return Ok((External { dir: external.clone(), domain: domain.clone() }.read_blocking(now)?, false));
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

/// What the directory gives: the last good authority, and what is wrong with what is there now.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) authority: Arc<Authority>,
    pub(crate) fault: Option<String>,
}

/// `trust.ca_dir`, in the layout of a cert-manager Secret.
#[derive(Debug, Clone)]
pub(crate) struct External {
    pub(crate) dir: PathBuf,
    pub(crate) domain: TrustDomain,
}

impl External {
    fn read_blocking(&self, now: Timestamp) -> anyhow::Result<Authority> {
        let certificate = files::read_text(&self.dir.join("tls.crt")).context("`trust.ca_dir`")?;
        let key = SecretPem::new(files::read_mounted_key(&self.dir.join("tls.key")).context("`trust.ca_dir`")?);
        let authority = Authority::from_pem(&certificate, key.expose(), &self.domain)
            .with_context(|| format!("the authority in {} (`trust.ca_dir`)", self.dir.display()))?;
        let Validity { not_before, not_after } = CertificateFacts::of(authority.certificate())?.validity;
        let dir = self.dir.display();
        anyhow::ensure!(
            now <= not_after,
            "the authority in {dir} (`trust.ca_dir`) expired {:?} ago: put a new one there",
            now.since(not_after)
        );
        // A start is allowed for by the skew of clocks, as verifiers do.
        anyhow::ensure!(
            now.after(CLOCK_SKEW) >= not_before,
            "the authority in {dir} (`trust.ca_dir`) is not valid for another {:?}: compare the clocks",
            not_before.since(now)
        );
        Ok(authority)
    }

    /// Reads where blocking is allowed; nothing when the runtime is shutting down.
    async fn read(&self, now: Timestamp) -> Option<Result<Authority, String>> {
        let this = self.clone();
        match tokio::task::spawn_blocking(move || this.read_blocking(now)).await {
            Ok(reading) => Some(reading.map_err(|error| format!("{error:#}"))),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    /// Tells `given` of every other authority that is put there, and of what cannot be used, until `stop`.
    pub(crate) async fn follow(self, given: watch::Sender<Given>, clock: Clock, stop: CancellationToken) {
        let mut followed = Followed::at(&self.dir);
        loop {
            let Some(reading) = self.read(clock.now()).await else { return };
            match followed.handle_reading(reading) {
                Verdict::Usable(authority) => take(&given, authority),
                Verdict::Doubtful => {}
                Verdict::Faulty(fault) => report(&given, fault),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = followed.changed() => {}
            }
        }
    }
}

fn take(given: &watch::Sender<Given>, authority: Authority) {
    given.send_if_modified(|held| {
        let (other, mended) = (held.authority.fingerprint() != authority.fingerprint(), held.fault.take().is_some());
        if mended {
            tracing::info!("the authority in `trust.ca_dir` can be used again");
        }
        if other {
            held.authority = Arc::new(authority);
        }
        other || mended
    });
}

fn report(given: &watch::Sender<Given>, fault: String) {
    given.send_if_modified(|held| {
        let news = held.fault.as_ref() != Some(&fault);
        if news {
            tracing::error!("{fault}; the authority that was there before stays in use");
            held.fault = Some(fault);
        }
        news
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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
    fn the_authority_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::default();
        let (first, made) = authority(&config, dir.path(), Timestamp(1_800_000_000)).unwrap();
        assert!(made);
        let (again, made) = authority(&config, dir.path(), Timestamp(1_800_000_000)).unwrap();
        assert!(!made && again.fingerprint() == first.fingerprint());
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
        put(&external, &own, 0o600);
        config.trust.ca_dir = Some(external);
        let (loaded, made) = authority(&config, dir.path(), Timestamp(1_800_000_000)).unwrap();
        assert!(!made && loaded.fingerprint() == own.fingerprint());
    }

    /// Puts a pair where a Secret would be mounted.
    fn put(dir: &Path, authority: &Authority, mode: u32) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("tls.crt"), authority.certificate_pem()).unwrap();
        std::fs::write(dir.join("tls.key"), authority.key_pem().expose()).unwrap();
        std::fs::set_permissions(dir.join("tls.key"), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn made(from: Timestamp) -> Authority {
        Authority::generate(&domain(), "federation", Validity::starting(from, Duration::from_secs(86_400))).unwrap()
    }

    #[test]
    fn an_external_authority_is_refused_when_its_key_is_open_or_its_time_is_not_now() {
        let now = Timestamp(1_800_000_000);
        let dir = tempfile::tempdir().unwrap();
        let external = External { dir: dir.path().to_owned(), domain: domain() };
        // The kubelet mounts 0440 for a group of its own at best, and 0644 unless it is told otherwise.
        for (mode, accepted) in [(0o400, true), (0o600, true), (0o440, true), (0o644, false), (0o660, false)] {
            put(dir.path(), &made(now), mode);
            assert_eq!(external.read_blocking(now).is_ok(), accepted, "{mode:04o}");
        }
        let error = format!("{:#}", external.read_blocking(now).unwrap_err());
        assert!(error.contains("`trust.ca_dir`") && error.contains("chmod 640"), "{error}");
        for (from, told) in [(now.0 - 100_000, "expired"), (now.0 + 1_000, "is not valid for another")] {
            put(dir.path(), &made(Timestamp(from)), 0o600);
            let error = external.read_blocking(now).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains("`trust.ca_dir`"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_authority_is_taken_and_a_broken_one_leaves_the_last_good_one() {
        let now = Timestamp(1_800_000_000);
        let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let (first, second) = (made(now), made(now));
        put(dir.path(), &first, 0o600);
        let external = External { dir: dir.path().to_owned(), domain: domain() };
        let given = Given { authority: Arc::new(external.read_blocking(now).unwrap()), fault: None };
        let (sender, mut given) = watch::channel(given);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(external.follow(sender, Clock::new(move || now.into()), stop.clone()));
        std::fs::write(dir.path().join("tls.crt"), second.certificate_pem()).unwrap();
        let patience = Duration::from_secs(120);
        let broken = given.wait_for(|given| given.fault.is_some());
        let broken = tokio::time::timeout(patience, broken).await.expect("a fault is reported").unwrap().clone();
        assert_eq!(broken.authority.fingerprint(), first.fingerprint());
        assert!(broken.fault.unwrap().contains("`trust.ca_dir`"));
        put(dir.path(), &second, 0o600);
        let mended = given.wait_for(|given| given.fault.is_none());
        let mended = tokio::time::timeout(patience, mended).await.expect("the new pair is taken").unwrap().clone();
        assert_eq!(mended.authority.fingerprint(), second.fingerprint());
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }
}
