//! How sessions and tunnels end.
//!
//! Owns the errors of a session and the codes tunnels are closed with. Never closes anything.

use std::time::Duration;

use federation_model::{
    catalog::{CatalogError, MAX_SERVICES},
    names::ClusterName,
};
use proto::convert::ConvertError;

use super::greeting::VersionRange;

/// What the peer did that ends the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// It said nothing.
    #[error("the peer said no hello within {after:?}; look at the log of its gateway")]
    NoHello {
        /// For how long.
        after: Duration,
    },
    /// It began with another message.
    #[error("the peer's first message is not a hello")]
    NoHelloFirst,
    /// It greeted again.
    #[error("the peer said hello twice")]
    SecondHello,
    /// It speaks other versions.
    #[error("the peer speaks tunnel protocol versions {peer}, this gateway {own}; upgrade the older of the two")]
    NoCommonVersion {
        /// The versions of this side.
        own: VersionRange,
        /// The versions of the peer.
        peer: VersionRange,
    },
    /// It calls itself another cluster than its certificate does.
    #[error(
        "the peer calls itself {claimed:?}, but is authenticated as {authenticated}; compare cluster.name of its gateway with its membership"
    )]
    WrongCluster {
        /// The name in its hello.
        claimed: String,
        /// The name its certificate belongs to.
        authenticated: ClusterName,
    },
    /// A field of its hello is not usable.
    #[error("the peer's hello is not usable: {0}")]
    BadHello(ConvertError),
    /// A catalog, or a delta, is none.
    #[error("the peer's catalog does not convert: {0}")]
    BadCatalog(ConvertError),
    /// A catalog is of another cluster or over a limit.
    #[error("the peer's catalog is not accepted: {0}")]
    CatalogRefused(#[from] CatalogError),
    /// It acknowledged what was never sent.
    #[error("the peer acknowledged revision {acknowledged}, but {sent} is the last one sent")]
    UnknownAck {
        /// The revision it names.
        acknowledged: u64,
        /// The last one sent.
        sent: u64,
    },
    /// It asks for snapshots without end.
    #[error(
        "the peer asked for {0} snapshots in a row without taking a delta; compare the versions of the two gateways"
    )]
    SnapshotsInARow(u32),
    /// Its deltas never lead to the catalog it claims.
    #[error("the peer's deltas diverged {0} times in a row; compare the versions of the two gateways")]
    Diverging(u32),
    /// What it says of trust is not usable.
    #[error("the peer's credential, or its word on this cluster's bundle, is not usable: {0}")]
    BadCredential(&'static str),
    /// It wants to be judged anew without end.
    #[error("the peer sent too many credentials; look at the log of its gateway")]
    TooManyCredentials,
    /// What it says of its imports is not usable.
    #[error("the peer's report on its imports does not convert: {0}")]
    BadReport(ConvertError),
    /// It imports more than there can be.
    #[error("the peer reports on {0} imports of this cluster, which exports {MAX_SERVICES} services at most")]
    TooManyReported(usize),
    /// It fell silent.
    #[error("nothing was heard of the peer for {for_}; look at the path and at its gateway", for_ = humane(*.after))]
    Silent {
        /// For how long.
        after: Duration,
    },
}

fn humane(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

impl SessionError {
    /// What the tunnel is closed with.
    #[must_use]
    pub const fn close_reason(&self) -> CloseReason {
        match self {
            Self::NoHello { .. } | Self::Silent { .. } => CloseReason::Silent,
            Self::NoCommonVersion { .. } => CloseReason::VersionMismatch,
            Self::WrongCluster { .. } => CloseReason::WrongCluster,
            Self::BadCatalog(_) | Self::CatalogRefused(_) => CloseReason::BadCatalog,
            Self::NoHelloFirst
            | Self::SecondHello
            | Self::BadHello(_)
            | Self::UnknownAck { .. }
            | Self::BadCredential(_)
            | Self::TooManyCredentials
            | Self::BadReport(_)
            | Self::TooManyReported(_)
            | Self::SnapshotsInARow(_)
            | Self::Diverging(_) => CloseReason::ProtocolViolation,
        }
    }
}

macro_rules! close_reasons {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal, $label:literal; )*) => {
        /// Why a tunnel is closed. Codes are part of the tunnel protocol: never reuse one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CloseReason { $( $(#[$doc])* $variant, )* }

        impl CloseReason {
            /// Every reason, in order of code.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The application close code of the connection.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $( Self::$variant => $code, )* }
            }

            /// The word in logs and metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $( Self::$variant => $label, )* }
            }

            /// The reason of a code received, when this version knows it.
            #[must_use]
            pub const fn from_code(code: u64) -> Option<Self> {
                match code { $( $code => Some(Self::$variant), )* _ => None }
            }
        }
    };
}

close_reasons! {
    /// The gateway has stopped; its streams are done.
    Stopped = 0, "stopped";
    /// The cluster or the identity was removed or revoked.
    Revoked = 1, "revoked";
    /// The tunnel is one too many between these two gateways.
    Superseded = 2, "superseded";
    /// No protocol version is spoken by both.
    VersionMismatch = 10, "version-mismatch";
    /// The peer calls itself another cluster than its certificate does.
    WrongCluster = 11, "wrong-cluster";
    /// The peer's catalog is not acceptable.
    BadCatalog = 12, "bad-catalog";
    /// The peer broke the protocol of the control stream.
    ProtocolViolation = 13, "protocol-violation";
    /// The peer fell silent.
    Silent = 14, "silent";
    /// The certificate of the peer has expired, and no newer one came.
    Expired = 15, "expired";
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}
