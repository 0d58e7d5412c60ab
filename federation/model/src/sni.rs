//! The host names that name a service of the cluster set, in both directions.
//!
//! Owns the grammar: `<service>.<namespace>.svc.<zone>` (KEP-1645, multi-cluster DNS) and Istio's
//! `outbound_.<port>_.<subset>_.<host>`. Never decides whether the service exists.

use std::{fmt, str::FromStr};

use crate::{
    addr::Port,
    names::{NameError, ServiceKey},
};

/// The zone of the cluster set, lowercase and without a trailing dot; `clusterset.local` unless configured.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Zone(String);

impl Zone {
    /// The zone as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which a service is reached: `<service>.<namespace>.svc.<zone>`.
    #[must_use]
    pub fn host_of(&self, key: &ServiceKey) -> String {
        format!("{}.{}.svc.{}", key.name, key.namespace, self.0)
    }

    /// The service named by `host`, which may end in a dot and be in any case.
    ///
    /// # Errors
    /// When the host lies outside the zone, or a label of it is not a name.
    pub fn service_of(&self, host: &str) -> Result<ServiceKey, HostError> {
        let lower = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let rest = lower
            .strip_suffix(self.0.as_str())
            .and_then(|rest| rest.strip_suffix(".svc."))
            .ok_or_else(|| self.outside(&lower))?;
        let (name, namespace) = rest.split_once('.').ok_or_else(|| HostError::Shape(lower.clone()))?;
        Ok(ServiceKey::new(namespace.parse()?, name.parse()?))
    }
}

impl Zone {
    /// Why a host that is not below `svc.<zone>` is none of this set, with what its kind needs instead.
    fn outside(&self, lower: &str) -> HostError {
        let host: String = lower.chars().take(253).collect();
        // `global` is what Istio called services of other clusters until 1.8.
        if lower.ends_with(".svc.cluster.local") || lower.ends_with(".global") {
            return HostError::ClusterLocal { host, zone: self.clone() };
        }
        // <account>.<namespace>.serviceaccount.identity.<control plane>.<trust domain>
        if lower.contains(".serviceaccount.identity.") {
            return HostError::LinkerdIdentity(host);
        }
        HostError::OutsideZone { host, zone: self.clone() }
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self("clusterset.local".to_owned())
    }
}

impl FromStr for Zone {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        for label in lower.split('.') {
            label.parse::<crate::names::ServiceName>()?;
        }
        Ok(Self(lower))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a host does not name a service of the cluster set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The host is not below `svc.<zone>`.
    #[error("{host:?} is not below svc.{zone}")]
    OutsideZone {
        /// The host, lowercase.
        host: String,
        /// The zone of this gateway.
        zone: Zone,
    },
    /// The host names a service of one cluster alone.
    #[error(
        "{host:?} names a service of the client's own cluster (KEP-1645): use its name in the cluster set, <service>.<namespace>.svc.{zone}; in Istio, a ServiceEntry for that host"
    )]
    ClusterLocal {
        /// The host, lowercase.
        host: String,
        /// The zone of this gateway.
        zone: Zone,
    },
    /// The host is the identity of a meshed workload.
    #[error(
        "{0:?} is an identity of Linkerd and names no service: connect to the service's name or import address, where the server name is not looked at"
    )]
    LinkerdIdentity(String),
    /// The host has too few labels.
    #[error("{0:?} is not <service>.<namespace>.svc.<zone>")]
    Shape(String),
    /// A label is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The Istio form has no valid port.
    #[error("{0:?} is not outbound_.<port>_.<subset>_.<host>")]
    Istio(String),
}

/// What a server name asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniTarget {
    /// The service.
    pub service: ServiceKey,
    /// The service port, named by Istio's form alone.
    pub port: Option<Port>,
    /// The subset of Istio's form; Landbridge has no subsets, so it is kept for the log alone.
    pub subset: Option<String>,
}

impl SniTarget {
    /// The target of a plain host name.
    #[must_use]
    pub fn service(service: ServiceKey) -> Self {
        Self { service, port: None, subset: None }
    }

    /// Parses a server name in either form.
    ///
    /// # Errors
    /// When the name has neither form or lies outside `zone`.
    pub fn parse(sni: &str, zone: &Zone) -> Result<Self, HostError> {
        let Some(rest) = sni.strip_prefix("outbound_.") else {
            return zone.service_of(sni).map(Self::service);
        };
        let malformed = || HostError::Istio(sni.chars().take(253).collect());
        let mut parts = rest.splitn(3, "_.");
        let (Some(port), Some(subset), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(malformed());
        };
        let port = port.parse().ok().and_then(Port::new).ok_or_else(malformed)?;
        Ok(Self {
            service: zone.service_of(host)?,
            port: Some(port),
            subset: (!subset.is_empty()).then(|| subset.to_owned()),
        })
    }

    /// The server name that asks for this target.
    #[must_use]
    pub fn to_sni(&self, zone: &Zone) -> String {
        let host = zone.host_of(&self.service);
        match self.port {
            None => host,
            Some(port) => format!("outbound_.{port}_.{}_.{host}", self.subset.as_deref().unwrap_or("")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(sni: &str) -> Result<SniTarget, HostError> {
        SniTarget::parse(sni, &Zone::default())
    }

    #[test]
    fn istio_names_give_the_service_port_and_subset() {
        let target = parse("outbound_.8443_.v1_.api.production.svc.clusterset.local").unwrap();
        assert_eq!(target.service.to_string(), "production/api");
        assert_eq!(target.port, Port::new(8443));
        assert_eq!(target.subset.as_deref(), Some("v1"));
        assert_eq!(parse("outbound_.80_._.api.production.svc.clusterset.local").unwrap().subset, None);
    }

    #[test]
    fn names_outside_the_zone_or_the_grammar_are_refused() {
        for sni in [
            "",
            "example.com",
            "api.production.svc.cluster.local",
            "svc.clusterset.local",
            "api.svc.clusterset.local",
            "x.api.production.svc.clusterset.local",
            "api.production.svcclusterset.local",
            "outbound_.0_._.api.production.svc.clusterset.local",
            "outbound_.80_.api.production.svc.clusterset.local",
        ] {
            assert!(parse(sni).is_err(), "{sni}");
        }
    }

    #[test]
    fn names_of_other_meshes_are_refused_with_what_to_do() {
        let said = |sni| parse(sni).unwrap_err().to_string();
        for local in ["api.production.svc.cluster.local", "outbound_.80_._.api.production.svc.cluster.local"] {
            assert!(said(local).contains("use its name in the cluster set"), "{}", said(local));
        }
        assert!(said("outbound_.80_._.api.production.global").contains("<service>.<namespace>.svc.clusterset.local"));
        let linkerd = said("web.production.serviceaccount.identity.linkerd.cluster.local");
        assert!(linkerd.contains("identity of Linkerd") && linkerd.contains("import address"), "{linkerd}");
        assert!(matches!(parse("example.com"), Err(HostError::OutsideZone { .. })));
    }

    #[test]
    fn a_zone_that_is_cluster_local_takes_its_own_names() {
        let zone: Zone = "cluster.local".parse().unwrap();
        assert!(SniTarget::parse("outbound_.80_._.api.production.svc.cluster.local", &zone).is_ok());
    }

    #[test]
    fn case_and_the_trailing_dot_do_not_matter() {
        assert_eq!(parse("API.Production.SVC.ClusterSet.Local.").unwrap().service.to_string(), "production/api");
    }

    proptest! {
        #[test]
        fn every_target_survives_the_round_trip(
            ns in "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?",
            name in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?",
            istio in proptest::option::of((1u16.., proptest::option::of("[a-z0-9]{1,8}"))),
        ) {
            let service = ServiceKey::new(ns.parse().unwrap(), name.parse().unwrap());
            let target = match istio {
                None => SniTarget::service(service),
                Some((port, subset)) => SniTarget { service, port: Port::new(port), subset },
            };
            prop_assert_eq!(parse(&target.to_sni(&Zone::default())).unwrap(), target);
        }

        #[test]
        fn arbitrary_names_never_panic(sni in "\\PC*") {
            let _ = parse(&sni);
        }
    }
}
