//! What was decided of a call, and in whose name.
//!
//! Owns the words of a refusal: the rule, the caller, and what to change. Never decides.

use std::{fmt, sync::Arc};

use federation_model::{
    addr::Port,
    caller::Assurance,
    names::{ClusterName, ServiceKey},
    policy::{Action, PolicyKey, PolicyKind},
    spiffe::SpiffeId,
};

use super::{authentication::Closeness, nearest::Nearest, path::AmbiguousPath};

/// What the policies say of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Judgement {
    /// Whether it passes.
    pub verdict: Verdict,
    /// The policies in AUDIT each of which alone, put in force, would refuse this call, which passes now: the ones with
    /// effect ALLOW counted as one, since such policies are written to go together. In the order DENY, ALLOW, then by key.
    pub audited: Vec<Rule>,
}

/// Whether a call passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Allowed(Basis),
    /// It does not.
    Refused(Box<Refusal>),
}

/// Why a call passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// No ALLOW policy selects the service, and nothing refuses the call.
    NothingSelects,
    /// This policy allows it.
    Rule(Rule),
}

/// A policy, with the first entries of `from` and `to` that match. Entries count from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The action of the policy.
    pub action: Action,
    /// The policy.
    pub policy: Arc<PolicyKey>,
    /// The entry of `from`; nothing when the policy has none.
    pub from: Option<u32>,
    /// The entry of `to`; nothing when the policy has none.
    pub to: Option<u32>,
}

/// A call that does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What refuses it.
    pub by: RefusedBy,
    /// Who calls, if that is known.
    pub principal: Option<SpiffeId>,
    /// How well the caller is known.
    pub assurance: Assurance,
    /// From where.
    pub source_cluster: ClusterName,
    /// What is called.
    pub service: ServiceKey,
    /// The service port.
    pub port: Port,
}

/// A refusal in the words of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// What refuses.
    pub rule: String,
    /// What to do about it.
    pub remedy: String,
}

impl From<&Refusal> for Ruling {
    fn from(refusal: &Refusal) -> Self {
        Self { rule: refusal.by.to_string(), remedy: refusal.remedy() }
    }
}

/// What refuses a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedBy {
    /// A `PeerAuthentication` with mode STRICT.
    Strict {
        /// Its key.
        policy: Arc<PolicyKey>,
        /// How closely it means the service.
        closeness: Closeness,
    },
    /// A policy that cannot be read.
    Broken {
        /// The kind of the object.
        kind: PolicyKind,
        /// Its key.
        policy: Arc<PolicyKey>,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// A policy selects the service by paths, and the path of the request has several readings.
    Path {
        /// The first such policy.
        policy: Arc<PolicyKey>,
        /// Why it has.
        problem: AmbiguousPath,
    },
    /// A DENY policy.
    Rule(Rule),
    /// ALLOW policies select the service, and none of them allows the call.
    NotAllowed {
        /// How many.
        policies: usize,
        /// The one that misses the call by the least.
        nearest: Nearest,
    },
}

impl Judgement {
    /// Whether the call passes.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        match &self.verdict {
            Verdict::Allowed(_) => true,
            Verdict::Refused(_) => false,
        }
    }

    /// The refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.verdict {
            Verdict::Allowed(_) => None,
            Verdict::Refused(refusal) => Some(refusal),
        }
    }
}

impl fmt::Display for Rule {
    /// Writes `AuthorizationPolicy namespace/name from[0] to[1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", PolicyKind::Authorization, self.policy)?;
        if let Some(from) = self.from {
            write!(f, " from[{from}]")?;
        }
        if let Some(to) = self.to {
            write!(f, " to[{to}]")?;
        }
        Ok(())
    }
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingSelects => f.write_str("no ALLOW policy selects the service, and no policy refuses the call"),
            Self::Rule(rule) => write!(f, "{rule} allows it"),
        }
    }
}

impl fmt::Display for RefusedBy {
    /// Writes the rule, as an access log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict { policy, .. } => write!(f, "{} {policy}", PolicyKind::Authentication),
            Self::Broken { kind, policy, .. } => write!(f, "{kind} {policy}"),
            Self::Path { policy, .. } => write!(f, "{} {policy}", PolicyKind::Authorization),
            Self::Rule(rule) => write!(f, "{rule}"),
            Self::NotAllowed { policies: 1, nearest } => {
                write!(f, "{} {}", PolicyKind::Authorization, nearest.policy)
            }
            Self::NotAllowed { policies, .. } => write!(f, "{policies} ALLOW policies"),
        }
    }
}

impl fmt::Display for Refusal {
    /// Writes what refuses the call and who calls; [`Refusal::remedy`] says what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (service, port, assurance, from) = (&self.service, self.port, self.assurance, &self.source_cluster);
        write!(f, "{}", self.cause())?;
        match &self.principal {
            Some(id) => write!(f, "; {id} (assurance {assurance})")?,
            None => write!(f, "; a caller that is not known")?,
        }
        write!(f, " of cluster {from} called {service}:{port}")
    }
}

impl Refusal {
    /// What refuses the call, for those who know who calls what.
    #[must_use]
    pub fn cause(&self) -> String {
        let by = &self.by;
        match by {
            RefusedBy::Strict { .. } => format!("{by} is STRICT: callers have to prove their own key"),
            RefusedBy::Broken { reason, .. } => format!("{by} cannot be read, so it refuses all it selects: {reason}"),
            RefusedBy::Path { problem, .. } => format!("{by} decides by path, and the path of the request {problem}"),
            RefusedBy::Rule(_) => format!("{by} denies it"),
            RefusedBy::NotAllowed { policies: 1, .. } => {
                format!("{by} selects the service and does not allow the call")
            }
            RefusedBy::NotAllowed { .. } => format!("{by} select the service, and none allows the call"),
        }
    }

    /// What to change, and where, so that the call passes; for those who want it to.
    #[must_use]
    pub fn remedy(&self) -> String {
        let (namespace, name) = (&self.service.namespace, &self.service.name);
        match &self.by {
            RefusedBy::Strict { policy, closeness: Closeness::Service } => {
                format!("{}, or set mode: PERMISSIVE in PeerAuthentication {policy}", self.prove_the_key())
            }
            RefusedBy::Strict { closeness: Closeness::Namespace | Closeness::Cluster, .. } => {
                let prove = self.prove_the_key();
                format!(
                    "{prove}, or write a PeerAuthentication in namespace {namespace} with services: [{name}] and mode: \
                     PERMISSIVE"
                )
            }
            RefusedBy::Broken { kind, policy, .. } => {
                format!("correct or delete {kind} {policy}; its status says what is wrong")
            }
            RefusedBy::Path { policy, .. } => format!(
                "have the client send the path in its plain form, or take `paths` out of AuthorizationPolicy {policy}"
            ),
            RefusedBy::Rule(rule) => deny_remedy(rule),
            RefusedBy::NotAllowed { nearest, .. } => nearest.remedy(self),
        }
    }

    pub(super) fn prove_the_key(&self) -> String {
        let who = self.principal.as_ref().map_or_else(|| "the caller".to_owned(), ToString::to_string);
        format!(
            "let {who} prove its own key: it calls outbound.mtls_listen of its gateway in {} with its X.509-SVID",
            self.source_cluster
        )
    }
}

fn deny_remedy(rule: &Rule) -> String {
    let policy = &rule.policy;
    match (rule.from, rule.to) {
        (None, None) => {
            format!("delete AuthorizationPolicy {policy}, or write `from` or `to` so that it does not match")
        }
        (Some(from), None) => {
            format!("narrow from[{from}] of AuthorizationPolicy {policy} so that it leaves out the caller")
        }
        (None, Some(to)) => format!("narrow to[{to}] of AuthorizationPolicy {policy} so that it leaves out the call"),
        (Some(from), Some(to)) => format!(
            "narrow from[{from}] of AuthorizationPolicy {policy} so that it leaves out the caller, or to[{to}] so that it \
             leaves out the call"
        ),
    }
}
