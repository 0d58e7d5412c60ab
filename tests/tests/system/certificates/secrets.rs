//! Keys and certificates as openssl writes them, read as material of an identity source.

use std::{fs, path::Path, time::SystemTime};

use federation_model::spiffe::SpiffeId;
use federation_pki::material::{Material, MaterialError, SecretTexts};
use tempfile::TempDir;

use super::{has_openssl, openssl};

/// Extensions of an authority that cert-manager and openssl users write.
const AUTHORITY: &str = "[req]\nprompt=no\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\nCN=east\n[v3]\n\
    basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectAltName=URI:spiffe://east.example\n\
    subjectKeyIdentifier=hash\n";

fn judge(dir: &Path, key: &str) -> Result<Material, MaterialError> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let (certificate, key) = (read("tls.crt"), read(key));
    let texts = SecretTexts { certificate: &certificate, key: &key, authorities: Some(&certificate) };
    Material::from_secret(texts, &gateway(), SystemTime::now().into())
}

fn gateway() -> SpiffeId {
    "spiffe://east.example/landbridge/gateway".parse().unwrap()
}

#[test]
fn keys_of_every_usual_kind_and_encoding_are_read() {
    if !has_openssl() {
        return;
    }
    let kinds: [&[&str]; 5] = [
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["genpkey", "-algorithm", "ED25519"],
        &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        // With a section for the curve before that of the key.
        &["ecparam", "-name", "prime256v1", "-genkey"],
    ];
    for kind in kinds {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("ca.cnf"), AUTHORITY).unwrap();
        openssl(dir.path(), &[kind, &["-out", "tls.key"]].concat());
        openssl(dir.path(), &["req", "-x509", "-config", "ca.cnf", "-key", "tls.key", "-out", "tls.crt", "-days", "1"]);
        let material = judge(dir.path(), "tls.key").unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(material.label(), "issuer", "{kind:?}");
        // PKCS #1 or SEC 1, as cert-manager writes unless told otherwise; Ed25519 has PKCS #8 alone.
        let traditional: &[&str] = if kind.contains(&"ED25519") { &[] } else { &["-traditional"] };
        openssl(dir.path(), &[&["pkey", "-in", "tls.key", "-out", "traditional.key"], traditional].concat());
        assert_eq!(judge(dir.path(), "traditional.key").as_ref(), Ok(&material), "{kind:?}");
        for form in [&[][..], traditional] {
            let encrypt = ["pkey", "-in", "tls.key", "-aes256", "-passout", "pass:secret", "-out", "encrypted.key"];
            openssl(dir.path(), &[&encrypt, form].concat());
            assert_eq!(judge(dir.path(), "encrypted.key"), Err(MaterialError::EncryptedKey("tls.key")), "{kind:?}");
        }
    }
}

#[test]
fn keys_that_no_verifier_accepts_are_refused() {
    if !has_openssl() {
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("ca.cnf"), AUTHORITY).unwrap();
    for kind in [["RSA", "rsa_keygen_bits:1024"], ["EC", "ec_paramgen_curve:secp256k1"]] {
        openssl(dir.path(), &["genpkey", "-algorithm", kind[0], "-pkeyopt", kind[1], "-out", "tls.key"]);
        openssl(dir.path(), &["req", "-x509", "-config", "ca.cnf", "-key", "tls.key", "-out", "tls.crt", "-days", "1"]);
        let error = judge(dir.path(), "tls.key").unwrap_err();
        assert!(matches!(error, MaterialError::UnusableKey { place: "tls.key", .. }), "{kind:?}: {error:?}");
    }
}
