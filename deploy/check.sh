#!/usr/bin/env bash
# Asks a real API server about everything in deploy/: KUBECONFIG=FILE deploy/check.sh
# For a cluster that may be thrown away, one without nodes will do: installs the definitions and the namespaces, and everything else
# as a dry run. Pods are judged by Pod Security (restricted), rights as the gateway's own account.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

namespace=landbridge-system
failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

result() { # WORD WHAT
    printf '%-7s %s\n' "$1" "$2"
    [[ $1 == ok ]] || failed=1
}

# For kinds of other programs that the cluster lacks: whatever is in them is accepted.
stand_in() { # GROUP PLURAL KIND
    kubectl get crd "$2.$1" >/dev/null 2>&1 && return
    kubectl apply --server-side --filename - >/dev/null <<YAML
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: $2.$1}
spec:
  group: $1
  scope: Namespaced
  names: {kind: $3, plural: $2}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
YAML
}

for namespaced in team-a team-b; do
    kubectl create namespace "$namespaced" --dry-run=client --output yaml | kubectl apply --server-side --filename - >/dev/null
done
stand_in cert-manager.io issuers Issuer
stand_in cert-manager.io certificates Certificate
stand_in monitoring.coreos.com servicemonitors ServiceMonitor
stand_in monitoring.coreos.com prometheusrules PrometheusRule
kubectl apply --server-side --kustomize kustomize/crds >/dev/null
kubectl wait --for condition=Established crd --all --timeout 60s >/dev/null
# The namespace with its labels, the account and its rights are real, the rest is not.
{
    kubectl kustomize kustomize/gateway
    echo ---
    kubectl kustomize kustomize/federation
} >"$work/bases.yaml"
python3 - "$work/bases.yaml" >"$work/rights.yaml" <<'PY'
import sys
kinds = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
documents = open(sys.argv[1]).read().split("\n---\n")
print("\n---\n".join(d for d in documents if any(f"\nkind: {kind}\n" in "\n" + d for kind in kinds)))
PY
kubectl apply --server-side --filename "$work/rights.yaml" >/dev/null

for overlay in kustomize/overlays/*/; do
    if errors=$(kubectl kustomize "$overlay" |
        kubectl apply --server-side --force-conflicts --validate=strict --dry-run=server --filename - 2>&1 >/dev/null); then
        result ok "overlay $(basename "$overlay")"
    else
        result FAILED "overlay $(basename "$overlay"): $errors"
    fi
done

# The template of each workload as a pod: only pods are refused by Pod Security, workloads are warned about.
for overlay in loadbalancer cert-manager federation; do
    kubectl kustomize "kustomize/overlays/$overlay" >"$work/overlay.yaml"
    kubectl create --dry-run=client --output json --filename "$work/overlay.yaml" | python3 -c '
import json, sys
text = sys.stdin.read()
decoder, at, found = json.JSONDecoder(), 0, None
while at < len(text):
    value, at = decoder.raw_decode(text, at)
    at += len(text[at:]) - len(text[at:].lstrip())
    for item in value.get("items", [value]):
        if item["kind"] in ("Deployment", "StatefulSet"):
            found = item
spec = found["spec"]["template"]["spec"]
spec.setdefault("volumes", []).extend({"name": c["metadata"]["name"], "emptyDir": {}} for c in found["spec"].get("volumeClaimTemplates", []))
print(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "judged", "namespace": found["metadata"]["namespace"]}, "spec": spec}))
' >"$work/pod.json"
    if errors=$(kubectl create --dry-run=server --filename "$work/pod.json" 2>&1 >/dev/null); then
        result ok "Pod Security restricted: $overlay"
    else
        result FAILED "Pod Security restricted: $overlay: $errors"
    fi
done

# expected VERB RESOURCE[/NAME] NAMESPACE
can() {
    local expected=$1 verb=$2 resource=$3 where=$4 answer place=(--all-namespaces)
    [[ $where == all ]] || place=(--namespace "$where")
    answer=$(kubectl auth can-i "$verb" "$resource" "${place[@]}" ${5:+--subresource "$5"} \
        --as "system:serviceaccount:$namespace:landbridge-gateway" 2>/dev/null || true)
    if [[ $answer == "$expected" ]]; then
        result ok "$expected: $verb $resource${5:+/$5} in $where"
    else
        result FAILED "$verb $resource${5:+/$5} in $where: $answer rather than $expected"
    fi
}
for resource in services pods namespaces endpointslices.discovery.k8s.io serviceexports.multicluster.x-k8s.io \
    serviceimports.multicluster.x-k8s.io authorizationpolicies.policy.landbridge.dev clusterproperties.about.k8s.io; do
    can yes watch "$resource" all
done
can yes patch serviceexports.multicluster.x-k8s.io team-a status
can yes create serviceimports.multicluster.x-k8s.io team-a
can yes patch serviceimports.multicluster.x-k8s.io team-a status
can no create events.events.k8s.io team-a
can yes create services "$namespace"
can yes delete endpointslices.discovery.k8s.io "$namespace"
can yes update leases.coordination.k8s.io/landbridge-gateway "$namespace"
can yes update secrets/landbridge-gateway-state "$namespace"
can no update leases.coordination.k8s.io/other "$namespace"
can no get secrets/landbridge-root "$namespace"
can no list secrets "$namespace"
can no get secrets team-a
can no create services team-a
can no delete endpointslices.discovery.k8s.io team-a
can no patch serviceexports.multicluster.x-k8s.io team-a
can no create pods "$namespace"
can no create clusterroles.rbac.authorization.k8s.io all
can no escalate roles.rbac.authorization.k8s.io "$namespace"

exit "$failed"
