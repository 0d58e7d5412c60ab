use federation_catalog::objects::{AddressType, PodPhase, ServiceType};
use kube::core::ObjectList;

use super::*;

fn read<L: Lean>(json: &str, kind: Kind) -> Reading {
    serde_json::from_str::<L>(json).unwrap().read(Some(kind))
}

fn object<L: Lean>(json: &str, kind: Kind) -> Object {
    match read::<L>(json, kind) {
        Reading::Object(object) => *object,
        other @ (Reading::Fault(_) | Reading::Name) => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_is_read_with_all_that_says_whose_its_address_is() {
    let pod = r#"{
        "metadata": {"name": "web-1", "namespace": "shop", "resourceVersion": "5", "uid": "u",
            "labels": {"app": "web"}, "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30,
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {"f:podIP": {}}}}]},
        "spec": {"containers": [{"name": "a", "image": "b", "env": [{"name": "X", "value": "y"}]}],
            "serviceAccountName": "frontend", "hostNetwork": true},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}"#;
    let Object::Pod(pod) = object::<LeanPod>(pod, Kind::Pod) else { panic!() };
    assert_eq!((pod.key.to_string().as_str(), &*pod.service_account), ("shop/web-1", "frontend"));
    assert_eq!((pod.ips.len(), pod.phase, pod.host_network, pod.deleted), (2, PodPhase::Running, true, true));
}

#[test]
fn a_service_and_a_slice_are_read_as_a_manifest_is() {
    let service = r#"{"metadata": {"name": "api", "namespace": "shop"},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        "status": {"loadBalancer": {}}}"#;
    let Object::Service(service) = object::<LeanService>(service, Kind::Service) else { panic!() };
    assert_eq!((service.service_type, service.ports.len()), (ServiceType::Headless, 1));
    let slice = r#"{"metadata": {"name": "api-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "api"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "n", "zone": "z",
            "hints": {"forZones": [{"name": "z"}]}, "targetRef": {"kind": "Pod", "name": "web-1", "uid": "u"}}]}"#;
    let Object::EndpointSlice(slice) = object::<LeanEndpointSlice>(slice, Kind::EndpointSlice) else { panic!() };
    assert_eq!((slice.address_type, slice.endpoints.len()), (AddressType::Ipv4, 1));
    assert_eq!(slice.endpoints[0].pod.as_ref().unwrap().to_string(), "shop/web-1");
    let empty = r#"{"metadata": {"name": "api-x"}, "addressType": "IPv4", "endpoints": null, "ports": null}"#;
    assert!(matches!(read::<LeanEndpointSlice>(empty, Kind::EndpointSlice), Reading::Object(_)));
}

#[test]
fn slices_of_gateways_and_of_other_clusters_are_imports_without_endpoints() {
    for label in [
        r#""endpointslice.kubernetes.io/managed-by": "gateway.landbridge.dev""#,
        r#""multicluster.kubernetes.io/source-cluster": "west""#,
    ] {
        let slice = format!(
            r#"{{"metadata": {{"name": "a", "labels": {{"kubernetes.io/service-name": "api", {label}}}}},
                "addressType": "IPv4", "endpoints": [{{"addresses": ["10.0.0.1"]}}]}}"#
        );
        let Object::EndpointSlice(slice) = object::<LeanEndpointSlice>(&slice, Kind::EndpointSlice) else { panic!() };
        assert!(slice.imported && slice.endpoints.is_empty(), "{label}");
    }
}

#[test]
fn one_bad_custom_resource_takes_no_other_of_its_list_with_it() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "7"}, "items": [
        {"metadata": {"name": "api", "namespace": "shop", "managedFields": [{"bad": 1}]}, "spec": {"exportedLabels": 3}},
        {"metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"}}]}"#;
    let list: ObjectList<Whole> = serde_json::from_str(list).unwrap();
    let readings: Vec<_> = list.items.into_iter().map(|item| item.read(Some(Kind::ServiceExport))).collect();
    let [Reading::Fault(fault), Reading::Object(good)] = &readings[..] else { panic!("{readings:?}") };
    assert!(fault.reason.contains("expected a map"), "{fault:?}");
    let Object::ServiceExport(export) = &**good else { panic!() };
    assert_eq!(export.created.0, 1_767_225_600);
}

#[test]
fn a_policy_at_fault_says_what_it_would_have_selected() {
    let policy = r#"{"apiVersion": "policy.landbridge.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": {"action": "OOPS", "to": [{"services": ["api"]}]}}"#;
    let Reading::Fault(fault) = read::<Whole>(policy, Kind::AuthorizationPolicy) else { panic!() };
    let Some(document::UnreadPolicy::Refusing { namespace, services, .. }) = fault.policy.as_deref() else { panic!() };
    assert_eq!((namespace.as_ref().unwrap().as_str(), services.len()), ("shop", 1));
}
