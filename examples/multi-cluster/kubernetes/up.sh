#!/usr/bin/env bash
# Two kind clusters, east and west, joined by Landbridge: installs everything, shows a call across and a failover.
# Every step does nothing where it is done already, so after an interruption: run it again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../../.." && pwd)
namespace=landbridge-system
fedctl=${FEDCTL:-fedctl}
image=${IMAGE:-}

say() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

fail() {
    echo "up.sh: $*" >&2
    exit 1
}

# What is missing, all of it at once.
check_tools() {
    local missing=0 pair
    for pair in "kind|https://kind.sigs.k8s.io" "docker|kind runs clusters as containers" "kubectl|talks to the clusters" \
        "$fedctl|cargo build --release -p federation-fedctl, then FEDCTL=target/release/fedctl"; do
        if ! command -v "${pair%%|*}" >/dev/null; then
            echo "missing: ${pair%%|*} (${pair#*|})" >&2
            missing=1
        fi
    done
    ((missing == 0)) || exit 2
    docker info >/dev/null 2>&1 || fail "docker does not answer: start it"
}

kube() { # CLUSTER ARGUMENTS...
    local cluster=$1
    shift
    kubectl --context "kind-$cluster" "$@"
}

node_address() { # CLUSTER
    docker inspect --format '{{.NetworkSettings.Networks.kind.IPAddress}}' "$1-control-plane"
}

node_port() { # CLUSTER SERVICE
    kube "$1" get service --namespace "$namespace" "$2" --output jsonpath='{.spec.ports[0].nodePort}'
}

make_cluster() { # CLUSTER
    if ! kind get clusters 2>/dev/null | grep -qx "$1"; then
        kind create cluster --name "$1" --config "$here/manifests/kind.yaml"
    fi
    if [[ -n $image ]]; then
        kind load image-archive "$image" --name "$1"
    fi
}

has_service() { # CLUSTER SERVICE
    kube "$1" get service --namespace "$namespace" "$2" >/dev/null 2>&1
}

# The port of the node is known once the Service is there, so it is installed twice: the second time tells the address.
install_federation() {
    has_service east landbridge-federation ||
        "$fedctl" install federation --context kind-east --service-type NodePort --wait 0s
    "$fedctl" install federation --context kind-east --service-type NodePort \
        --name "$(node_address east):$(node_port east landbridge-federation)"
}

install_gateway() { # CLUSTER
    local options=(--context "kind-$1" --cluster "$1" --trust-domain "$1.example" --service-type NodePort)
    has_service "$1" landbridge-gateway || "$fedctl" install gateway "${options[@]}" --wait 0s
    "$fedctl" install gateway "${options[@]}" --advertise "$(node_address "$1"):$(node_port "$1" landbridge-gateway)"
}

# Names of the cluster set are asked of the gateway. CoreDNS would read the change within two minutes by itself.
install_names() { # CLUSTER
    if "$fedctl" dns status --context "kind-$1" >/dev/null; then
        return
    fi
    "$fedctl" dns install --context "kind-$1" --yes
    kube "$1" rollout restart --namespace kube-system deployment/coredns
    kube "$1" rollout status --namespace kube-system deployment/coredns --timeout 2m
}

install_shop() { # CLUSTER
    sed "s/CLUSTER/$1/" "$here/manifests/api.yaml" | kube "$1" apply --filename -
    kube "$1" rollout status --namespace shop deployment/catalogue --timeout 2m
}

# Waits until the front of the shop is answered by a cluster.
await_answer() { # CLUSTER
    local deadline=$((SECONDS + 60))
    until kube east logs --namespace shop deployment/frontend --tail 1 | grep -q "catalogue of $1"; do
        ((SECONDS < deadline)) || fail "nothing answers from $1 within a minute; fedctl check in both gateways says why"
        sleep 1
    done
    echo "answered: catalogue of $1"
}

check_tools
if [[ -z $image ]]; then
    image=$top/landbridge.tar
    say "The image, without a registry"
    "$top/deploy/image/build-rootfs.sh" --output "$image"
fi

say "Two clusters"
make_cluster east
make_cluster west

say "The federation service, in east"
install_federation

for cluster in east west; do
    say "A gateway in $cluster"
    install_gateway "$cluster"
done

say "One cluster set: a token for each, the joins, and a test in both directions"
"$fedctl" link kind-east kind-west --yes

say "Names in pods"
for cluster in east west; do
    install_names "$cluster"
done

say "The shop: a catalogue in both clusters, the front in east"
install_shop east
install_shop west
kube east apply --filename "$here/manifests/frontend.yaml"
kube east rollout status --namespace shop deployment/frontend --timeout 2m
"$fedctl" status --context kind-east
"$fedctl" services --context kind-east
await_answer east

say "Failover: the catalogue of east goes, the same name is answered by west"
kube east scale --namespace shop deployment/catalogue --replicas 0
await_answer west

say "Return: it comes back, and east is nearer"
kube east scale --namespace shop deployment/catalogue --replicas 1
await_answer east

say "Done. Look around as README.md says; ./down.sh removes everything."
