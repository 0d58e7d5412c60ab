use std::os::unix::fs::PermissionsExt as _;

use super::*;
use federation_pki::{
    ca::{Authority, SvidRequest},
    validity::Validity,
};

fn credential() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let trust_domain = TrustDomain::new("federation.internal").unwrap();
    let validity = Validity::starting(Timestamp(1_700_000_000), Duration::from_secs(3600));
    let authority = Authority::generate(&trust_domain, "federation", validity).unwrap();
    let id = parse_workload_id("spiffe://federation.internal/landbridge/operator/admin").unwrap();
    let svid = authority.issue(&SvidRequest { id, names: Vec::new(), validity }).unwrap();
    std::fs::write(dir.path().join("ca.crt"), authority.certificate_pem()).unwrap();
    std::fs::write(dir.path().join("tls.crt"), svid.certificate_pem()).unwrap();
    std::fs::write(dir.path().join("tls.key"), svid.key_pem().expose()).unwrap();
    std::fs::set_permissions(dir.path().join("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    dir
}

#[test]
fn a_credential_is_three_files_with_a_private_key() {
    let dir = credential();
    assert_eq!(Credential::load(dir.path()).unwrap().id().path(), "/landbridge/operator/admin");
    std::fs::set_permissions(dir.path().join("tls.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Credential::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("run `chmod 600 "), "{error}");
    std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
    std::fs::set_permissions(dir.path().join("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Credential::load(dir.path()), Err(CredentialError::Missing(_))));
}

#[test]
fn the_id_of_the_service_follows_from_its_trust_domain() {
    let id = federation_id(&TrustDomain::new("federation.internal").unwrap());
    assert_eq!(id.to_string(), "spiffe://federation.internal/landbridge/federation");
}
