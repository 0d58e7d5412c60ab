mod policies;

use super::*;
use crate::objects::UNDATED;
use federation_catalog::objects::PodPhase;
use federation_model::time::Timestamp;

fn names(reading: &Reading) -> Vec<(String, u32)> {
    reading.objects.iter().map(|(id, line, _)| (id.to_string(), *line)).collect()
}

fn only_fault(reading: &Reading) -> &Fault {
    assert_eq!(reading.faults.len(), 1, "{:?}", reading.faults);
    &reading.faults[0]
}

#[test]
fn a_document_that_is_not_yaml_loses_no_other_and_has_the_line_of_the_file() {
    let text = "\
apiVersion: v1
kind: Service
metadata: {name: a}
---
apiVersion: v1
kind: Service
metadata:
  name: b
   namespace: wrong indent
---
apiVersion: v1
kind: Service
metadata: {name: c, namespace: shop}
";
    let reading = read(text);
    assert_eq!(names(&reading), [("Service default/a".to_owned(), 1), ("Service shop/c".to_owned(), 11)]);
    let fault = only_fault(&reading);
    assert_eq!(fault.line, Some(9), "{fault:?}");
    assert_eq!(fault.id, None);
    assert!(fault.reason.contains("line 9"), "{fault:?}");
}

#[test]
fn unclosed_quotes_and_brackets_do_not_swallow_the_next_document() {
    for bad in
        ["kind: \"Serv", "kind: [", "a: {b: ", "x: |\n  text\n y", "- a\nb: c", "&x *x", "\tkind: x", "a: *nowhere"]
    {
        let reading = read(&format!("{bad}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: c}}\n"));
        assert_eq!(names(&reading).len(), 1, "{bad:?}");
        assert!(only_fault(&reading).line.is_some(), "{bad:?}");
    }
}

#[test]
fn a_field_of_the_wrong_type_names_the_object_and_its_line() {
    let text = "\
# a comment
apiVersion: v1
kind: Service
metadata:
  name: api
spec:
  ports:
  - name: http
    port: eighty
";
    let reading = read(&format!("---\n{text}"));
    let fault = only_fault(&reading);
    assert_eq!(fault.line, Some(10), "{fault:?}");
    assert_eq!(fault.id.as_ref().unwrap().to_string(), "Service default/api");
}

#[test]
fn a_field_out_of_its_grammar_names_the_field() {
    for (kind, body, expected) in [
        ("Service", "spec: {ports: [{port: 0}]}", "spec.ports[0].port: 0 is not a port"),
        ("Service", "spec: {ports: [{port: 80, name: Web}]}", "spec.ports[0].name"),
        ("Service", "spec: {type: Outside}", "spec.type: \"Outside\""),
        ("Service", "spec: {sessionAffinity: Cookie}", "spec.sessionAffinity"),
        (
            "Service",
            "spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 90000}}}",
            "timeoutSeconds: 90000",
        ),
        ("EndpointSlice", "addressType: IPX\nendpoints: []", "addressType: \"IPX\""),
        ("EndpointSlice", "addressType: IPv4\nendpoints: [{addresses: [localhost]}]", "endpoints[0].addresses"),
        ("EndpointSlice", "addressType: IPv6\nendpoints: [{addresses: [10.0.0.1]}]", "not an IPv6 address"),
        ("Pod", "status: {podIP: here}", "status.podIPs"),
    ] {
        let version = if kind == "EndpointSlice" { "discovery.k8s.io/v1" } else { "v1" };
        let reading = read(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: api}}\n{body}\n"));
        let fault = only_fault(&reading);
        assert!(fault.reason.contains(expected), "{body}: {fault:?}");
        assert!(fault.id.is_some(), "{body}");
    }
}

#[test]
fn a_list_keeps_its_good_items_and_names_the_line_of_a_bad_one() {
    let text = "\
apiVersion: v1
kind: Service
metadata: {name: zero}
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: one}
- apiVersion: v1
  kind: Service
  metadata: {name: two}
  spec: {ports: [{port: many}]}
- apiVersion: v1
  kind: Secret
  metadata: {name: three}
- apiVersion: multicluster.x-k8s.io/v1alpha1
  kind: ServiceExport
  metadata: {name: one}
";
    let reading = read(text);
    let expected = [("Service default/zero", 1), ("Service default/one", 8), ("ServiceExport default/one", 18)];
    assert_eq!(names(&reading), expected.map(|(name, line)| (name.to_owned(), line)));
    let fault = only_fault(&reading);
    assert_eq!((fault.line, fault.id.as_ref().unwrap().name.as_str()), (Some(11), "two"));
}

#[test]
fn typed_lists_lend_their_items_the_kind() {
    let text = r#"{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSliceList","items":[
        {"metadata":{"name":"api-1"},"addressType":"IPv4","endpoints":[]}]}"#;
    assert_eq!(names(&read(text)), [("EndpointSlice default/api-1".to_owned(), 2)]);
    let foreign = "apiVersion: apps/v1\nkind: DeploymentList\nitems: [{metadata: {name: x}}]\n";
    let reading = read(foreign);
    assert!(reading.objects.is_empty() && reading.faults.is_empty(), "{reading:?}");
}

#[test]
fn json_with_tabs_is_read() {
    let text =
        "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\n\t\t\"name\": \"a\\/b\"\n\t}\n}\n";
    let reading = read(text);
    assert!(only_fault(&reading).reason.contains("a/b"), "{reading:?}");
}

#[test]
fn kinds_of_other_groups_are_ignored_and_wrong_versions_of_ours_are_not() {
    let reading = read(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n---\n\
         apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: c}\n",
    );
    assert!(reading.objects.is_empty() && reading.faults.is_empty(), "{reading:?}");
    for version in ["multicluster.k8s.io/v1alpha1", "multicluster.x-k8s.io/v9"] {
        let reading = read(&format!("apiVersion: {version}\nkind: ServiceExport\nmetadata: {{name: a}}\n"));
        assert!(only_fault(&reading).reason.contains("write multicluster.x-k8s.io/v1beta1"), "{reading:?}");
    }
}

#[test]
fn documents_that_are_no_objects_say_so() {
    for text in [
        "replicas: 3\n",
        "apiVersion: v1\nmetadata: {name: a}\n",
        "apiVersion: v1\nkind: Service\n",
        "just text",
        "[1]",
    ] {
        assert_eq!(only_fault(&read(text)).line, Some(1), "{text}");
    }
}

#[test]
fn a_service_is_read_with_the_defaults_of_kubernetes() {
    let reading = read(
        "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop, creationTimestamp: null}\n\
         spec:\n  clusterIP: None\n  sessionAffinity: ClientIP\n  trafficDistribution: PreferClose\n\
         \x20 ports:\n  - {name: sql, port: 5432, targetPort: pg}\n  - {name: dns, port: 53, protocol: UDP, targetPort: 5353}\n",
    );
    let (_, _, Object::Service(service)) = &reading.objects[0] else { panic!("{reading:?}") };
    assert_eq!(
        format!("{service:?}"),
        "ServiceObject { key: shop/db, service_type: Headless, ports: [\
         ServicePortObject { name: Some(sql), protocol: Carried(Tcp), port: 5432, app_protocol: None, \
         target_port: Some(Name(\"pg\")) }, \
         ServicePortObject { name: Some(dns), protocol: Carried(Udp), port: 53, app_protocol: None, \
         target_port: Some(Number(5353)) }], session_affinity: ClientIp { timeout_seconds: 10800 }, \
         internal_traffic_policy: None, traffic_distribution: Some(\"PreferClose\") }",
    );
}

#[test]
fn a_slice_is_read_with_the_meaning_of_absent_conditions() {
    let reading = read(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}\n\
         addressType: IPv4\nports: [{name: sql, port: 15432}, {name: \"\", protocol: SCTP}]\n\
         endpoints:\n- {addresses: [127.0.0.1]}\n\
         - {addresses: [127.0.0.2], hostname: db-0, conditions: {ready: false}, targetRef: {kind: Pod, name: db-0}}\n",
    );
    let (_, _, Object::EndpointSlice(slice)) = &reading.objects[0] else { panic!("{reading:?}") };
    assert_eq!(slice.service.as_ref().unwrap().as_str(), "db");
    assert_eq!(slice.ports[1].protocol, federation_catalog::objects::Protocol::Other("SCTP".to_owned()));
    let states: Vec<_> = slice.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating)).collect();
    assert_eq!(states, [(true, true, false), (false, false, false)]);
    assert_eq!(slice.endpoints[1].pod.as_ref().unwrap().to_string(), "shop/db-0");
}

#[test]
fn pods_own_their_addresses_and_a_manifest_need_not_state_the_phase() {
    let reading = read(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1}\nspec: {serviceAccountName: frontend}\n\
         status: {podIP: 127.0.0.9, podIPs: [{ip: 127.0.0.9}, {ip: \"::9\"}]}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: web-2}\nstatus: {phase: Failed, podIP: 127.0.0.8}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: web-3}\nstatus: {phase: Pending, podIP: 127.0.0.8}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: web-4}\nstatus: {phase: Succeeded}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: web-5}\n",
    );
    let pods: Vec<_> = reading
        .objects
        .iter()
        .map(|(_, _, object)| match object {
            Object::Pod(pod) => (pod.ips.len(), &*pod.service_account, pod.phase),
            Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::ServiceExport(_)
            | Object::AuthorizationPolicy(_)
            | Object::PeerAuthentication(_) => panic!("{object:?}"),
        })
        .collect();
    use PodPhase::{Ended, Running, Unsettled};
    let default = |addresses, phase| (addresses, "default", phase);
    let expected = [(1, Ended), (1, Unsettled), (0, Ended), (0, Unsettled)].map(|(ips, phase)| default(ips, phase));
    assert_eq!(pods, [&[(2, "frontend", Running)][..], &expected].concat());
}

#[test]
fn an_export_without_a_date_is_younger_than_every_dated_one() {
    let reading = read(
        "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\n\
         metadata:\n  name: a\n  creationTimestamp: 2026-01-02T03:04:05Z\n  annotations: {landbridge.dev/deliver: proxy-v2, other: x}\n\
         spec: {exportedLabels: {team: pay}}\n---\n\
         apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\nmetadata: {name: b}\n",
    );
    let exports: Vec<_> = reading
        .objects
        .iter()
        .map(|(_, _, object)| match object {
            Object::ServiceExport(export) => export,
            Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::Pod(_)
            | Object::AuthorizationPolicy(_)
            | Object::PeerAuthentication(_) => panic!("{object:?}"),
        })
        .collect();
    assert_eq!(exports[0].created, Timestamp(1_767_323_045));
    assert_eq!(exports[1].created, UNDATED);
    assert!(exports[0].created < exports[1].created);
    assert_eq!(exports[0].annotations.keys().collect::<Vec<_>>(), ["landbridge.dev/deliver"]);
    assert_eq!(exports[0].exported_labels["team"], "pay");
}

#[test]
fn endless_aliases_are_refused() {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
    for (before, name) in ('a'..='j').zip('b'..='k') {
        let aliases = vec![format!("*{before}"); 9].join(", ");
        text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    assert_eq!(only_fault(&read(&text)).id, None);
}
