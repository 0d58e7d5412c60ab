//! The first message in each direction.
//!
//! Owns version negotiation and the check of the peer's name. Never believes a name the certificate does not have.

use std::{fmt, time::Instant};

use federation_model::{catalog::CatalogDigest, names::ClusterName};
use proto::{
    convert::{ConvertError, catalog},
    tunnel::v1::Hello,
};

use super::{MAX_TEXT, SessionConfig, SessionError, SessionEvent, shown};

/// The protocol versions this code speaks.
pub const PROTOCOL: VersionRange = VersionRange { min: 1, max: 1 };

/// Protocol versions, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionRange {
    /// The lowest.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl VersionRange {
    /// The highest version both speak.
    #[must_use]
    pub fn highest_common(self, other: Self) -> Option<u32> {
        let highest = self.max.min(other.max);
        (highest >= self.min.max(other.min)).then_some(highest)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// What a hello brings.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) up: SessionEvent,
    /// Which state of the local catalog the peer holds.
    pub(super) held_digest: Option<CatalogDigest>,
}

#[derive(Debug)]
pub(super) struct Greeting {
    config: SessionConfig,
    started: Instant,
    hello: Option<Hello>,
    done: bool,
}

impl Greeting {
    pub(super) fn new(
        config: SessionConfig,
        held_digest: Option<CatalogDigest>,
        now: Instant,
        wall_millis: u64,
    ) -> Self {
        let hello = Hello {
            min_version: config.versions.min,
            max_version: config.versions.max,
            cluster: config.cluster.to_string(),
            instance: shown(&config.instance),
            software: shown(&config.software),
            held_digest: held_digest.as_ref().map(catalog::digest_bytes).unwrap_or_default(),
            unix_millis: wall_millis,
            reports_imports: true,
        };
        Self { config, started: now, hello: Some(hello), done: false }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn handle_hello(&mut self, hello: Hello, peer: &ClusterName) -> Result<Greeted, SessionError> {
        let own = self.config.versions;
        let theirs = VersionRange { min: hello.min_version, max: hello.max_version };
        let version = own.highest_common(theirs).ok_or(SessionError::NoCommonVersion { own, peer: theirs })?;
        if hello.cluster != peer.as_str() {
            return Err(SessionError::WrongCluster { claimed: shown(&hello.cluster), authenticated: peer.clone() });
        }
        let held_digest = match hello.held_digest.len() {
            0 => None,
            _ => Some(catalog::digest("Hello", "held_digest", &hello.held_digest).map_err(SessionError::BadHello)?),
        };
        let instance = text("instance", hello.instance)?;
        let software = text("software", hello.software)?;
        self.done = true;
        let reports_imports = hello.reports_imports;
        Ok(Greeted { up: SessionEvent::Up { instance, software, version, reports_imports }, held_digest })
    }

    pub(super) fn handle_timeout(&self, now: Instant) -> Result<(), SessionError> {
        if self.done || now < self.poll_timeout().0 {
            return Ok(());
        }
        Err(SessionError::NoHello { after: self.config.hello_timeout })
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Hello> {
        self.hello.take()
    }

    pub(super) fn poll_timeout(&self) -> (Instant, &'static str) {
        (self.started + self.config.hello_timeout, "wait for the peer's hello")
    }
}

fn text(field: &'static str, text: String) -> Result<String, SessionError> {
    let fail = |reason| Err(SessionError::BadHello(ConvertError::new("Hello", field, reason)));
    if text.len() > MAX_TEXT {
        return fail("it is over 256 bytes");
    }
    if text.chars().any(char::is_control) {
        return fail("it has control characters");
    }
    Ok(text)
}
