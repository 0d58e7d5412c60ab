//! The certificate of the service and the operator credential.
//!
//! Owns when they are made anew, and the change from one authority to the next: members are told of the next one while the
//! certificate in use is still of the former, so that whoever follows the service believes it before it is used. Never
//! issues anything to a cluster: each has its own authority.
//!
//! ```text
//! `trust.ca_dir` has another ──> told: next and former ──> renewal of the certificate: of the next ──> told: next alone
//! ```

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use federation_model::{bundle::TrustBundle, time::Timestamp};
use federation_pki::{
    ca::{Authority, SubjectName, SvidRequest},
    identity::LiveIdentity,
    renew,
    svid::Svid,
    validity::Validity,
};
use federation_runtime::{admin::Condition, state as files};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    authority::{Given, id, service_id},
    clock::Clock,
    metrics::Metrics,
    registry::{Registry, Undecided},
    state::{State, audit::By},
};

/// Long, for it lies in a directory that people copy; it is made anew after half of it.
const OPERATOR_LIFETIME: Duration = Duration::from_secs(365 * 86_400);
const OPERATOR_NAME: &str = "admin";

/// How long certificates of the service live, and how often it looks whether one is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The life of a certificate; it is renewed around half of it. At most a day, so that nobody has to revoke it.
    pub lifetime: Duration,
    /// How often the wall clock is compared with what is due: it may jump, and hosts sleep.
    pub look_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(86_400), look_every: Duration::from_secs(30) }
    }
}

/// What is in use.
#[derive(Debug, Clone)]
pub(crate) struct InUse {
    /// The authority of the certificate: tokens pin it, and exported logs are sealed with it.
    pub(crate) authority: Arc<Authority>,
    /// When the certificate is to be renewed.
    pub(crate) renewal: Timestamp,
}

/// Issues the certificates of the service, and keeps them fresh.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) names: Vec<SubjectName>,
    pub(crate) operator_dir: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) pace: Pace,
    /// The authority to issue from; of another one members must have been told first.
    pub(crate) given: watch::Receiver<Given>,
    pub(crate) in_use: watch::Sender<InUse>,
}

/// What renewal has to do with.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) identity: Arc<LiveIdentity>,
    pub(crate) registry: Registry,
    pub(crate) condition: Condition,
    pub(crate) metrics: Metrics,
}

impl Issuer {
    fn authority(&self) -> Arc<Authority> {
        Arc::clone(&self.in_use.borrow().authority)
    }

    /// A certificate of the service.
    pub(crate) fn service(&self, authority: &Authority) -> anyhow::Result<Svid> {
        let svid = authority.issue(&SvidRequest {
            id: service_id(authority.trust_domain()),
            names: self.names.clone(),
            validity: Validity::starting(self.clock.now(), self.pace.lifetime),
        });
        svid.context("the certificate of the service")
    }

    /// The first certificate.
    pub(crate) fn first(&self) -> anyhow::Result<Svid> {
        let svid = self.service(&self.authority())?;
        self.will_renew(&svid);
        Ok(svid)
    }

    fn will_renew(&self, svid: &Svid) {
        let renewal = renew::due(&svid.validity(), rand::random());
        self.in_use.send_modify(|in_use| in_use.renewal = renewal);
    }

    /// Writes the operator credential when there is none, or half of its life is over, or it is of another authority.
    pub(crate) fn operator(&self) -> anyhow::Result<()> {
        let (directory, authority) = (&self.operator_dir, self.authority());
        if self.operator_is_fresh(&authority) {
            return Ok(());
        }
        let svid = authority.issue(&SvidRequest {
            id: id(authority.trust_domain(), &["landbridge", "operator", OPERATOR_NAME]),
            names: Vec::new(),
            validity: Validity::starting(self.clock.now(), OPERATOR_LIFETIME),
        })?;
        files::create_private_dir(directory)?;
        files::write_private(&directory.join("ca.crt"), authority.certificate_pem().as_bytes())?;
        files::write_private(&directory.join("tls.key"), svid.key_pem().expose().as_bytes())?;
        files::write_private(&directory.join("tls.crt"), svid.certificate_pem().as_bytes())?;
        tracing::info!(directory = %directory.display(), "operator credential written");
        Ok(())
    }

    fn operator_is_fresh(&self, authority: &Authority) -> bool {
        let read = |name: &str| files::read_text(&self.operator_dir.join(name));
        let (Ok(written), Ok(certificate), Ok(key)) = (read("ca.crt"), read("tls.crt"), read("tls.key")) else {
            return false;
        };
        // A pair that does not belong together was interrupted while it was written.
        let Ok(svid) = Svid::from_pem(&certificate, &key) else { return false };
        written == authority.certificate_pem()
            && svid.chain().get(1) == Some(authority.certificate())
            && self.clock.now() < renew::due(&svid.validity(), 0.5)
    }

    /// Renews both for as long as the program runs.
    pub(crate) async fn keep_fresh(mut self, around: Surroundings, stop: CancellationToken) {
        let mut failure: Option<String> = None;
        let mut followed = true;
        loop {
            self.show(&around, failure.as_deref());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = self.given.changed(), if followed => followed = changed.is_ok(),
                () = tokio::time::sleep(self.pace.look_every) => {}
            }
            failure = self.look(&around).await.err().map(|error| format!("{error:#}"));
            if let Some(failure) = &failure {
                tracing::error!("the certificate cannot be renewed: {failure}");
            }
            if let Err(error) = self.operator() {
                tracing::error!("the operator credential cannot be renewed: {error:#}");
            }
        }
    }

    fn show(&self, around: &Surroundings, failure: Option<&str>) {
        let (current, fault) = (around.identity.current(), self.given.borrow().fault.clone());
        around.metrics.identity_until(current.not_after());
        match (failure, fault) {
            _ if self.clock.now() > current.not_after() => {
                around.condition.fails("the certificate of the service has expired and could not be renewed");
            }
            (Some(error), _) => around.condition.endangered(format!("the certificate cannot be renewed: {error}")),
            (None, Some(fault)) => {
                around.condition.endangered(format!("the authority that was there before stays in use: {fault}"));
            }
            (None, None) => around.condition.holds(),
        }
    }

    /// Does what is due now.
    async fn look(&self, around: &Surroundings) -> anyhow::Result<()> {
        let given = Arc::clone(&self.given.borrow().authority);
        let former = self.authority();
        let other = given.fingerprint() != former.fingerprint();
        let news = self.tell(around, if other { vec![&*given, &*former] } else { vec![&*given] }).await?;
        // Whoever has just been told of another authority gets the time to take that in.
        if news || self.clock.now() < self.in_use.borrow().renewal {
            return Ok(());
        }
        let svid = self.service(&given)?;
        tracing::info!(serial = svid.serial(), "certificate renewed");
        self.will_renew(&svid);
        around.identity.replace(svid);
        if other {
            self.in_use.send_modify(|in_use| in_use.authority = Arc::clone(&given));
            tracing::warn!(
                authority = %given.fingerprint(), former = %former.fingerprint(),
                "the certificate of the service is of another authority now: tokens made before and copies of the operator credential are void"
            );
        }
        self.tell(around, vec![&*given]).await.map(drop)
    }

    /// Has the members believe these authorities, and no others; whether that is news to them.
    async fn tell(&self, around: &Surroundings, authorities: Vec<&Authority>) -> anyhow::Result<bool> {
        let bundle = TrustBundle {
            trust_domain: self.authority().trust_domain().clone(),
            sequence: 0,
            authorities: authorities.into_iter().map(|authority| authority.certificate().clone()).collect(),
        };
        let decision = move |state: &State| {
            let writes = state.announce(&bundle);
            let news = !writes.is_empty();
            Ok::<_, Infallible>((writes, news))
        };
        match around.registry.decide(By::service(self.clock.now()), decision).await {
            Ok((news, _)) => Ok(news),
            Err(Undecided::Refused(never)) => match never {},
            Err(Undecided::Unavailable(reason)) => anyhow::bail!("members cannot be told of the authority: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use federation_model::spiffe::TrustDomain;

    use super::*;

    #[test]
    fn the_operator_credential_is_renewed_at_half_life() {
        let dir = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicU64::new(1_800_000_000));
        let read = Arc::clone(&time);
        let clock = Clock::new(move || Timestamp(read.load(Ordering::Relaxed)).into());
        let domain = TrustDomain::new("federation.internal").unwrap();
        let life = Validity::starting(clock.now(), Duration::from_secs(10 * 365 * 86_400));
        let authority = Arc::new(Authority::generate(&domain, "federation", life).unwrap());
        let operator_dir = dir.path().join("operator");
        let (_keep, given) = watch::channel(Given { authority: Arc::clone(&authority), fault: None });
        let (in_use, _) = watch::channel(InUse { authority, renewal: Timestamp(0) });
        let pace = Pace::default();
        let issuer = Issuer { names: Vec::new(), operator_dir: operator_dir.clone(), clock, pace, given, in_use };
        let written = || std::fs::read_to_string(operator_dir.join("tls.crt")).unwrap();
        issuer.operator().unwrap();
        let first = written();
        issuer.operator().unwrap();
        assert_eq!(written(), first);
        time.fetch_add(200 * 86_400, Ordering::Relaxed);
        issuer.operator().unwrap();
        assert_ne!(written(), first);
    }
}
