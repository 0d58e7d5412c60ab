//! The settings of the federation service.
//!
//! Owns their names, defaults and what is checked before anything starts. Never reads a file: `federation_runtime::config`
//! does.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use federation_model::{addr::GatewayAddr, spiffe::TrustDomain};
use federation_pki::{ca::SubjectName, token::MAX_ADDRESSES};
use federation_runtime::telemetry::LogConfig;
use serde::Deserialize;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where gateways and operators connect.
    pub grpc: Grpc,
    /// Health, metrics and views.
    pub admin: Admin,
    /// Where the set is kept.
    pub store: Store,
    /// The service's own identity.
    pub trust: Trust,
    /// Joining.
    pub join: Join,
    /// Bundles for others, and bundles of others.
    pub bundles: Bundles,
    /// Logs.
    pub log: LogConfig,
}

/// Section `[grpc]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// The TCP address to listen on.
    pub listen: SocketAddr,
    /// `host` or `host:port` under which gateways reach the service; written into every token.
    pub names: Vec<String>,
}

impl Default for Grpc {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 15010)), names: Vec::new() }
    }
}

/// Section `[admin]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// The TCP address to listen on.
    pub listen: SocketAddr,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 15011)) }
    }
}

/// Section `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `file:DIR`.
    pub url: String,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "file:./state".to_owned() }
    }
}

/// Section `[trust]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Trust {
    /// The trust domain of the service itself; no cluster may have it.
    #[serde(with = "federation_model::spiffe::as_text")]
    pub domain: TrustDomain,
    /// Refuse to make an authority (`ca_dir` must be given), and members whose authority is self-signed.
    pub require_external_ca: bool,
    /// A file with the roots that members' authorities must lead to, in PEM; looked at when `require_external_ca` is true.
    pub external_roots: Option<PathBuf>,
    /// A directory with `tls.crt` and `tls.key` of an authority to issue from (the layout of a cert-manager Secret), followed
    /// live. Members are told of another one at once; it is used from the next renewal of the service's certificate on.
    pub ca_dir: Option<PathBuf>,
}

impl Default for Trust {
    fn default() -> Self {
        let domain = TrustDomain::new("federation.internal").expect("the constant is a valid trust domain");
        Self { domain, require_external_ca: false, external_roots: None, ca_dir: None }
    }
}

/// Section `[join]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Join {
    /// How long a token lives when its maker does not say.
    #[serde(with = "humantime_serde")]
    pub token_ttl: Duration,
    /// The longest life of a token.
    #[serde(with = "humantime_serde")]
    pub max_token_ttl: Duration,
    /// Refused joins of one address until it must wait; one more is allowed every six seconds.
    pub failures: u32,
    /// Whether a cluster that joins waits until an operator has compared its fingerprint and approved it.
    pub require_approval: bool,
}

impl Default for Join {
    fn default() -> Self {
        Self {
            token_ttl: Duration::from_secs(15 * 60),
            max_token_ttl: Duration::from_secs(24 * 3600),
            failures: 10,
            require_approval: false,
        }
    }
}

/// Section `[bundles]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bundles {
    /// The TCP address of the bundle endpoint that presents the service's own SVID (`https_spiffe`).
    pub listen: Option<SocketAddr>,
    /// The TCP address of the one that presents a certificate of the web (`https_web`).
    pub web_listen: Option<SocketAddr>,
    /// The directory with `tls.crt` and `tls.key` of the latter, followed live.
    pub web_dir: Option<PathBuf>,
    /// How often others are to read the bundles of this set.
    #[serde(with = "humantime_serde")]
    pub refresh_hint: Duration,
    /// A PEM file of the authorities that `https_web` endpoints of foreign trust domains are believed by.
    pub web_roots: Option<PathBuf>,
}

impl Default for Bundles {
    fn default() -> Self {
        let refresh_hint = Duration::from_secs(5 * 60);
        Self { listen: None, web_listen: None, web_dir: None, refresh_hint, web_roots: None }
    }
}

/// The shortest and the longest `bundles.refresh_hint`: a removed authority is believed for as long.
const REFRESH_HINTS: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(24 * 3600);

/// Settings that cannot be used together or do not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A store that this version does not have.
    #[error("`store.url` is {0:?}: this version keeps the set in a directory, write file:DIR")]
    Store(String),
    /// A name that is none.
    #[error("`grpc.names` has {0:?}: write host or host:port, the host a DNS name or an address")]
    Name(String),
    /// Too many names.
    #[error("`grpc.names` has {0} names: a token holds {MAX_ADDRESSES}")]
    TooManyNames(usize),
    /// Tokens that never are valid.
    #[error("`join.token_ttl` and `join.max_token_ttl` must be at least a second, and the first not above the second")]
    TokenTtl,
    /// An endpoint of the web without a certificate.
    #[error("`bundles.web_listen` needs `bundles.web_dir`: a directory with tls.crt and tls.key of a web certificate")]
    WebDir,
    /// A hint nobody should follow.
    #[error("`bundles.refresh_hint` is {0:?}: from one minute to one day")]
    RefreshHint(Duration),
}

/// One entry of `grpc.names`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerName {
    host: String,
    port: Option<u16>,
}

impl FromStr for ServerName {
    type Err = SettingError;
    fn from_str(text: &str) -> Result<Self, SettingError> {
        let fail = || SettingError::Name(text.to_owned());
        let (host, port) = match text.parse::<IpAddr>() {
            Ok(ip) => (SocketAddr::new(ip, 0).to_string().trim_end_matches(":0").to_owned(), None),
            Err(_) => match text.rsplit_once(':') {
                Some((host, port)) => (host.to_owned(), Some(port.parse().map_err(|_| fail())?)),
                None => (text.to_owned(), None),
            },
        };
        let name = Self { host, port };
        name.address(1).map(|_| name).ok_or_else(fail)
    }
}

impl ServerName {
    /// Where it is reached when the service listens on `port`.
    pub(crate) fn address(&self, port: u16) -> Option<GatewayAddr> {
        format!("{}:{}", self.host, self.port.unwrap_or(port)).parse().ok()
    }

    /// For the certificate.
    pub(crate) fn subject(&self) -> Option<SubjectName> {
        self.host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }
}

impl Config {
    /// The directory of the store.
    pub(crate) fn directory(&self) -> Result<PathBuf, SettingError> {
        match self.store.url.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path))),
            Some(_) | None => Err(SettingError::Store(self.store.url.clone())),
        }
    }

    pub(crate) fn names(&self) -> Result<Vec<ServerName>, SettingError> {
        if self.grpc.names.len() > MAX_ADDRESSES {
            return Err(SettingError::TooManyNames(self.grpc.names.len()));
        }
        self.grpc.names.iter().map(|name| name.parse()).collect()
    }

    /// Checks what no type checks.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), SettingError> {
        self.directory()?;
        self.names()?;
        let least = Duration::from_secs(1);
        if self.join.token_ttl < least || self.join.token_ttl > self.join.max_token_ttl {
            return Err(SettingError::TokenTtl);
        }
        if self.bundles.web_listen.is_some() && self.bundles.web_dir.is_none() {
            return Err(SettingError::WebDir);
        }
        if !REFRESH_HINTS.contains(&self.bundles.refresh_hint) {
            return Err(SettingError::RefreshHint(self.bundles.refresh_hint));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_addresses_with_the_port_of_the_listener_unless_they_have_one() {
        for (text, address) in [
            ("federation.example", "federation.example:15010"),
            ("federation.example:443", "federation.example:443"),
            ("192.0.2.1", "192.0.2.1:15010"),
            ("2001:db8::1", "[2001:db8::1]:15010"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ] {
            let name: ServerName = text.parse().unwrap();
            assert_eq!(name.address(15010).unwrap().to_string(), address);
            assert!(name.subject().is_some(), "{text}");
        }
        for text in ["", "a b", "a:x", "a:0"] {
            assert!(text.parse::<ServerName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_store_that_is_not_a_directory_is_refused_with_what_to_write() {
        let with = |url: &str| Config { store: Store { url: url.to_owned() }, ..Config::default() };
        assert_eq!(with("file:/var/lib/landbridge").directory().unwrap(), PathBuf::from("/var/lib/landbridge"));
        assert_eq!(with("file:///var/lib/landbridge").directory().unwrap(), PathBuf::from("/var/lib/landbridge"));
        for url in ["etcd://a:2379", "file:", "state"] {
            assert!(with(url).check().unwrap_err().to_string().contains("write file:DIR"), "{url}");
        }
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn bundle_settings_that_cannot_work_are_refused() {
        let with = |bundles| Config { bundles, ..Config::default() }.check().unwrap_err().to_string();
        let web_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        assert!(with(Bundles { web_listen, ..Bundles::default() }).contains("`bundles.web_dir`"));
        for seconds in [0, 59, 86_401] {
            let refresh_hint = Duration::from_secs(seconds);
            assert!(with(Bundles { refresh_hint, ..Bundles::default() }).contains("from one minute to one day"));
        }
    }
}
