//! Commands about policies and connections, against a gateway that answers what the test says.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
};

use proto::{
    federation::v1::{Finding, Level},
    gateway::v1::{self as wire, gateway_policies_server::GatewayPolicies},
};
use tonic::{Request, Response, Status};

use super::{gateway::Serving, *};

/// What the gateway answers about policies.
#[derive(Clone, Default)]
pub(super) struct Policies {
    tested: Vec<wire::TestedCall>,
    /// The answers one after the other; the last one stays.
    listed: Arc<Mutex<VecDeque<Vec<wire::Policy>>>>,
    report: wire::ReportPoliciesResponse,
    stories: Vec<wire::Story>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Policies {
    fn ask(&self, question: String) {
        self.asked.lock().unwrap().push(question);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn listing(answers: impl IntoIterator<Item = Vec<wire::Policy>>) -> Self {
        Self { listed: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    fn serve(self) -> Serving {
        Serving::start(self.into())
    }
}

#[tonic::async_trait]
impl GatewayPolicies for Policies {
    async fn test_policy(
        &self,
        request: Request<wire::TestPolicyRequest>,
    ) -> Result<Response<wire::TestPolicyResponse>, Status> {
        let wire::TestPolicyRequest { principal, assurance, cluster, namespace, service, port, method, path } =
            request.into_inner();
        let caller = format!("{principal}|{assurance}|{cluster}");
        self.ask(format!("test {caller} -> {namespace}/{service}:{port} {method} {path}"));
        Ok(Response::new(wire::TestPolicyResponse { calls: self.tested.clone(), generation: 9 }))
    }

    async fn list_policies(
        &self,
        _: Request<wire::ListPoliciesRequest>,
    ) -> Result<Response<wire::ListPoliciesResponse>, Status> {
        let mut listed = self.listed.lock().unwrap();
        let policies = if listed.len() > 1 { listed.pop_front() } else { listed.front().cloned() };
        Ok(Response::new(wire::ListPoliciesResponse { policies: policies.unwrap_or_default() }))
    }

    async fn report_policies(
        &self,
        request: Request<wire::ReportPoliciesRequest>,
    ) -> Result<Response<wire::ReportPoliciesResponse>, Status> {
        let wire::ReportPoliciesRequest { since, policy } = request.into_inner();
        self.ask(format!("report of {policy:?} for {} s", NOW - since));
        Ok(Response::new(self.report.clone()))
    }

    async fn explain_connection(
        &self,
        request: Request<wire::ExplainConnectionRequest>,
    ) -> Result<Response<wire::ExplainConnectionResponse>, Status> {
        self.ask(format!("explain {}", request.into_inner().trace));
        Ok(Response::new(wire::ExplainConnectionResponse { connections: self.stories.clone() }))
    }
}

fn text(text: &str) -> String {
    text.to_owned()
}

const WEB: &str = "spiffe://east.example/ns/shop/sa/web";
const CRON: &str = "spiffe://east.example/ns/shop/sa/cron";

fn considered(policy: &str, action: &str, matched: bool, detail: &str) -> wire::ConsideredPolicy {
    wire::ConsideredPolicy { policy: text(policy), action: text(action), matched, detail: text(detail) }
}

fn refused() -> wire::TestedCall {
    wire::TestedCall {
        service: text("shop/api"),
        port: 80,
        cluster: text("east"),
        principal: text(CRON),
        assurance: text("attested"),
        allowed: false,
        rule: String::new(),
        reason: text("AuthorizationPolicy shop/callers selects the service and does not allow the call"),
        remedy: format!("add `principals: [\"{CRON}\"]` as an entry of `from` to AuthorizationPolicy shop/callers"),
        considered: vec![
            considered("PeerAuthentication landbridge-system/default", "PERMISSIVE", false, ""),
            considered(
                "AuthorizationPolicy shop/callers",
                "ALLOW",
                false,
                &format!("from[0].principals wants {WEB}, the call has {CRON}; to[0] matches"),
            ),
        ],
        audited: Vec::new(),
        delivered: text("http"),
    }
}

fn allowed() -> wire::TestedCall {
    wire::TestedCall {
        port: 9090,
        principal: String::new(),
        assurance: text("none"),
        allowed: true,
        reason: text("no ALLOW policy selects the service, and no policy refuses the call"),
        remedy: String::new(),
        considered: vec![considered("AuthorizationPolicy shop/no-strangers", "AUDIT DENY", true, "to[0] matches")],
        audited: vec![text("AuthorizationPolicy shop/no-strangers to[0]")],
        delivered: text("plain"),
        ..refused()
    }
}

#[test]
fn a_test_shows_the_verdict_with_what_every_policy_says_and_fails_when_a_call_is_refused() {
    let policies = Policies { tested: vec![refused(), allowed()], ..Policies::default() };
    let gateway = policies.clone().serve();
    let line = ["policy", "test", "--from", CRON, "--to", "shop/api"];
    let ran = gateway.run(&line, None);
    ran.assert_code(1);
    insta::assert_snapshot!("policy_test", ran.stdout);
    let ran = gateway.run(&[&line[..], &["-o", "json"]].concat(), None);
    ran.assert_code(1);
    insta::assert_snapshot!("policy_test_json", ran.stdout);
    assert_eq!(policies.asked()[0], format!("test {CRON}|| -> shop/api:0  "));
}

#[test]
fn a_test_of_one_request_of_a_caller_that_proved_its_key_asks_for_just_that() {
    let policies = Policies { tested: vec![allowed()], ..Policies::default() };
    let gateway = policies.clone().serve();
    let caller = ["policy", "test", "--from", WEB, "--assurance", "mtls", "--cluster", "north"];
    let request = ["--to", "shop/api:80", "--method", "GET", "--path", "/carts"];
    gateway.run(&[&caller[..], &request[..]].concat(), None).assert_code(0);
    assert_eq!(policies.asked(), [format!("test {WEB}|mtls|north -> shop/api:80 GET /carts")]);
    for line in [
        "fedctl policy test --from web --to shop/api",
        "fedctl policy test --from spiffe://east.example/a --to api",
        "fedctl policy test --to shop/api --assurance mtls",
        "fedctl policy test --to shop/api --method GET",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}

fn policy(name: &str, action: &str, services: &[&str]) -> wire::Policy {
    wire::Policy {
        kind: text("AuthorizationPolicy"),
        namespace: text("shop"),
        name: text(name),
        action: text(action),
        services: services.iter().map(|service| text(service)).collect(),
        findings: Vec::new(),
        file: text("manifests/shop.yaml"),
        line: 12,
    }
}

fn finding(level: Level, detail: &str, hint: &str) -> Finding {
    Finding { check: String::new(), level: level.into(), detail: text(detail), hint: text(hint) }
}

#[test]
fn a_list_shows_what_policies_hold_for_and_fails_when_one_is_broken() {
    let doubt = finding(
        Level::Warning,
        "from[0].principals: spiffe://east.example/ns/shop/sa/wbe matches no principal that is known here",
        "correct the namespace or the service account, or run the workload",
    );
    let broken = finding(
        Level::Failed,
        "it cannot be read, so it refuses every call to what it selects: shop.yaml:40: spec.acton is not a field, write action",
        "correct or delete it",
    );
    let all = ["shop/api", "shop/cart", "shop/db", "shop/mail", "shop/pay", "shop/web"];
    let listed = vec![
        wire::Policy { findings: vec![doubt], ..policy("callers", "ALLOW", &["shop/api"]) },
        wire::Policy {
            findings: vec![broken],
            file: String::new(),
            line: 0,
            ..policy("no-lab", "BROKEN", &["shop/api", "shop/web"])
        },
        policy("no-strangers", "AUDIT DENY", &all),
        wire::Policy { kind: text("PeerAuthentication"), ..policy("proven", "STRICT", &[]) },
    ];
    let gateway = Policies::listing([listed]).serve();
    let ran = gateway.run(&["policy", "list"], None);
    ran.assert_code(1);
    insta::assert_snapshot!("policy_list", ran.stdout);
    let ran = gateway.run(&["policy", "list", "-o", "json"], None);
    ran.assert_code(1);
    insta::assert_snapshot!("policy_list_json", ran.stdout);
    let none = Policies::default().serve().run(&["policy", "list"], None);
    none.assert_code(0);
    insta::assert_snapshot!("policy_list_none", none.stdout);
}

fn audited(principal: &str, calls: u64) -> wire::AuditedCalls {
    wire::AuditedCalls {
        policy: text("shop/no-strangers"),
        principal: text(principal),
        assurance: text(if principal.is_empty() { "none" } else { "attested" }),
        cluster: text("east"),
        service: text("shop/api"),
        port: 80,
        calls,
        first: NOW - 80_000,
        last: NOW - 192,
    }
}

fn on_trial() -> Policies {
    let report = wire::ReportPoliciesResponse { calls: vec![audited("", 3), audited(CRON, 41)], dropped: 1 };
    Policies { report, ..Policies::listing([vec![policy("no-strangers", "AUDIT DENY", &["shop/api"])]]) }
}

#[test]
fn a_report_shows_whom_policies_on_trial_would_have_refused_most_first() {
    let policies = on_trial();
    let gateway = policies.clone().serve();
    let ran = gateway.run(&["policy", "report"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("policy_report", ran.stdout);
    let ran = gateway.run(&["policy", "report", "--since", "7d", "--policy", "shop/no-strangers", "-o", "json"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("policy_report_json", ran.stdout);
    assert_eq!(policies.asked(), ["report of \"\" for 86400 s", "report of \"shop/no-strangers\" for 604800 s"]);
}

#[test]
fn a_report_without_calls_says_whether_anything_is_on_trial() {
    let gateway = Policies { report: wire::ReportPoliciesResponse::default(), ..on_trial() }.serve();
    let quiet = gateway.run(&["policy", "report"], None);
    quiet.assert_code(0);
    assert_eq!(quiet.stdout, "shop/no-strangers would have refused no call since 2026-01-01T03:04:05Z\n");
    let mistaken = gateway.run(&["policy", "report", "--policy", "shop/no-stranger"], None);
    mistaken.assert_code(2);
    assert!(mistaken.stderr.contains("no AuthorizationPolicy shop/no-stranger in AUDIT"), "{}", mistaken.stderr);
    let nothing = Policies::listing([vec![policy("callers", "ALLOW", &[])]]).serve().run(&["policy", "report"], None);
    nothing.assert_code(0);
    insta::assert_snapshot!("policy_report_none", nothing.stdout);
}

/// A manifest with a policy on trial.
fn manifest(dir: &Path) -> PathBuf {
    let file = dir.join("shop.yaml");
    let text = "# Who may not call.\napiVersion: policy.landbridge.dev/v1alpha1\nkind: AuthorizationPolicy\n\
                metadata: {namespace: shop, name: no-strangers}\nspec:\n  action: AUDIT\n  audits: DENY\n  to:\n  \
                - services: [api]\n";
    fs::write(&file, text).unwrap();
    file
}

/// A gateway with that policy, which follows the change at the third question.
fn following(file: &Path) -> Policies {
    let listed = |action| {
        vec![wire::Policy { file: file.display().to_string(), ..policy("no-strangers", action, &["shop/api"]) }]
    };
    let listed = [listed("AUDIT DENY"), listed("AUDIT DENY"), listed("AUDIT DENY"), listed("DENY")];
    Policies { report: on_trial().report, ..Policies::listing(listed) }
}

const PROMOTE: [&str; 3] = ["policy", "promote", "shop/no-strangers"];

#[test]
fn a_promotion_asks_with_the_numbers_of_the_report_and_ends_when_the_gateway_follows() {
    let dir = tempfile::tempdir().unwrap();
    let file = manifest(dir.path());
    let before = fs::read_to_string(&file).unwrap();
    let named = |text: &str| text.replace(dir.path().to_str().unwrap(), "DIR");
    let refused = following(&file).serve().run(&PROMOTE, Some("n\n"));
    refused.assert_code(2);
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let ran = following(&file).serve().run(&PROMOTE, Some("yes\n"));
    ran.assert_code(0);
    insta::assert_snapshot!("policy_promote", named(&format!("{}\n---\n{}", ran.stderr, ran.stdout)));
    let after = before.replace("action: AUDIT\n  audits: DENY\n", "action: DENY\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), after);
}

#[test]
fn a_promotion_that_the_gateway_does_not_follow_in_time_fails_and_says_where_to_look() {
    let dir = tempfile::tempdir().unwrap();
    let file = manifest(dir.path());
    let deaf = || {
        let listed = wire::Policy { file: file.display().to_string(), ..policy("no-strangers", "AUDIT DENY", &[]) };
        Policies::listing([vec![listed]]).serve()
    };
    let named = |text: &str| text.replace(dir.path().to_str().unwrap(), "DIR");
    let late = deaf().run(&[&PROMOTE[..], &["--yes", "--wait", "1s"]].concat(), None);
    late.assert_code(1);
    insta::assert_snapshot!("policy_promote_late", named(&late.stdout));
    manifest(dir.path());
    let ran = deaf().run(&[&PROMOTE[..], &["--yes", "--wait", "0s", "-o", "json"]].concat(), None);
    ran.assert_code(0);
    insta::assert_snapshot!("policy_promote_json", named(&ran.stdout));
    let again = deaf().run(&[&PROMOTE[..], &["--yes"]].concat(), None);
    again.assert_code(2);
    insta::assert_snapshot!("policy_promote_again", named(&again.stderr));
}

fn story() -> wire::Story {
    let step =
        |after_micros, stage: &str, detail: &str| wire::Step { after_micros, stage: text(stage), detail: text(detail) };
    wire::Story {
        trace_id: text("0af7651916cd43dd8448eb211c80319c"),
        began_unix_millis: (NOW - 75) * 1000 + 250,
        outcome: text("denied"),
        remedy: refused().remedy,
        steps: vec![
            step(0, "accept", "cluster east opened a stream for 127.0.0.1:5"),
            step(30, "route", "shop/api:80"),
            step(40, "identify", &format!("{CRON}, assurance attested")),
            step(12_000_000, "end", &format!("denied, 0 bytes sent, 0 received: {}", refused().reason)),
        ],
        forgotten: 2,
    }
}

#[test]
fn an_explanation_tells_each_stage_with_its_time_and_the_remedy() {
    let mut living = wire::Story { outcome: String::new(), remedy: String::new(), forgotten: 0, ..story() };
    living.steps.pop();
    let policies = Policies { stories: vec![story(), living], ..Policies::default() };
    let gateway = policies.clone().serve();
    let ran = gateway.run(&["explain", "0AF76519"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("explain", ran.stdout);
    let ran = gateway.run(&["explain", "0af7651916cd43dd8448eb211c80319c", "-o", "json"], None);
    ran.assert_code(0);
    insta::assert_snapshot!("explain_json", ran.stdout);
    assert_eq!(policies.asked()[0], "explain 0af76519");
    assert!(Cli::try_parse_from(["fedctl", "explain", "0af7"]).is_err());
}

#[test]
fn a_connection_that_is_not_remembered_is_no_answer() {
    let ran = Policies::default().serve().run(&["explain", "0af76519"], None);
    ran.assert_code(2);
    insta::assert_snapshot!("explain_forgotten", ran.stderr);
}
