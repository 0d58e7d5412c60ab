//! The patterns of policies.
//!
//! Owns their grammar: a `*` at one end of a text, never within it, so that matching costs no more than comparing. Never
//! looks anything up.

use std::{fmt, str::FromStr};

use crate::{
    names::{NameError, Namespace, ServiceKey},
    spiffe::{MAX_SPIFFE_ID, SpiffeId, TrustDomain},
};

/// A text, or its beginning, or its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TextPattern {
    /// `*`
    Any,
    /// `text`
    Exact(String),
    /// `text*`
    Prefix(String),
    /// `*text`
    Suffix(String),
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is written.
    #[error("it is empty; write * for everything")]
    Empty,
    /// A `*` within the text, or more than one.
    #[error("{0:?} has a * that is neither its first nor its last character, or more than one")]
    Wildcard(String),
    /// It is longer than anything it could match.
    #[error("it is longer than {MAX_SPIFFE_ID} bytes")]
    TooLong,
    /// A part of it is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It is not a form of a principal.
    #[error(
        "{0:?} is not a principal; write spiffe://<trust domain>/<path>, where the trust domain may be * and the path may \
         end in *, or the form of a mesh: <trust domain>/ns/<namespace>/sa/<account> or \
         <account>.<namespace>.serviceaccount.identity.<mesh namespace>.<trust domain>"
    )]
    Principal(String),
}

impl TextPattern {
    /// Whether `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == text,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
        }
    }
}

impl FromStr for TextPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > MAX_SPIFFE_ID {
            return Err(PatternError::TooLong);
        }
        let (starts, ends) = (text.strip_prefix('*'), text.strip_suffix('*'));
        let pattern = match (starts, ends) {
            (Some(""), _) => return Ok(Self::Any),
            (None, None) => return plain(text).map(|text| Self::Exact(text.to_owned())),
            (None, Some(prefix)) => plain(prefix).map(|text| Self::Prefix(text.to_owned())),
            (Some(suffix), None) => plain(suffix).map(|text| Self::Suffix(text.to_owned())),
            (Some(_), Some(_)) => Err(PatternError::Wildcard(String::new())),
        };
        pattern.map_err(|_| PatternError::Wildcard(text.to_owned()))
    }
}

fn plain(text: &str) -> Result<&str, PatternError> {
    if text.contains('*') { Err(PatternError::Wildcard(text.to_owned())) } else { Ok(text) }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
        }
    }
}

/// Services: `name` or `na*` of the policy's own namespace; in the root namespace `namespace/name` as well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePattern {
    /// The namespace, when it is written.
    pub namespace: Option<TextPattern>,
    /// The name.
    pub name: TextPattern,
}

impl ServicePattern {
    /// Whether it means `service`, for a policy of the namespace `own`; nothing as `own` is every namespace.
    #[must_use]
    pub fn matches(&self, own: Option<&Namespace>, service: &ServiceKey) -> bool {
        let namespace = self.namespace.as_ref().is_none_or(|pattern| pattern.matches(service.namespace.as_str()));
        own.is_none_or(|own| *own == service.namespace) && namespace && self.name.matches(service.name.as_str())
    }
}

impl FromStr for ServicePattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.split_once('/') {
            Some((namespace, name)) => Ok(Self { namespace: Some(namespace.parse()?), name: name.parse()? }),
            None => Ok(Self { namespace: None, name: text.parse()? }),
        }
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

/// Principals. A caller that is not known matches none, not even `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrincipalPattern {
    /// The trust domain; nothing as it is any.
    pub trust_domain: Option<TrustDomain>,
    /// The path with its leading `/`; never [`TextPattern::Suffix`].
    pub path: TextPattern,
}

/// Between account and namespace on the one side, the mesh's own namespace and trust domain on the other, in the names that
/// Linkerd gives to workloads.
const LINKERD_MARK: &str = ".serviceaccount.identity.";

impl PrincipalPattern {
    /// Whether `id` matches.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        self.trust_domain.as_ref().is_none_or(|domain| domain == id.trust_domain()) && self.path.matches(id.path())
    }

    fn of_linkerd(text: &str) -> Option<Self> {
        let (workload, mesh) = text.split_once(LINKERD_MARK)?;
        let (account, namespace) = workload.rsplit_once('.')?;
        let (_mesh_namespace, domain) = mesh.split_once('.')?;
        let id = format!("spiffe://{domain}/ns/{namespace}/sa/{account}");
        Self::exact(&SpiffeId::new(&id).ok()?)
    }

    fn exact(id: &SpiffeId) -> Option<Self> {
        let path = TextPattern::Exact(id.path().to_owned());
        (!id.path().is_empty()).then(|| Self { trust_domain: Some(id.trust_domain().clone()), path })
    }

    fn of_uri(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once('/')?;
        let path: TextPattern = format!("/{rest}").parse().ok()?;
        let trust_domain = if domain == "*" { None } else { Some(TrustDomain::new(domain).ok()?) };
        // The grammar of paths (SPIFFE-ID section 2.2) is that of the id the pattern is the beginning of.
        let sample = match &path {
            TextPattern::Exact(path) => path.clone(),
            TextPattern::Prefix(prefix) => format!("{prefix}x"),
            TextPattern::Any | TextPattern::Suffix(_) => return None,
        };
        SpiffeId::new(format!("spiffe://sample{sample}")).ok()?;
        Some(Self { trust_domain, path })
    }
}

impl FromStr for PrincipalPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text {
            "" => return Err(PatternError::Empty),
            "*" => return Ok(Self { trust_domain: None, path: TextPattern::Any }),
            _ if text.len() > MAX_SPIFFE_ID => return Err(PatternError::TooLong),
            _ => {}
        }
        let found = match text.strip_prefix("spiffe://") {
            Some(rest) => Self::of_uri(rest),
            None if text.contains(LINKERD_MARK) => Self::of_linkerd(text),
            None => Self::of_uri(text).filter(|pattern| pattern.path.to_string().starts_with("/ns/")),
        };
        found.ok_or_else(|| PatternError::Principal(text.to_owned()))
    }
}

impl fmt::Display for PrincipalPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.trust_domain, &self.path) {
            (None, TextPattern::Any) => f.write_str("*"),
            (Some(domain), path) => write!(f, "spiffe://{domain}{path}"),
            (None, path) => write!(f, "spiffe://*{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::new(text).unwrap()
    }

    #[test]
    fn a_star_stands_at_one_end_alone() {
        let good = ["*", "api", "api-*", "*-api", "/v1/*", "*.json"];
        let bad = ["", "a*b", "*a*", "**", "a**"];
        for text in good {
            assert_eq!(text.parse::<TextPattern>().unwrap().to_string(), text);
        }
        for text in bad {
            assert!(text.parse::<TextPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn principals_are_written_as_spiffe_ids_or_as_meshes_write_them() {
        let frontend = id("spiffe://east.example/ns/shop/sa/frontend");
        let elsewhere = id("spiffe://west.example/ns/shop/sa/frontend");
        let cases = [
            ("*", true, true),
            ("spiffe://east.example/ns/shop/sa/frontend", true, false),
            ("spiffe://east.example/ns/shop/sa/*", true, false),
            ("spiffe://east.example/*", true, false),
            ("spiffe://*/ns/shop/sa/frontend", true, true),
            ("spiffe://*/ns/shop/*", true, true),
            ("east.example/ns/shop/sa/frontend", true, false),
            ("east.example/ns/shop/*", true, false),
            ("frontend.shop.serviceaccount.identity.linkerd.east.example", true, false),
        ];
        for (text, here, there) in cases {
            let pattern: PrincipalPattern = text.parse().unwrap();
            assert_eq!((pattern.matches(&frontend), pattern.matches(&elsewhere)), (here, there), "{text}");
            assert_eq!(pattern.to_string().parse::<PrincipalPattern>().unwrap(), pattern, "{text}");
        }
    }

    #[test]
    fn what_could_match_no_principal_is_refused() {
        let bad = [
            "",
            "east.example",
            "spiffe://east.example",
            "spiffe://east.example/",
            "spiffe://east.example/ns/*/sa/frontend",
            "spiffe://east.*/ns/a/sa/b",
            "spiffe://East Example/ns/a",
            "spiffe://east.example/a//b",
            "spiffe://east.example/a/../b",
            "east.example/workload",
            "*/sa/frontend",
            "frontend.serviceaccount.identity.linkerd.east.example",
        ];
        for text in bad {
            assert!(text.parse::<PrincipalPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn services_are_those_of_the_policys_namespace_unless_it_holds_for_all() {
        let api = ServiceKey::new("shop".parse().unwrap(), "api".parse().unwrap());
        let (shop, other) = ("shop".parse().unwrap(), "other".parse().unwrap());
        let matches = |text: &str, own| text.parse::<ServicePattern>().unwrap().matches(own, &api);
        assert!(matches("api", Some(&shop)) && matches("a*", Some(&shop)) && matches("*", None));
        assert!(matches("shop/api", None) && matches("shop/*", None) && matches("*/api", None));
        assert!(!matches("api", Some(&other)) && !matches("shop/api", Some(&other)) && !matches("other/api", None));
    }
}
