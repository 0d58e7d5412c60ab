//! The zone among the stub domains of kube-dns, which are JSON: `{"zone": ["address"]}`.
//!
//! JSON has no comments, so what is ours is known by an annotation that repeats the addresses.

use std::net::IpAddr;

use federation_model::sni::Zone;
use serde_json::{Map, Value};

/// The addresses that were written.
pub(super) const ANNOTATION: &str = "landbridge.dev/stub-domain";

/// Why the stub domains are left as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StubError {
    #[error("stubDomains is not a JSON object of lists of addresses: {0}")]
    Unread(String),
    #[error("an entry that is not ours has the zone asked of {0}")]
    Claimed(String),
}

/// The stub domains of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stubs<'a> {
    domains: Map<String, Value>,
    ours: Option<&'a str>,
}

/// How addresses are written into the annotation.
pub(super) fn written(servers: &[IpAddr]) -> String {
    servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl<'a> Stubs<'a> {
    /// Reads the text, of which none is as good as an empty one; `ours` is the annotation.
    pub(super) fn read(text: Option<&str>, ours: Option<&'a str>) -> Result<Self, StubError> {
        let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or("{}");
        let domains = serde_json::from_str(text).map_err(|error| StubError::Unread(error.to_string()))?;
        Ok(Self { domains, ours })
    }

    fn key(&self, zone: &Zone) -> Option<&String> {
        let is_zone = |key: &&String| key.strip_suffix('.').unwrap_or(key).eq_ignore_ascii_case(zone.as_str());
        self.domains.keys().find(is_zone)
    }

    /// Who is asked about the zone; whether by us.
    pub(super) fn asked(&self, zone: &Zone) -> Option<(Vec<String>, bool)> {
        let servers = self.domains.get(self.key(zone)?)?;
        let servers = servers.as_array().into_iter().flatten();
        let servers: Vec<_> = servers.map(|server| server.as_str().unwrap_or_default().to_owned()).collect();
        let ours = self.ours == Some(servers.join(",").as_str());
        Some((servers, ours))
    }

    /// The text with the zone; nothing where it is there already.
    pub(super) fn install(&self, zone: &Zone, servers: &[IpAddr], force: bool) -> Result<Option<String>, StubError> {
        match self.asked(zone) {
            Some((asked, _)) if asked.join(",") == written(servers) => return Ok(None),
            Some((asked, false)) if !force => return Err(StubError::Claimed(asked.join(" and "))),
            Some(_) | None => {}
        }
        let mut domains = self.domains.clone();
        let key = self.key(zone).cloned().unwrap_or_else(|| zone.to_string());
        domains.insert(key, servers.iter().map(ToString::to_string).collect());
        Ok(Some(Value::Object(domains).to_string()))
    }

    /// The text without the zone, none when it was the only one; nothing where ours is not there.
    pub(super) fn uninstall(&self, zone: &Zone) -> Option<Option<String>> {
        let key = self.key(zone).filter(|_| self.asked(zone).is_some_and(|(_, ours)| ours))?;
        let mut domains = self.domains.clone();
        domains.remove(key);
        Some((!domains.is_empty()).then(|| Value::Object(domains).to_string()))
    }
}
