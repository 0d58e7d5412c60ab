//! The pair that the `https_web` endpoint presents, from a directory that others write.
//!
//! Owns reading `tls.crt` and `tls.key` and noticing that they changed. The last good pair stays until a better one is there.
//! Never writes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use federation_model::bundle::Fingerprint;
use federation_pki::web::{WebIdentity, WebPair};
use federation_runtime::state::read_text;
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, metrics::Metrics};

/// How often the files are looked at. Looking costs two small reads, and sees every way of replacing a file.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The text of both files, or why there is none.
type Texts = Result<(String, String), String>;

/// The two files.
#[derive(Debug)]
pub(crate) struct WebPairFiles {
    pub(crate) directory: PathBuf,
    pub(crate) identity: Arc<WebIdentity>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

impl WebPairFiles {
    /// Presents what the files hold, now and whenever they change, until `stop`.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let mut seen = None;
        loop {
            let directory = self.directory.clone();
            let read = tokio::task::spawn_blocking(move || texts(&directory)).await;
            let texts = read.unwrap_or_else(|error| Err(format!("reading it panicked: {error}")));
            // A digest, so that no copy of the key stays.
            let digest = digest(&texts);
            if seen != Some(digest) {
                self.take(&texts);
                seen = Some(digest);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Presents a pair when it can be used; says so when it cannot.
    fn take(&self, texts: &Texts) {
        let directory = self.directory.display();
        match self.usable(texts) {
            Ok(pair) => {
                let until = pair.validity().not_after;
                tracing::info!(%directory, until = until.0, "the bundle endpoint presents a new web certificate");
                self.metrics.bundle_web_until(until);
                self.identity.replace(pair);
            }
            Err(reason) if self.identity.current().is_some() => {
                tracing::error!(%directory, reason, "the web certificate of the bundle endpoint cannot be used (`bundles.web_dir`): the last good one stays");
            }
            Err(reason) => {
                tracing::error!(%directory, reason, "the web certificate of the bundle endpoint cannot be used (`bundles.web_dir`): handshakes fail until it can");
            }
        }
    }

    fn usable(&self, texts: &Texts) -> Result<WebPair, String> {
        let (certificate, key) = texts.as_ref().map_err(Clone::clone)?;
        let pair = WebPair::from_pem(certificate, key).map_err(|error| error.to_string())?;
        let (validity, now) = (pair.validity(), self.clock.now());
        if now > validity.not_after {
            return Err(format!("it expired {:?} ago", now.since(validity.not_after)));
        }
        if now < validity.not_before {
            return Err(format!(
                "it is not valid for another {:?}: compare the clocks",
                validity.not_before.since(now)
            ));
        }
        Ok(pair)
    }
}

fn digest(texts: &Texts) -> Fingerprint {
    match texts {
        Ok((certificate, key)) => Fingerprint::of(&[certificate.as_bytes(), b"\0", key.as_bytes()].concat()),
        Err(reason) => Fingerprint::of(reason.as_bytes()),
    }
}

fn texts(directory: &std::path::Path) -> Texts {
    let read = |name: &str| read_text(&directory.join(name)).map_err(|error| error.to_string());
    Ok((read("tls.crt")?, read("tls.key")?))
}

#[cfg(test)]
mod tests {
    use federation_model::{
        spiffe::{TrustDomain, parse_workload_id},
        time::Timestamp,
    };
    use federation_pki::{
        ca::{Authority, SvidRequest},
        validity::Validity,
    };

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn pair(from: u64, lifetime: u64) -> (String, String) {
        let domain = TrustDomain::new("web.example").unwrap();
        let validity = Validity::starting(Timestamp(from), Duration::from_secs(lifetime));
        let authority = Authority::generate(&domain, "web", validity).unwrap();
        let id = parse_workload_id("spiffe://web.example/server").unwrap();
        let svid = authority.issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap();
        (svid.certificate_pem(), svid.key_pem().expose().to_owned())
    }

    #[test]
    fn the_last_good_pair_stays_when_a_new_one_is_not_usable() {
        let identity = Arc::new(WebIdentity::default());
        let files = WebPairFiles {
            directory: PathBuf::from("/web"),
            identity: Arc::clone(&identity),
            clock: Clock::new(|| NOW.into()),
            metrics: Metrics::default(),
        };
        let until = || identity.current().map(|pair| pair.validity().not_after.0);
        files.take(&Err("there is nothing".to_owned()));
        assert_eq!(until(), None);
        let (certificate, key) = pair(NOW.0, 3600);
        files.take(&Ok((certificate.clone(), key)));
        assert_eq!(until(), Some(NOW.0 + 3600));
        let (_, another_key) = pair(NOW.0, 7200);
        let (expired, early) = (pair(NOW.0 - 9000, 3600), pair(NOW.0 + 3600, 3600));
        for bad in [Ok((certificate, another_key)), Ok(expired), Ok(early), Err("gone".to_owned())] {
            assert!(files.usable(&bad).is_err());
            files.take(&bad);
            assert_eq!(until(), Some(NOW.0 + 3600));
        }
        files.take(&Ok(pair(NOW.0, 7200)));
        assert_eq!(until(), Some(NOW.0 + 7200));
    }
}
