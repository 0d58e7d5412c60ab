//! Trust domains outside the cluster set, and the bundle endpoints they are read from (SPIFFE Federation, section 5).
//!
//! Owns the triple of trust domain, URL and profile, which people state and nobody infers. Never fetches anything.

use std::{fmt, str::FromStr};

use crate::{
    addr::GatewayAddr,
    spiffe::{SpiffeId, TrustDomain},
};

/// The longest URL of a bundle endpoint, bytes.
pub const MAX_URL: usize = 2048;
/// The port of a URL that names none.
const HTTPS_PORT: u16 = 443;

/// The URL of a bundle endpoint: `https://host[:port][/path]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BundleUrl {
    address: GatewayAddr,
    path: String,
}

impl BundleUrl {
    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> &GatewayAddr {
        &self.address
    }

    /// What to ask for: path and query, starting with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as they stand in the URL and in the `Host` header: the port of HTTPS is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        let text = self.address.to_string();
        match self.address.port().number() {
            HTTPS_PORT => text.trim_end_matches(":443").to_owned(),
            _ => text,
        }
    }
}

/// Why a text is not the URL of a bundle endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the URL of a bundle endpoint ({reason}): write https://host[:port]/path")]
pub struct BundleUrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for BundleUrl {
    type Err = BundleUrlError;
    fn from_str(text: &str) -> Result<Self, BundleUrlError> {
        let fail = |reason| BundleUrlError { text: text.chars().take(120).collect(), reason };
        if text.len() > MAX_URL {
            return Err(fail("it is too long"));
        }
        let rest = text.strip_prefix("https://").ok_or_else(|| fail("it does not start with https://"))?;
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(fail("it has characters that must be percent-encoded"));
        }
        if rest.contains('#') {
            return Err(fail("it has a fragment, which is not sent to anybody"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        // SPIFFE Federation section 5.1 forbids it, for it would be a secret in a setting.
        if authority.contains('@') {
            return Err(fail("it has a user name"));
        }
        let address = authority
            .parse()
            .or_else(|_| format!("{authority}:{HTTPS_PORT}").parse())
            .map_err(|_| fail("the host is neither a DNS name nor an address"))?;
        Ok(Self { address, path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") } })
    }
}

impl fmt::Display for BundleUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for BundleUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How a bundle endpoint proves who it is (SPIFFE Federation, section 5.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointProfile {
    /// By a certificate for the name in the URL, of an authority of the web.
    HttpsWeb,
    /// By an X.509-SVID with exactly this id.
    HttpsSpiffe {
        /// The id; it may lie in another trust domain than the one that is served.
        endpoint_id: SpiffeId,
    },
}

impl EndpointProfile {
    /// The name of the profile.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::HttpsWeb => "https_web",
            Self::HttpsSpiffe { .. } => "https_spiffe",
        }
    }

    /// The id the endpoint must present, when the profile has one.
    #[must_use]
    pub const fn endpoint_id(&self) -> Option<&SpiffeId> {
        match self {
            Self::HttpsWeb => None,
            Self::HttpsSpiffe { endpoint_id } => Some(endpoint_id),
        }
    }
}

/// Where the bundle of a foreign trust domain is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSource {
    /// The trust domain; whatever the endpoint serves counts for no other.
    pub trust_domain: TrustDomain,
    /// The endpoint.
    pub url: BundleUrl,
    /// How the endpoint proves who it is.
    pub profile: EndpointProfile,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_survive_display_and_parse_and_lose_the_port_of_https() {
        for (text, shown, address, path) in [
            ("https://spire.example/bundle", "https://spire.example/bundle", "spire.example:443", "/bundle"),
            ("https://spire.example:443", "https://spire.example/", "spire.example:443", "/"),
            ("https://spire.example:8443/a?b=c", "https://spire.example:8443/a?b=c", "spire.example:8443", "/a?b=c"),
            ("https://spire.example?b=c", "https://spire.example/?b=c", "spire.example:443", "/?b=c"),
            ("https://192.0.2.1:4430/", "https://192.0.2.1:4430/", "192.0.2.1:4430", "/"),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]/", "[2001:db8::1]:443", "/"),
        ] {
            let url: BundleUrl = text.parse().unwrap();
            assert_eq!(
                (url.to_string().as_str(), url.address().to_string().as_str(), url.path()),
                (shown, address, path)
            );
            assert_eq!(url.to_string().parse::<BundleUrl>().unwrap(), url);
        }
    }

    #[test]
    fn anything_but_a_plain_https_url_is_refused_with_the_form_to_write() {
        for text in [
            "",
            "spire.example",
            "http://spire.example/",
            "https://",
            "https:///bundle",
            "https://user:secret@spire.example/",
            "https://spire.example/#keys",
            "https://spire.example/a b",
            "https://spire.example/\r\nx: y",
            "https://spire.example:0/",
            "https://2001:db8::1/",
            &format!("https://spire.example/{}", "a".repeat(MAX_URL)),
        ] {
            assert!(text.parse::<BundleUrl>().unwrap_err().to_string().contains("write https://host"), "{text}");
        }
    }
}
