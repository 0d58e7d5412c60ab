//! What a request asks for: a verb, and a resource or a plain path.
//!
//! Owns the reading of paths and queries. Never looks into a body.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Method;

use super::kinds::qualified;

/// A request, read.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    /// The word of RBAC: get, list, watch, create, update, patch, delete, deletecollection; of a plain path the method.
    pub(super) verb: String,
    pub(super) path: String,
    /// None for a plain path.
    pub(super) target: Option<Target>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) accept: String,
    pub(super) content_type: String,
    pub(super) user_agent: String,
    pub(super) body: Bytes,
}

/// Objects of one kind, or one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    /// Empty for all, and where there are none.
    pub(super) namespace: String,
    /// Empty for all.
    pub(super) name: String,
    /// Empty for the object itself.
    pub(super) subresource: String,
}

impl Target {
    /// As messages write it, without the subresource.
    pub(super) fn resource(&self) -> String {
        qualified(&self.group, &self.plural)
    }

    fn read(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let mut target = Self { group: group.to_owned(), version: version.to_owned(), ..Self::default() };
        let mut rest: Vec<_> = parts.collect();
        if let ["namespaces", namespace, plural, ..] = rest[..]
            && !(group.is_empty() && ["status", "finalize"].contains(&plural))
        {
            target.namespace = namespace.to_owned();
            rest.drain(..2);
        }
        target.plural = (*rest.first()?).to_owned();
        target.name = rest.get(1).copied().unwrap_or_default().to_owned();
        target.subresource = rest.get(2..).unwrap_or_default().join("/");
        Some(target)
    }
}

impl Request {
    /// Reads the method, the path and the query.
    pub(super) fn read(method: &Method, path: &str, query: &str) -> Self {
        let target = Target::read(path);
        let query = pairs(query);
        let one = target.as_ref().is_some_and(|target| !target.name.is_empty());
        let watch = query.get("watch").is_some_and(|watch| ["", "1", "true"].contains(&watch.as_str()));
        let verb = match (method.as_str(), &target) {
            (_, None) => method.as_str().to_lowercase(),
            ("GET" | "HEAD", _) if watch => "watch".to_owned(),
            ("GET" | "HEAD", _) => if one { "get" } else { "list" }.to_owned(),
            ("POST", _) => "create".to_owned(),
            ("PUT", _) => "update".to_owned(),
            ("DELETE", _) => if one { "delete" } else { "deletecollection" }.to_owned(),
            (other, _) => other.to_lowercase(),
        };
        Self { verb, path: path.to_owned(), target, query, ..Self::default() }
    }

    /// A parameter; empty when there is none.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether a parameter is said to be true.
    pub(super) fn says(&self, name: &str) -> bool {
        ["true", "1"].contains(&self.parameter(name))
    }

    /// The target as roles judge it: who selects one object by its name asks for that one alone.
    pub(super) fn judged_target(&self) -> Option<Target> {
        let mut target = self.target.clone()?;
        let mut terms = self.parameter("fieldSelector").split(',');
        let name = terms.find_map(|term| term.strip_prefix("metadata.name=")).map(|name| name.trim_start_matches('='));
        if let (true, Some(name)) = (target.name.is_empty(), name) {
            target.name = name.to_owned();
        }
        Some(target)
    }

    /// Who manages the fields that this writes: what it says, or what the client calls itself.
    pub(super) fn manager(&self) -> &str {
        let said = self.parameter("fieldManager");
        let agent = self.user_agent.split('/').next().unwrap_or_default();
        match (said, agent) {
            ("", "") => "unknown",
            ("", agent) => agent,
            (said, _) => said,
        }
    }

    /// Whether only metadata is wanted.
    pub(super) fn wants_metadata(&self) -> bool {
        self.accept.contains("as=PartialObjectMetadata")
    }
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    decoded.map(|(name, value)| (unescaped(name), unescaped(value))).collect()
}

/// Percent-decoded, with `+` for a space.
pub(super) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = rest.clone().take(2).map(|digit| char::from(digit).to_digit(16)).collect::<Option<Vec<_>>>();
        match (byte, digits.as_deref()) {
            (b'%', Some([high, low])) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest.nth(1);
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &Method, target: &str) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request::read(method, path, query)
    }

    #[test]
    fn a_path_names_group_namespace_object_and_subresource() {
        let request =
            read(&Method::PUT, "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/pay/status");
        let target = request.target.unwrap();
        assert_eq!(request.verb, "update");
        assert_eq!(target.resource(), "serviceexports.multicluster.x-k8s.io");
        assert_eq!((&*target.namespace, &*target.name, &*target.subresource), ("shop", "pay", "status"));
    }

    #[test]
    fn a_namespace_is_an_object_of_its_own() {
        let of = |path| read(&Method::GET, path).target.unwrap();
        assert_eq!((&*of("/api/v1/namespaces/a").plural, &*of("/api/v1/namespaces/a").name), ("namespaces", "a"));
        assert_eq!(of("/api/v1/namespaces/a/status").subresource, "status");
        assert_eq!(
            (&*of("/api/v1/namespaces/a/pods").plural, &*of("/api/v1/namespaces/a/pods").namespace),
            ("pods", "a")
        );
        assert!(read(&Method::GET, "/api/v1").target.is_none());
        assert!(read(&Method::GET, "/apis/apps/v1").target.is_none());
    }

    #[test]
    fn a_query_is_decoded() {
        let request = read(&Method::GET, "/api/v1/pods?labelSelector=a%3Db%2Cc+in+%28d%29&watch=true");
        assert_eq!(request.verb, "watch");
        assert_eq!(request.parameter("labelSelector"), "a=b,c in (d)");
    }
}
