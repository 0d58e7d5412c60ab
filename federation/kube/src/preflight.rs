//! Whether a cluster is ready for a gateway, before anything is installed.
//!
//! Owns the questions to the API server: its version and its clock, what the person may do, which definitions there are. Never
//! changes anything: a review of rights is created, and stored nowhere.
//!
//! ```text
//! manifests --> rights that installing them needs --> reviews ---.
//!          '--> definitions in them --> those in the cluster -----+--> facts --> judge --> findings
//!               version, Date of an answer -----------------------'
//! ```

use std::time::SystemTime;

use federation_model::{finding::Finding, time::Timestamp};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{
    Request, Response,
    header::{CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
};
use k8s_openapi::{
    api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    apimachinery::pkg::version::Info,
    jiff::fmt::rfc2822,
};
use kube::{Api, api::PostParams, client::Body};

use crate::{
    call::{CallError, shown},
    connect::Cluster,
    install::{Manifest, is_ours},
};

mod judge;
mod rights;

use judge::{Clock, Definition, Facts, Missing, Server, Wanted};
use rights::Right;

/// Questions that are open at a time: few enough for any API server, and enough for a far one.
const AT_ONCE: usize = 8;
/// The most bytes of what it says of its version: a hundred times what Kubernetes says.
const MAX_SAID: u64 = 64 * 1024;

impl Cluster {
    /// Tests what it takes to install these objects, the last of them in `namespace`, and to reach the program there. What
    /// cannot be found out is a finding too.
    pub async fn preflight(&self, manifests: &[Manifest], namespace: &str) -> Vec<Finding> {
        let server = self.looks().await;
        let missing = self.missing(manifests, namespace).await;
        let mut definitions = Vec::new();
        for manifest in manifests.iter().filter(|manifest| manifest.is_definition()) {
            definitions.push((Wanted::of(manifest), self.definition(manifest).await));
        }
        judge::judge(&Facts { address: self.server(), server, missing, definitions })
    }

    fn told(&self) -> impl Fn(kube::Error) -> CallError + Copy {
        |error| CallError::of(&error, self.server())
    }

    /// Its version, and its clock beside the one here.
    async fn looks(&self) -> Result<Server, CallError> {
        let unreadable = |reason: String| CallError::Unreadable { server: self.server().to_owned(), reason };
        let request = Request::get("/version").body(Body::empty()).map_err(|error| unreadable(error.to_string()))?;
        let before = SystemTime::now().into();
        let answer = self.client().send(request).await.map_err(self.told())?;
        let after = SystemTime::now().into();
        let clock = date_of(&answer).map(|server| Clock { server, before, after });
        let code = answer.status();
        let short = length_of(&answer).is_some_and(|length| length <= MAX_SAID);
        if !code.is_success() {
            let body = if short { answer.into_body() } else { Body::empty() };
            let body = body.collect_bytes().await.map_err(self.told())?;
            return Err(CallError::of_code(code.as_u16(), &String::from_utf8_lossy(&body), self.server()));
        }
        if !short {
            return Err(unreadable(format!("its version is longer than {MAX_SAID} bytes, or of no stated length")));
        }
        let body = answer.into_body().collect_bytes().await.map_err(self.told())?;
        let mut version: Info = serde_json::from_slice(&body).map_err(|error| unreadable(shown(&error.to_string())))?;
        version.git_version = shown(&version.git_version);
        Ok(Server { version, clock })
    }

    /// The rights that the person lacks.
    async fn missing(&self, manifests: &[Manifest], namespace: &str) -> Result<Missing, CallError> {
        let needed = self.refused(rights::of_install(manifests, namespace)).await?;
        if needed.iter().any(Right::is_of_roles) {
            // Who may make no roles grants nothing.
            return Ok(Missing { needed, grants: Vec::new() });
        }
        // Who may grant what they do not hold need not hold it.
        let grants = match self.refused(rights::to_grant_all(manifests)).await? {
            refused if refused.is_empty() => Vec::new(),
            _ => self.refused(rights::granted(manifests)).await?,
        };
        Ok(Missing { needed, grants })
    }

    async fn refused(&self, rights: Vec<Right>) -> Result<Vec<Right>, CallError> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client());
        let asked = stream::iter(rights).map(|right| {
            let reviews = reviews.clone();
            async move {
                let reviewed = reviews.create(&PostParams::default(), &review(&right)).await?;
                Ok::<_, kube::Error>((right, reviewed.status.is_some_and(|status| status.allowed)))
            }
        });
        let answered: Vec<_> = asked.buffered(AT_ONCE).try_collect().await.map_err(self.told())?;
        Ok(answered.into_iter().filter(|(_, allowed)| !allowed).map(|(right, _)| right).collect())
    }

    /// The definition in the cluster, when it is there.
    async fn definition(&self, manifest: &Manifest) -> Result<Option<Definition>, CallError> {
        let found = self.api(manifest.resource(), None).get_opt(manifest.name()).await.map_err(self.told())?;
        Ok(found.map(|object| {
            let managers = object.metadata.managed_fields.iter().flatten();
            let mut owners = managers.filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty());
            Definition {
                // Nobody else has a reason to bring those of our own kinds.
                ours: is_ours(&object) || !manifest.is_standard_definition(),
                by: owners.find_map(|entry| entry.manager.clone()),
                served: judge::served(&object.data),
            }
        }))
    }
}

/// The bytes of a body, where they are counted in advance: whoever reads it then gets no more of them.
fn length_of<B>(answer: &Response<B>) -> Option<u64> {
    // In chunks it is as long as it likes, whatever else it says.
    if answer.headers().contains_key(TRANSFER_ENCODING) {
        return None;
    }
    answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn date_of<B>(answer: &Response<B>) -> Option<Timestamp> {
    let date = answer.headers().get(DATE)?.to_str().ok()?;
    let date = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    u64::try_from(date.as_second()).ok().map(Timestamp)
}

fn review(right: &Right) -> SelfSubjectAccessReview {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let attributes = ResourceAttributes {
        group: given(&right.group),
        name: given(&right.name),
        namespace: right.namespace.clone(),
        resource: given(&right.resource),
        subresource: given(&right.subresource),
        verb: given(right.verb.as_str()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), non_resource_attributes: None };
    SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_chunks_has_no_length_whatever_it_says() {
        let counted = |length: &str| Response::builder().header(CONTENT_LENGTH, length);
        assert_eq!(length_of(&counted("263").body(()).unwrap()), Some(263));
        assert_eq!(length_of(&counted("263").header(TRANSFER_ENCODING, "chunked").body(()).unwrap()), None);
        assert_eq!(length_of(&counted("-1").body(()).unwrap()), None);
        assert_eq!(length_of(&Response::new(())), None);
    }

    #[test]
    fn the_date_of_an_answer_is_read_as_http_writes_it() {
        let answer = |date: &str| Response::builder().header(DATE, date).body(()).unwrap();
        assert_eq!(date_of(&answer("Fri, 02 Jan 2026 03:04:05 GMT")), Some(Timestamp(1_767_323_045)));
        for date in ["", "soon", "Fri, 02 Jan 2026"] {
            assert_eq!(date_of(&answer(date)), None, "{date:?}");
        }
        assert_eq!(date_of(&Response::new(())), None);
    }
}
