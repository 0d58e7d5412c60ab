//! The answers of a bundle endpoint.
//!
//! Owns the two resources: `/` lists the trust domains, `/<trust domain>` is the bundle of one, a JWKS document. Each member's,
//! and the service's own; never one that was read from elsewhere, for its publisher alone speaks for it. Never changes
//! anything.

use std::time::Duration;

use bytes::Bytes;
use federation_model::{
    addr::GatewayAddr,
    bundle::{Fingerprint, TrustBundle},
    spiffe::{SpiffeId, TrustDomain},
};
use federation_pki::bundle::to_jwks;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH},
};
use http_body_util::Full;
use serde::Serialize;

use crate::state::State;

/// The profile of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Profile {
    /// It presents a certificate of the web.
    HttpsWeb,
    /// It presents this id.
    HttpsSpiffe(SpiffeId),
}

impl Profile {
    /// The name of the profile.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::HttpsWeb => "https_web",
            Self::HttpsSpiffe(_) => "https_spiffe",
        }
    }
}

/// What an endpoint says beside the bundles.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) profile: Profile,
    pub(crate) refresh_hint: Duration,
}

#[derive(Serialize)]
struct Listing {
    profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_spiffe_id: Option<String>,
    trust_domains: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    trust_domain: String,
    url: String,
}

/// Answers one request.
pub(super) fn answer<B>(request: &Request<B>, state: &State, facts: &Facts) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "bundles are only read here: use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let document = match request.uri().path() {
        "/" => Some(listing(request, state, facts)),
        path => served(state, path.trim_start_matches('/')).map(|bundle| to_jwks(&bundle, facts.refresh_hint)),
    };
    match document {
        Some(document) => unless_known(request, document),
        None => text(StatusCode::NOT_FOUND, "no bundle of that trust domain is served here: GET / lists them\n"),
    }
}

/// The bundle that is served under a name.
fn served(state: &State, name: &str) -> Option<TrustBundle> {
    let trust_domain = TrustDomain::new(name).ok()?;
    bundles(state).find(|bundle| bundle.trust_domain == trust_domain).map(|bundle| state.served(bundle))
}

fn bundles(state: &State) -> impl Iterator<Item = &TrustBundle> {
    std::iter::once(&state.federation).chain(state.approved().map(|record| &record.member.bundle))
}

fn listing<B>(request: &Request<B>, state: &State, facts: &Facts) -> String {
    // As the client wrote it: under which name others reach this service is not known here.
    let base = request.headers().get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_authority(host));
    let base = base.map(|host| format!("https://{host}")).unwrap_or_default();
    let mut domains: Vec<_> = bundles(state).map(|bundle| bundle.trust_domain.to_string()).collect();
    domains.sort_unstable();
    let listing = Listing {
        profile: facts.profile.label(),
        endpoint_spiffe_id: match &facts.profile {
            Profile::HttpsWeb => None,
            Profile::HttpsSpiffe(id) => Some(id.to_string()),
        },
        trust_domains: domains
            .into_iter()
            .map(|trust_domain| Listed { url: format!("{base}/{trust_domain}"), trust_domain })
            .collect(),
    };
    serde_json::to_string_pretty(&listing).expect("structs of strings always have a JSON form")
}

/// Whether a text is `host` or `host:port`.
fn is_authority(text: &str) -> bool {
    text.parse::<GatewayAddr>().is_ok() || format!("{text}:443").parse::<GatewayAddr>().is_ok()
}

/// The document, or that the client has it already (RFC 9110 section 13.1.2).
fn unless_known<B>(request: &Request<B>, mut document: String) -> Response<Full<Bytes>> {
    document.push('\n');
    let tag = format!("\"{}\"", Fingerprint::of(document.as_bytes()).to_string().trim_start_matches("SHA256:"));
    let matches = |known: &HeaderValue| {
        let known = known.to_str().unwrap_or_default();
        known.split(',').map(|each| each.trim().trim_start_matches("W/")).any(|each| each == tag || each == "*")
    };
    let known = request.headers().get_all(IF_NONE_MATCH).iter().any(matches);
    let mut response = if known {
        Response::new(Full::default())
    } else {
        let mut response = Response::new(Full::from(document));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    // A cache that answers by itself would hide a removed authority for longer than the refresh hint says.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use federation_pki::bundle::from_jwks;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::state::{
        Write,
        foreign::tests::records,
        tests::{authority, empty_set, record},
    };

    /// West is a member, spire.example a foreign trust domain.
    fn state() -> State {
        let mut west = record("west");
        west.member.bundle = authority("west.example").bundle(4);
        let [spire, _] = records();
        empty_set().applied(&[Write::Member(west), Write::Foreign(spire)])
    }

    fn facts(profile: Profile) -> Facts {
        Facts { profile, refresh_hint: Duration::from_secs(300) }
    }

    fn ask(state: &State, request: http::request::Builder) -> Response<Full<Bytes>> {
        answer(&request.body(()).unwrap(), state, &facts(Profile::HttpsWeb))
    }

    async fn body(response: Response<Full<Bytes>>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
    }

    #[tokio::test]
    async fn every_trust_domain_of_the_set_is_served_and_no_foreign_one() {
        let state = state();
        for bundle in [&state.federation, &state.members[&"west".parse().unwrap()].member.bundle] {
            let response = ask(&state, Request::get(format!("/{}", bundle.trust_domain)));
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            let read = from_jwks(&bundle.trust_domain, &body(response).await).unwrap();
            assert_eq!((&read.bundle, read.refresh_hint), (bundle, Some(Duration::from_secs(300))));
        }
        for path in ["/spire.example", "/east.example", "/West!", "/west.example/", "/west.example/x", "//"] {
            assert_eq!(ask(&state, Request::get(path)).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn the_list_has_the_urls_as_the_client_reaches_them_and_nothing_a_client_made_up() {
        let listed = async |host: &str| {
            let listing = body(ask(&state(), Request::get("/").header(HOST, host))).await;
            serde_json::from_str::<serde_json::Value>(&listing).unwrap()
        };
        let listing = listed("bundles.example:8443").await;
        assert_eq!(listing["profile"], "https_web");
        assert_eq!(listing["trust_domains"][1]["url"], "https://bundles.example:8443/west.example");
        assert_eq!(listing["trust_domains"].as_array().unwrap().len(), 2);
        assert_eq!(listed("a/b?\"").await["trust_domains"][1]["url"], "/west.example");
        let id = SpiffeId::new("spiffe://federation.internal/landbridge/federation").unwrap();
        let spiffe = answer(&Request::get("/").body(()).unwrap(), &state(), &facts(Profile::HttpsSpiffe(id.clone())));
        assert!(body(spiffe).await.contains(&id.to_string()));
    }

    #[tokio::test]
    async fn whoever_has_the_document_is_told_so_until_it_changes() {
        let state = state();
        let first = ask(&state, Request::get("/west.example"));
        let tag = first.headers()[ETAG].clone();
        for known in [tag.to_str().unwrap(), &format!("\"x\", W/{}", tag.to_str().unwrap()), "*"] {
            let again = ask(&state, Request::get("/west.example").header(IF_NONE_MATCH, known));
            assert_eq!((again.status(), &again.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &tag));
            assert_eq!(body(again).await, "");
        }
        let mut west = record("west");
        west.member.bundle = authority("west.example").bundle(5);
        let changed = state.applied(&[Write::Member(west)]);
        let next = ask(&changed, Request::get("/west.example").header(IF_NONE_MATCH, tag));
        assert_eq!(next.status(), StatusCode::OK);
    }

    #[test]
    fn nothing_but_reading_is_allowed() {
        let response = ask(&state(), Request::post("/west.example"));
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(ask(&state(), Request::head("/west.example")).status(), StatusCode::OK);
    }
}
