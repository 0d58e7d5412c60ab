//! Settings that are well-formed and cannot work.
//!
//! Owns the words. Never judges: [`super::Config::checked`] does.

use std::time::Duration;

use federation_model::member::MAX_ADVERTISED;

use super::{LONGEST, kubernetes::MAX_NAMESPACES};

/// A setting that is well-formed but cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigConflict {
    /// Keep-alives must fit into the idle time-out several times.
    #[error("tunnel.keep_alive ({keep_alive:?}) must be at most a third of tunnel.idle_timeout ({idle_timeout:?})")]
    KeepAlive {
        /// As configured.
        keep_alive: Duration,
        /// As configured.
        idle_timeout: Duration,
    },
    /// Too many addresses.
    #[error("tunnel.advertise has {0} addresses, {MAX_ADVERTISED} are accepted")]
    Advertise(usize),
    /// A time that is none, or so long that sums with it have no end.
    #[error("{key} is {value:?}; write a time between {least:?} and {LONGEST:?}")]
    Time {
        /// The setting.
        key: &'static str,
        /// As configured.
        value: Duration,
        /// The shortest that works.
        least: Duration,
    },
    /// A limit that lets nothing through, or that is none.
    #[error("{key} is {value}; write a number between 1 and {most}")]
    Count {
        /// The setting.
        key: &'static str,
        /// As configured.
        value: usize,
        /// The most that works.
        most: usize,
    },
    /// The source of the identity lacks its directory.
    #[error(
        "identity.source is \"files\" and identity.dir is not set; write the directory with tls.crt, tls.key and ca.crt"
    )]
    IdentityDir,
    /// A context of no file.
    #[error(
        "kubernetes.context is set and kubernetes.kubeconfig is not; write the kubeconfig file that has the context"
    )]
    Context,
    /// Too many watches.
    #[error(
        "kubernetes.namespaces has {0} entries, {MAX_NAMESPACES} are accepted; leave it empty to watch the cluster"
    )]
    Namespaces(usize),
    /// Too short a certificate lifetime.
    #[error("identity.ttl is {0:?}; write at least 10s, so that a renewal fits in before the certificate expires")]
    Ttl(Duration),
}
