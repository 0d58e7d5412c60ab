//! `fedctl policy` and `fedctl explain`: the options of those who decide who reaches what.
//!
//! Owns their names and texts, and the forms `[namespace/]service[:port]` and `namespace/name`. Never does anything.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use federation_model::{
    addr::Port,
    caller::Assurance,
    names::{ClusterName, Namespace, ServiceKey},
    policy::PolicyKey,
    spiffe::{SpiffeId, parse_workload_id},
};

use crate::clock::parse_span;

/// Who may reach what.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Ask what the policies decide about a call that nobody makes (exit code 1: refused)
    Test(PolicyTest),
    /// List the policies of the gateway, what they hold for, and what is wrong with them
    List,
    /// Show what policies in AUDIT would have refused
    Report(PolicyReport),
    /// Put a policy in AUDIT in force: edits its manifest, and waits until the gateway follows
    Promote(PolicyPromote),
}

/// `fedctl policy test`
#[derive(Debug, Args)]
pub struct PolicyTest {
    /// The SPIFFE ID of the caller; left out for a caller that is not known
    #[arg(long, value_name = "SPIFFE-ID", value_parser = parse_principal)]
    pub from: Option<SpiffeId>,
    /// How the caller is known
    #[arg(long, value_enum, value_name = "HOW", requires = "from")]
    pub assurance: Option<AssuranceWord>,
    /// The cluster it calls from [default: the one that has its trust domain]
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<ClusterName>,
    /// What it calls in the cluster of this gateway; every port when none is written
    #[arg(long, value_name = "NAMESPACE/SERVICE[:PORT]")]
    pub to: Destination,
    /// The method of a request, where the port is delivered as http
    #[arg(long, value_name = "METHOD", requires = "path")]
    pub method: Option<String>,
    /// The path of a request, where the port is delivered as http
    #[arg(long, value_name = "PATH", requires = "method")]
    pub path: Option<String>,
}

/// How a caller is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AssuranceWord {
    /// Its gateway vouches for it
    Attested,
    /// It proved its own key
    Mtls,
}

impl AssuranceWord {
    /// The assurance it means.
    #[must_use]
    pub fn value(self) -> Assurance {
        match self {
            Self::Attested => Assurance::Attested,
            Self::Mtls => Assurance::Mtls,
        }
    }
}

/// `fedctl policy report`
#[derive(Debug, Args)]
pub struct PolicyReport {
    /// How far back, up to 30d
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = parse_span)]
    pub since: Duration,
    /// One policy alone
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub policy: Option<PolicyName>,
}

/// `fedctl policy promote`
#[derive(Debug, Args)]
pub struct PolicyPromote {
    /// The policy
    #[arg(value_name = "NAMESPACE/NAME")]
    pub policy: PolicyName,
    /// The manifest it is in [default: where the gateway has read it]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How long to wait until the gateway follows it; 0s: do not wait
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_span)]
    pub wait: Duration,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// `fedctl explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The trace id of a connection, as the access log has it, or its first eight digits or more
    #[arg(value_name = "TRACE-ID", value_parser = parse_trace)]
    pub trace: String,
}

fn parse_principal(text: &str) -> Result<SpiffeId, String> {
    parse_workload_id(text)
        .map_err(|error| format!("{error}: write spiffe://<trust domain>/ns/<namespace>/sa/<account>"))
}

fn parse_trace(text: &str) -> Result<String, String> {
    let hexadecimal = text.bytes().all(|b| b.is_ascii_hexdigit());
    if hexadecimal && (8..=32).contains(&text.len()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("write 8 to 32 hexadecimal digits, as trace_id in the access log".to_owned())
    }
}

/// A service, and one of its ports or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The service.
    pub service: ServiceKey,
    /// The port, when one is named.
    pub port: Option<Port>,
}

impl FromStr for Destination {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (service, port) = match text.rsplit_once(':') {
            Some((service, port)) => (service, Some(port)),
            None => (text, None),
        };
        let port = port.map(|port| port.parse().ok().and_then(Port::new).ok_or_else(|| bad_port(port)));
        let service = service.parse().map_err(|_| "write namespace/service or namespace/service:port".to_owned())?;
        Ok(Self { service, port: port.transpose()? })
    }
}

fn bad_port(text: &str) -> String {
    format!("{text:?} is not a port from 1 to 65535")
}

/// The name of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyName(pub PolicyKey);

impl FromStr for PolicyName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || "write namespace/name".to_owned();
        let (namespace, name) = text.split_once('/').ok_or_else(refused)?;
        let namespace: Namespace = namespace.parse().map_err(|_| refused())?;
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(refused());
        }
        Ok(Self(PolicyKey { namespace, name: name.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_have_a_namespace_and_perhaps_a_port() {
        let parsed: Destination = "shop/api:8080".parse().unwrap();
        assert_eq!((parsed.service.to_string(), parsed.port), ("shop/api".to_owned(), Port::new(8080)));
        assert_eq!("shop/api".parse::<Destination>().unwrap().port, None);
        for text in ["", "api", "api:80", "shop/api:0", "shop/api:x", "shop/api:", "shop/a/b"] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }

    #[test]
    fn policies_are_named_by_namespace_and_name() {
        assert_eq!("shop/api.v2-callers".parse::<PolicyName>().unwrap().0.to_string(), "shop/api.v2-callers");
        for text in ["", "shop", "shop/", "/api", "Shop/api", "shop/a/b", "shop/A"] {
            assert!(text.parse::<PolicyName>().is_err(), "{text}");
        }
    }
}
