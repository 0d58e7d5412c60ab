//! Whether a directory that gives nothing usable is being updated, or broken.
//!
//! Owns the time an update may take. Never reads.

use std::time::Duration;

use federation_pki::material::Material;
use tokio::time::Instant;

/// How long an update of three files may be half done. Kubernetes swaps them at once; a script that copies them needs well
/// below a second.
pub(super) const SETTLE: Duration = Duration::from_secs(5);

/// What to make of one reading.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It can be used.
    Usable(Box<Material>),
    /// Not usable, but perhaps half done: read again soon.
    Doubtful,
    /// Not usable for so long that somebody must look.
    Faulty(String),
}

/// Since when nothing usable was read.
#[derive(Debug, Default)]
pub(super) struct Settling {
    since: Option<Instant>,
}

impl Settling {
    pub(super) fn handle_reading<E: ToString>(&mut self, reading: Result<Material, E>, now: Instant) -> Verdict {
        match reading {
            Ok(material) => {
                self.since = None;
                Verdict::Usable(Box::new(material))
            }
            Err(_) if now < *self.since.get_or_insert(now) + SETTLE => Verdict::Doubtful,
            Err(error) => Verdict::Faulty(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation_model::{spiffe::TrustDomain, time::Timestamp};
    use federation_pki::{Validity, ca::Authority};

    fn material() -> Material {
        let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
        let td = TrustDomain::new("east.example").unwrap();
        Material::Issuer(Authority::generate(&td, "east", validity).unwrap().into())
    }

    #[test]
    fn an_update_that_stays_half_done_becomes_a_fault_and_one_that_is_finished_does_not() {
        let mut settling = Settling::default();
        let start = Instant::now();
        let bad = || Err::<Material, _>("half");
        assert!(matches!(settling.handle_reading(bad(), start), Verdict::Doubtful));
        assert!(matches!(settling.handle_reading(bad(), start + SETTLE / 2), Verdict::Doubtful));
        let done = settling.handle_reading(Ok::<_, String>(material()), start + SETTLE / 2);
        assert!(matches!(done, Verdict::Usable(_)));
        assert!(
            matches!(settling.handle_reading(bad(), start + SETTLE), Verdict::Doubtful),
            "a new update, a new wait"
        );
        let late = settling.handle_reading(bad(), start + 2 * SETTLE);
        assert!(matches!(&late, Verdict::Faulty(reason) if reason == "half"), "{late:?}");
    }
}
