//! Every rule for certificates, one row each: our verdict, that of openssl, and why the two differ where they do.
//!
//! Owns the comparison. The rows are in the files below, by what they are about: the leaf (SPIFFE X509-SVID section 4 and 5),
//! the certificates above it, the path between them (RFC 5280 section 6), and the time.
//!
//! openssl knows X.509 and TLS but not SPIFFE, hence it accepts more: a row says so. Where it refuses and we do not, the row
//! says why that is right.

mod leaves;
mod paths;
mod secrets;
mod signers;
mod times;
mod world;

use std::{fs, path::Path, process::Command};

use federation_model::{
    bundle::TrustBundle,
    spiffe::{SpiffeId, TrustDomain},
    time::Timestamp,
};
use federation_pki::{
    trust::TrustStore,
    verify::{Usage, VerifyError, verify_leaf},
};
use tempfile::TempDir;

use self::world::{Made, World};

/// The time of all certificates.
const NOW: Timestamp = Timestamp(1_700_000_000);

/// What a row changes.
type Shape = fn(&mut World);

/// One rule.
struct Row {
    rule: &'static str,
    shape: Shape,
    ours: Ours,
    openssl: Openssl,
}

/// What we must say.
enum Ours {
    Accepts,
    /// With these words.
    Refuses(&'static str),
}

/// What openssl must say.
enum Openssl {
    /// The same.
    Agrees,
    /// The opposite, for this reason.
    Differs(&'static str),
}

fn accepted(rule: &'static str, shape: Shape) -> Row {
    Row { rule, shape, ours: Ours::Accepts, openssl: Openssl::Agrees }
}

fn refused(rule: &'static str, words: &'static str, shape: Shape) -> Row {
    Row { rule, shape, ours: Ours::Refuses(words), openssl: Openssl::Agrees }
}

impl Row {
    /// openssl says the opposite.
    fn openssl_differs(self, why: &'static str) -> Self {
        Self { openssl: Openssl::Differs(why), ..self }
    }
}

#[test]
fn every_rule_for_leaves_is_kept() {
    check(leaves::rows());
}

#[test]
fn every_rule_for_signing_certificates_is_kept() {
    check(signers::rows());
}

#[test]
fn every_rule_for_paths_is_kept() {
    check(paths::rows());
}

#[test]
fn every_rule_for_times_is_kept() {
    check(times::rows());
}

fn check(rows: Vec<Row>) {
    let openssl = has_openssl();
    let mut wrong = Vec::new();
    for row in rows {
        let made = World::shaped(row.shape).make();
        let ours = our_verdict(&made);
        let accepts = match (&row.ours, &ours) {
            (Ours::Accepts, Ok(_)) => true,
            (Ours::Refuses(words), Err(error)) if error.to_string().contains(words) => false,
            (Ours::Accepts | Ours::Refuses(_), verdict) => {
                wrong.push(format!("{}: we say {verdict:?}", row.rule));
                continue;
            }
        };
        if !openssl {
            continue;
        }
        let (agrees, why) = match row.openssl {
            Openssl::Agrees => (true, "the rule is one of X.509"),
            Openssl::Differs(why) => (false, why),
        };
        let refusal = openssl_refusal(&made);
        if (refusal.is_none() == accepts) != agrees {
            wrong.push(format!("{}: openssl's refusal is {refusal:?}, which is not expected: {why}", row.rule));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Both usages must be judged alike.
fn our_verdict(made: &Made) -> Result<SpiffeId, VerifyError> {
    let bundle = |(td, authorities): &(&str, Vec<_>)| TrustBundle {
        trust_domain: TrustDomain::new(td).expect("the rows use valid names"),
        sequence: 1,
        authorities: authorities.clone(),
    };
    let store = TrustStore::new();
    // A bundle that is not usable is believed nothing of, which is what the verdict then says.
    let _ = store.replace(made.bundles.iter().map(bundle));
    let judge = |usage| verify_leaf(&made.chain, &store, made.at, usage);
    let (client, server) = (judge(Usage::Client), judge(Usage::Server));
    assert_eq!(client.is_ok(), server.is_ok(), "{client:?} {server:?}");
    client
}

/// What `openssl verify` has against a client or a server; nothing when it accepts both.
fn openssl_refusal(made: &Made) -> Option<String> {
    let dir = TempDir::new().expect("a directory for the certificates");
    let file = |name: &str| dir.path().join(name);
    let write = |name: &str, text: &[u8]| fs::write(file(name), text).expect("the directory takes files");
    let authorities: Vec<_> = made.bundles.iter().flat_map(|(_, authorities)| authorities).collect();
    write("leaf.der", &made.chain[0]);
    write("above.pem", world::pem(made.chain.iter().skip(1)).as_bytes());
    write("authorities.pem", world::pem(authorities.into_iter()).as_bytes());
    for purpose in ["sslclient", "sslserver"] {
        let mut command = Command::new("openssl");
        // The authorities of a trust bundle are believed whether or not they are self-signed.
        command.args(["verify", "-x509_strict", "-partial_chain", "-no-CApath", "-no-CAstore", "-purpose", purpose]);
        command.args(["-attime", &made.at.0.to_string()]);
        command.arg("-CAfile").arg(file("authorities.pem"));
        if made.chain.len() > 1 {
            command.arg("-untrusted").arg(file("above.pem"));
        }
        let output = command.arg(file("leaf.der")).output().expect("openssl runs");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Some(said.lines().filter(|line| line.starts_with("error")).collect());
        }
    }
    None
}

/// Whether openssl is here; without it half of the comparison is left out, and says so.
fn has_openssl() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        tests::skip::say("the comparison with openssl", "openssl is not installed");
    }
    found
}

/// Runs openssl in `dir`.
fn openssl(dir: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").current_dir(dir).args(arguments).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
