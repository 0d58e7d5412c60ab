//! The policies of Landbridge, `policy.landbridge.dev`, as custom resources.
//!
//! Owns their shape and the schema in `deploy/crds`, which refuses in an API server most of what [`crate::objects::policy`]
//! refuses in a manifest. Whatever is not known is an error, and so is a list that is written and empty: a rule that says
//! less than its author meant would let in more. Never decides what a policy means.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// The API group of the policies.
pub const GROUP: &str = "policy.landbridge.dev";
/// The one version of the group.
pub const VERSION: &str = "v1alpha1";
/// The group in that version.
pub const API_VERSION: &str = "policy.landbridge.dev/v1alpha1";
/// The most rules of one `from` or `to`: who needs more writes a second policy, which is as good.
pub const MAX_RULES: usize = 64;
/// The most entries of any other list.
pub const MAX_ENTRIES: usize = 1000;
/// The longest entry, bytes: that of a SPIFFE ID.
const MAX_TEXT: usize = federation_model::spiffe::MAX_SPIFFE_ID;

/// Who may, or may not, reach which services of this cluster.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "policy.landbridge.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    plural = "authorizationpolicies",
    doc = "Who may, or may not, reach which services of this cluster.",
    shortname = "lbap",
    category = "landbridge",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.action == 'AUDIT') == has(self.audits)",
    "message": "AUDIT, and no other action, says with audits what it would be: ALLOW or DENY"
}]))]
pub struct AuthorizationPolicySpec {
    /// What happens to a call that matches. DENY refuses it. ALLOW lets it pass, and with any ALLOW every other call to the
    /// same services is refused. AUDIT changes nothing and reports what `audits` would have refused.
    pub action: ActionWord,
    /// With AUDIT: what the policy would do.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EffectWord")]
    pub audits: Option<EffectWord>,
    /// Who calls: one of these rules matches. Left out: everybody, known or not.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<SourceSpec>", length(min = 1, max = MAX_RULES))]
    pub from: Option<Vec<SourceSpec>>,
    /// What is called: one of these rules matches. Left out: every service of the namespace, in the root namespace every
    /// service of the cluster.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<TargetSpec>", length(min = 1, max = MAX_RULES))]
    pub to: Option<Vec<TargetSpec>>,
}

/// `spec.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ActionWord {
    /// Calls that match pass.
    Allow,
    /// Calls that match are refused.
    Deny,
    /// Nothing happens, and what would have happened is reported.
    Audit,
}

/// `spec.audits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum EffectWord {
    /// As the action ALLOW.
    Allow,
    /// As the action DENY.
    Deny,
}

/// Properties of a caller, all of which hold; of each list one entry does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct SourceSpec {
    /// SPIFFE IDs: `spiffe://<trust domain>/<path>`, where the trust domain may be `*` and the path may end in `*`; or as
    /// Istio and Linkerd write them; or `*`, which is every caller that is known.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_ENTRIES), inner(length(min = 1, max = MAX_TEXT)))]
    pub principals: Option<Vec<String>>,
    /// Namespaces of callers, by their SPIFFE IDs; a `*` may stand at one end.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_ENTRIES), inner(length(min = 1, max = 64)))]
    pub namespaces: Option<Vec<String>>,
    /// Clusters that calls come from.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_ENTRIES), inner(length(min = 1, max = 63)))]
    pub clusters: Option<Vec<String>>,
    /// Trust domains of callers.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_ENTRIES), inner(length(min = 1, max = 255)))]
    pub trust_domains: Option<Vec<String>>,
    /// How well the caller is known, at least: `mtls` (it proved its own key) or `attested` (its cluster vouches for it).
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AssuranceWord")]
    pub assurance: Option<AssuranceWord>,
}

/// `assurance` of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AssuranceWord {
    /// The gateway of the caller's cluster vouches for it, or better.
    Attested,
    /// The caller proved its own key.
    Mtls,
}

/// Properties of what is called, all of which hold; of each list one entry does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct TargetSpec {
    /// Services of the namespace; a `*` may stand at one end. In the root namespace also `namespace/name`.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_ENTRIES), inner(length(min = 1, max = 129)))]
    pub services: Option<Vec<String>>,
    /// Ports of the services.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<i32>", length(min = 1, max = MAX_ENTRIES), inner(range(min = 1, max = 65535)))]
    pub ports: Option<Vec<i32>>,
    /// HTTP methods, in capitals; a `*` may stand at one end. For ports with `landbridge.dev/deliver: http`.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_ENTRIES), inner(length(min = 1, max = MAX_TEXT)))]
    pub methods: Option<Vec<String>>,
    /// Paths of HTTP requests without their queries: `/path`, `/path*` or `*end`. For ports with `landbridge.dev/deliver: http`.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Vec<String>",
        length(min = 1, max = MAX_ENTRIES),
        inner(length(min = 1, max = MAX_TEXT), regex(pattern = r"^[/*]"))
    )]
    pub paths: Option<Vec<String>>,
}

/// How well the callers of services must be known.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "policy.landbridge.dev",
    version = "v1alpha1",
    kind = "PeerAuthentication",
    plural = "peerauthentications",
    doc = "How well the callers of services of this cluster must be known.",
    shortname = "lbpa",
    category = "landbridge",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerAuthenticationSpec {
    /// What is asked of callers. STRICT refuses those that have not proved their own key; PERMISSIVE asks nothing.
    pub mode: ModeWord,
    /// The services it holds for; a `*` may stand at one end, and in the root namespace `namespace/name` may be written.
    /// Left out: the namespace, in the root namespace the cluster.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>", length(min = 1, max = MAX_ENTRIES), inner(length(min = 1, max = 129)))]
    pub services: Option<Vec<String>>,
}

/// `spec.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ModeWord {
    /// Callers have proved their own key.
    Strict,
    /// Nothing is asked.
    Permissive,
}

/// What the gateway says of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PolicyStatus {
    /// The conditions, one for each type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Takes a field that is written; `null` is no way to leave it out, which is done by not writing it.
fn written<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
