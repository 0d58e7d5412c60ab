//! What is written down of a connection, and what can be asked about it afterwards, at both gateways.

use federation_client::gateway::messages::Story;
use tests::{client::part, logs::Logs, wait::until};

use super::world::{CRON, Client, Mode, NOBODY, Sees, WEB, World, authentication, authorization};
use crate::fedctl::{fedctl, gateway, words};

/// A line of the access log.
#[derive(Debug, Clone)]
struct Line(String);

impl Line {
    /// The value of a field, without quotes.
    fn get(&self, field: &str) -> &str {
        let (_, rest) = self.0.split_once(&format!(" {field}=")).unwrap_or_else(|| panic!("{field} is in {self:?}"));
        match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or_default(),
            None => rest.split(' ').next().unwrap_or_default(),
        }
    }
}

/// The lines of the access log so far.
fn lines(logs: &Logs) -> Vec<Line> {
    let text = logs.text();
    let access = text.lines().filter(|line| line.contains("landbridge::access: "));
    access.map(|line| Line(line.replace("\\\"", "'"))).collect()
}

/// Waits for the line of this direction, outcome and service.
async fn line_of(logs: &Logs, direction: &str, outcome: &str, mode: Mode) -> Line {
    until(&format!("a line {direction} {outcome} of {}", mode.service()), async || {
        lines(logs).into_iter().rev().find(|line| {
            let is = |field, value| line.get(field) == value;
            is("direction", direction) && is("outcome", outcome) && is("service", mode.service())
        })
    })
    .await
}

async fn stages(world: &World, cluster: &str, trace: &str) -> (Story, Vec<String>) {
    let stories = world.fleet[cluster].admin().await.explain(trace.to_owned()).await.unwrap();
    assert_eq!(stories.len(), 1, "{cluster}: {stories:?}");
    let story = stories.into_iter().next().unwrap();
    let stages = story.steps.iter().map(|step| step.stage.clone()).collect();
    (story, stages)
}

fn detail<'a>(story: &'a Story, stage: &str) -> Vec<&'a str> {
    story.steps.iter().filter(|step| step.stage == stage).map(|step| step.detail.as_str()).collect()
}

#[tokio::test]
async fn a_refused_connection_is_explained_at_both_gateways() {
    let logs = Logs::default();
    let _captured = logs.capture();
    let world = World::new().await;
    let gate = authorization("gate", "action: DENY, from: [{namespaces: [other]}, {clusters: [east]}]");
    world.policies(&gate, &["gate"]).await;
    assert_eq!(world.call(Client::Pod, Mode::Plain).await, Sees::Reset);
    let (inbound, outbound) = (
        line_of(&logs, "inbound", "denied", Mode::Plain).await,
        line_of(&logs, "outbound", "denied", Mode::Plain).await,
    );
    let rule = "AuthorizationPolicy production/gate from[1]";
    let remedy = "narrow from[1] of AuthorizationPolicy production/gate so that it leaves out the caller";
    // The caller's side learns which rule it is, and whom to ask; not what would pass.
    let elsewhere = format!("fedctl explain {}", inbound.get("trace_id"));
    assert_eq!(inbound.get("remedy"), remedy);
    assert!(outbound.get("remedy").contains(&elsewhere), "{outbound:?}");
    for line in [&inbound, &outbound] {
        assert_eq!(line.get("rule"), rule, "{line:?}");
        assert_eq!((line.get("principal"), line.get("assurance")), (WEB, "attested"), "{line:?}");
        assert!(line.get("reason").contains(WEB), "{line:?}");
        assert_eq!((line.get("source_cluster"), line.get("destination_cluster")), ("east", "west"));
    }
    let trace = inbound.get("trace_id");
    assert_eq!(trace, outbound.get("trace_id"));

    let (east, at_east) = stages(&world, "east", trace).await;
    assert_eq!(at_east, ["accept", "identify", "route", "route", "forward", "end"], "{east:?}");
    assert_eq!((east.outcome.as_str(), detail(&east, "identify")[0].contains(WEB)), ("denied", true));
    assert!(detail(&east, "forward")[0].contains("west did not take it") && detail(&east, "forward")[0].contains(rule));
    let (west, at_west) = stages(&world, "west", trace).await;
    assert!(detail(&east, "forward")[0].contains(&elsewhere), "{east:?}");
    assert_eq!(at_west, ["accept", "route", "identify", "authorize", "end"], "{west:?}");
    assert_eq!((west.outcome.as_str(), west.remedy.is_empty()), ("denied", false));
    let refused = detail(&west, "authorize")[0];
    assert!(refused.contains(rule) && refused.contains(WEB) && refused.contains(remedy), "{refused}");
    for cluster in ["east", "west"] {
        let told = fedctl(&words(&format!("explain {} {}", &trace[..12], gateway(&world.fleet, cluster)))).await.done();
        assert!(told.contains(trace) && told.contains(rule) && told.contains(WEB) && told.contains("denied"), "{told}");
    }
}

#[tokio::test]
async fn a_completed_connection_is_explained_at_both_gateways() {
    let logs = Logs::default();
    let _captured = logs.capture();
    let world = World::new().await;
    let open = authorization("open", &format!("action: ALLOW, from: [{{principals: [\"{WEB}\"]}}]"));
    world.policies(&open, &["open"]).await;
    let mut stream = world.connect(Client::Pod, Mode::ProxyV2).await.unwrap();
    assert_eq!(part(&mut stream).await.unwrap(), "west\nbye\n");
    let line = line_of(&logs, "inbound", "completed", Mode::ProxyV2).await;
    line_of(&logs, "outbound", "completed", Mode::ProxyV2).await;
    assert_eq!((line.get("rule"), line.get("remedy")), ("-", ""));
    let (east, at_east) = stages(&world, "east", line.get("trace_id")).await;
    assert_eq!(at_east, ["accept", "identify", "route", "route", "forward", "end"], "{east:?}");
    assert_eq!((east.outcome.as_str(), detail(&east, "forward")), ("completed", vec!["west took it"]));
    let (west, at_west) = stages(&world, "west", line.get("trace_id")).await;
    assert_eq!(at_west, ["accept", "route", "identify", "authorize", "deliver", "end"], "{west:?}");
    assert!(
        detail(&west, "authorize")[0].contains("AuthorizationPolicy production/open from[0] allows it"),
        "{west:?}"
    );
    let delivered = format!("endpoint {} accepted it, delivered as proxy-v2", world.introduced.address());
    assert_eq!(detail(&west, "deliver"), [delivered]);
}

#[tokio::test]
async fn every_refusal_has_a_line_with_rule_principal_assurance_and_remedy() {
    let logs = Logs::default();
    let _captured = logs.capture();
    let world = World::new().await;
    world.policies(&authentication("proven", "STRICT"), &["proven"]).await;
    let strict = "PeerAuthentication production/proven";
    // Of a connection.
    assert_eq!(world.call(Client::Stranger, Mode::Plain).await, Sees::Reset);
    let line = line_of(&logs, "inbound", "denied", Mode::Plain).await;
    assert_eq!((line.get("rule"), line.get("principal"), line.get("assurance")), (strict, "-", "none"));
    assert!(
        line.get("remedy").contains("outbound.mtls_listen")
            && line.get("client").contains(&world.east().host(NOBODY).to_string())
    );
    // Of one that stays in its cluster.
    assert_eq!(world.call(Client::Local, Mode::Plain).await, Sees::Reset);
    let line = line_of(&logs, "local", "denied", Mode::Plain).await;
    assert_eq!((line.get("rule"), line.get("assurance")), (strict, "attested"));
    assert!(line.get("remedy").contains("prove its own key"), "{line:?}");
    // Of a request, and of the connection that had no other.
    assert_eq!(world.call(Client::Pod, Mode::Http).await, Sees::Status(403));
    let request = line_of(&logs, "request", "denied", Mode::Http).await;
    assert_eq!((request.get("method"), request.get("path"), request.get("status")), ("GET", "/", "403"));
    let connection = line_of(&logs, "inbound", "denied", Mode::Http).await;
    for line in [&request, &connection] {
        assert_eq!(
            (line.get("rule"), line.get("principal"), line.get("assurance")),
            (strict, WEB, "attested"),
            "{line:?}"
        );
        assert!(line.get("remedy").contains("prove its own key"), "{line:?}");
    }
    let (story, _) = stages(&world, "west", connection.get("trace_id")).await;
    assert!(
        detail(&story, "authorize").iter().any(|told| told.contains("GET /") && told.contains(strict)),
        "{story:?}"
    );
    // Of a connection that lives when a policy comes.
    let mut lives = world.connect(Client::Proven, Mode::Plain).await.unwrap();
    tests::client::say(&mut lives, "hello").await.unwrap();
    world.policies(&authorization("closed", "action: DENY, to: [{ports: [8080]}]"), &["closed"]).await;
    assert!(tests::client::rest(&mut lives).await.is_err());
    let cut = until("the line of the one that was cut", async || {
        lines(&logs).into_iter().find(|line| line.get("principal") == CRON && line.get("direction") == "inbound")
    })
    .await;
    let rule = "AuthorizationPolicy production/closed to[0]";
    assert_eq!((cut.get("outcome"), cut.get("rule"), cut.get("assurance")), ("denied", rule, "mtls"));
    assert!(cut.get("remedy").contains("narrow to[0]"), "{cut:?}");
}
