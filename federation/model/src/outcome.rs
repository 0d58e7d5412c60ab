//! How a connection ended: one closed enum from which the log word, the metric label, the reset code and the remedy derive.
//!
//! Owns the list. Never decides an outcome: the stages do.

macro_rules! outcomes {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal, $label:literal, $side:ident, $remedy:literal; )*) => {
        /// How a connection ended. Codes are part of the tunnel protocol: never reuse one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Outcome { $( $(#[$doc])* $variant, )* }

        impl Outcome {
            /// Every outcome, in order of code.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )*];

            /// The word in the access log and the metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $( Self::$variant => $label, )* }
            }

            /// The code on the wire: QUIC reset code and the code in a refusal.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self { $( Self::$variant => $code, )* }
            }

            /// The outcome of a code received; an unknown code is [`Outcome::PeerError`].
            #[must_use]
            pub const fn from_code(code: u64) -> Self {
                match code { $( $code => Self::$variant, )* _ => Self::PeerError }
            }

            /// Whose doing it was.
            #[must_use]
            pub const fn side(self) -> Side {
                match self { $( Self::$variant => Side::$side, )* }
            }

            /// What a person can do about it; empty when nothing went wrong.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $( Self::$variant => $remedy, )* }
            }
        }
    };
}

/// Whose doing an outcome was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Nothing went wrong.
    None,
    /// The client's.
    Client,
    /// The destination's.
    Destination,
    /// A gateway's, a tunnel's, or the configuration's.
    Gateway,
}

outcomes! {
    /// Both directions ended cleanly.
    Completed = 0, "completed", None, "";
    /// The client reset the connection.
    ClientReset = 1, "client-reset", Client, "look at the client: it aborted the connection";
    /// The destination reset the connection.
    DestinationReset = 2, "destination-reset", Destination, "look at the destination's log: it aborted the connection";
    /// No bytes in either direction for the idle limit.
    IdleTimeout = 3, "idle-timeout", Client, "raise limits.idle_timeout or let the application send keep-alives";
    /// The client said nothing, or not enough, in time.
    ClientSilent = 10, "client-silent", Client, "the listener that routes by server name, and services that are delivered as passthrough, need a ClientHello at once: let the client speak TLS, or deliver as plain";
    /// The first bytes are not TLS.
    NotTls = 11, "not-tls", Client, "use the import address for other protocols than TLS, and deliver them as plain: passthrough carries TLS alone";
    /// The ClientHello has no server name.
    NoServerName = 12, "no-server-name", Client, "make the client send the service's clusterset.local name as TLS server name";
    /// The ClientHello is malformed.
    BadHello = 13, "bad-hello", Client, "look at the client: its ClientHello does not parse, or offers nothing that is accepted";
    /// The ClientHello is over 16 KiB.
    HelloTooLarge = 14, "hello-too-large", Client, "look at the client: its ClientHello is over 16 KiB";
    /// A limit on connections was reached.
    OverCapacity = 15, "over-capacity", Gateway, "raise limits.connections or add gateway replicas";
    /// A request is malformed, over a limit, or was not complete in time.
    BadRequest = 16, "bad-request", Client, "look at the client: its HTTP is malformed, over a limit or too slow; the status it was answered with says which";
    /// The client did not prove to be a workload of this cluster.
    ClientUntrusted = 17, "client-untrusted", Client, "this listener takes workloads of this cluster alone: the client must present a valid X.509-SVID of its trust domain";
    /// No import has this name or address.
    UnknownService = 20, "unknown-service", Client, "check the name with fedctl services, and that its cluster exports it";
    /// The service has no such port.
    UnknownPort = 21, "unknown-port", Client, "check the ports with fedctl services";
    /// No cluster that exports the service has a ready endpoint and a tunnel.
    NoHealthyCluster = 22, "no-healthy-cluster", Destination, "check endpoints and tunnels with fedctl status";
    /// The tunnel was lost while the connection lived.
    TunnelLost = 30, "tunnel-lost", Gateway, "look at the path and the gateway of the other cluster: fedctl status";
    /// The stream could not be opened within its time.
    TunnelBusy = 31, "tunnel-busy", Gateway, "raise limits.streams_per_peer or add gateway replicas";
    /// The peer's stream header or reply was not understood.
    ProtocolError = 32, "protocol-error", Gateway, "compare the versions of the two gateways: fedctl status";
    /// The stream header is over its limit.
    HeaderTooLarge = 33, "header-too-large", Gateway, "shorten the principal's SPIFFE ID";
    /// The gateway is shutting down.
    Draining = 34, "draining", Gateway, "none: retried on another gateway where there is one";
    /// The peer ended the stream with a code this version does not know.
    PeerError = 35, "peer-error", Gateway, "compare the versions of the two gateways: fedctl status";
    /// The header names a principal outside the trust domain of the peer.
    ForeignPrincipal = 40, "foreign-principal", Gateway, "the peer's gateway claims an identity it cannot vouch for: treat it as compromised";
    /// A policy refuses the caller.
    Denied = 41, "denied", Client, "see the rule that is named; fedctl policy test shows what would allow it";
    /// The destination cluster does not export the service.
    NotExported = 42, "not-exported", Destination, "create the ServiceExport in the destination cluster";
    /// The peer was removed or revoked.
    Revoked = 43, "revoked", Gateway, "the cluster or identity was removed or revoked: fedctl members and fedctl revoke list show it";
    /// The address that told who calls is another pod's now, or nobody's.
    CallerGone = 44, "caller-gone", Client, "the pod that owned the client's address is gone or has given it away: whoever is there now connects anew";
    /// The destination has no ready endpoint.
    NoEndpoint = 50, "no-endpoint", Destination, "check the readiness of the service's pods in the destination cluster";
    /// The destination refused the connection.
    ConnectRefused = 51, "connect-refused", Destination, "check that the endpoint listens on its target port";
    /// The destination did not answer in time.
    ConnectTimeout = 52, "connect-timeout", Destination, "check network policies between the gateway and the endpoint";
    /// The endpoint did not prove over TLS who it is.
    EndpointUntrusted = 53, "endpoint-untrusted", Destination, "let the endpoint speak TLS 1.3 and prove what the landbridge.dev/tls-* annotations of its ServiceExport ask for";
    /// The connection was dropped without a recorded outcome: a defect.
    Aborted = 60, "aborted", Gateway, "this is a defect of Landbridge: report it with this line";
}

impl Outcome {
    /// Whether another endpoint or cluster may be tried, as long as nothing was delivered.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::NoHealthyCluster
                | Self::TunnelLost
                | Self::TunnelBusy
                | Self::Draining
                | Self::NotExported
                | Self::NoEndpoint
                | Self::ConnectRefused
                | Self::ConnectTimeout
                | Self::EndpointUntrusted
                | Self::OverCapacity
        )
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_labels_are_unique_and_codes_round_trip() {
        let mut labels = std::collections::BTreeSet::new();
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_code(outcome.code().into()), *outcome);
            assert!(labels.insert(outcome.label()), "{outcome}");
            assert_eq!(outcome.remedy().is_empty(), outcome.side() == Side::None, "{outcome}");
        }
        assert_eq!(Outcome::from_code(u64::MAX), Outcome::PeerError);
    }
}
