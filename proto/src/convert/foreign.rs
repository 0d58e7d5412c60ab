//! Sources of foreign bundles, between messages of the federation service and values of the model.
//!
//! Owns their form on the wire. Never checks a certificate.

use federation_model::{
    foreign::{BundleSource, EndpointProfile},
    spiffe::{TrustDomain, parse_workload_id},
};

use super::ConvertError;
use crate::federation::v1 as wire;

impl From<&BundleSource> for wire::BundleSource {
    fn from(source: &BundleSource) -> Self {
        let profile = match &source.profile {
            EndpointProfile::HttpsWeb => wire::EndpointProfile::HttpsWeb,
            EndpointProfile::HttpsSpiffe { .. } => wire::EndpointProfile::HttpsSpiffe,
        };
        Self {
            trust_domain: source.trust_domain.to_string(),
            url: source.url.to_string(),
            profile: profile.into(),
            endpoint_id: source.profile.endpoint_id().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

impl TryFrom<wire::BundleSource> for BundleSource {
    type Error = ConvertError;
    fn try_from(source: wire::BundleSource) -> Result<Self, ConvertError> {
        let fail = |field, reason: &str| ConvertError::new("BundleSource", field, reason);
        let profile = match source.profile() {
            wire::EndpointProfile::HttpsWeb if source.endpoint_id.is_empty() => EndpointProfile::HttpsWeb,
            wire::EndpointProfile::HttpsWeb => {
                return Err(fail("endpoint_id", "an https_web endpoint is known by the name in its URL, not by an id"));
            }
            wire::EndpointProfile::HttpsSpiffe => EndpointProfile::HttpsSpiffe {
                endpoint_id: parse_workload_id(&source.endpoint_id)
                    .map_err(ConvertError::of("BundleSource", "endpoint_id"))?,
            },
            wire::EndpointProfile::Unspecified => {
                return Err(fail("profile", "it is missing, or unknown to this version"));
            }
        };
        Ok(Self {
            trust_domain: TrustDomain::new(&source.trust_domain)
                .map_err(ConvertError::of("BundleSource", "trust_domain"))?,
            url: source.url.parse().map_err(ConvertError::of("BundleSource", "url"))?,
            profile,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(profile: EndpointProfile) -> BundleSource {
        BundleSource {
            trust_domain: TrustDomain::new("spire.example").unwrap(),
            url: "https://spire.example:8443/bundle".parse().unwrap(),
            profile,
        }
    }

    #[test]
    fn sources_of_either_profile_survive_the_wire() {
        let endpoint_id = parse_workload_id("spiffe://spire.example/spire/server").unwrap();
        for profile in [EndpointProfile::HttpsWeb, EndpointProfile::HttpsSpiffe { endpoint_id }] {
            let source = source(profile);
            assert_eq!(BundleSource::try_from(wire::BundleSource::from(&source)).unwrap(), source);
        }
    }

    #[test]
    fn sources_that_leave_something_to_be_inferred_are_refused_with_the_field() {
        type Spoil = fn(&mut wire::BundleSource);
        let cases: [(&str, Spoil); 6] = [
            ("BundleSource.trust_domain", |source| source.trust_domain.clear()),
            ("BundleSource.url", |source| source.url.clear()),
            ("BundleSource.url", |source| source.url = "http://spire.example/".to_owned()),
            ("BundleSource.profile", |source| source.profile = 0),
            ("BundleSource.endpoint_id", |source| source.profile = wire::EndpointProfile::HttpsSpiffe.into()),
            ("BundleSource.endpoint_id", |source| source.endpoint_id = "spiffe://spire.example/a".to_owned()),
        ];
        for (field, spoil) in cases {
            let mut message = wire::BundleSource::from(&source(EndpointProfile::HttpsWeb));
            spoil(&mut message);
            let error = BundleSource::try_from(message).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
