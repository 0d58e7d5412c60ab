# shellcheck shell=bash
# The federation service, the gateways and the applications of the demo.

# The federation service, with a store of its own.
start_federation() {
    mkdir -p "$WORK/federation"
    cat >"$WORK/federation/federation.toml" <<TOML
[grpc]
listen = "$FEDERATION"
names = ["${FEDERATION%:*}"]

[admin]
listen = "$FEDERATION_ADMIN"

[store]
url = "file:$WORK/federation/state"
TOML
    start federation "${HUB[@]}" "$BIN/landbridge-federation" --config "$WORK/federation/federation.toml"
    wait_until 30 "the federation service is ready" at hub curl -fsS "http://$FEDERATION_ADMIN/readyz"
}

# configure CLUSTER: writes its gateway.toml and its copy of the manifests, which may be edited while the demo runs.
configure() {
    local cluster=$1 dir=$WORK/$1 advertise=''
    [[ -z ${ADVERTISE[$cluster]} ]] || advertise="\"${ADVERTISE[$cluster]}\""
    mkdir -p "$dir"
    cp -r "$HERE/manifests/$cluster" "$dir/manifests"
    if ((WITH_NETNS)) && [[ -d $HERE/manifests/netns/$cluster ]]; then
        cp "$HERE/manifests/netns/$cluster"/*.yaml "$dir/manifests/"
    fi
    cat >"$dir/gateway.toml" <<TOML
[cluster]
name = "$cluster"
trust_domain = "$cluster.example"

[tunnel]
listen = "${TUNNEL[$cluster]}"
advertise = [$advertise]

[outbound]
vip_cidr = "${VIP[$cluster]}.0.0/16"
sni_listen = "${SNI[$cluster]}"

[dns]
listen = "${DNS[$cluster]}"

[admin]
listen = "${ADMIN[$cluster]}"

[catalog]
source = "manifests"
dir = "$dir/manifests"

[state]
dir = "$dir/state"

[log]
level = "info"
access = true
TOML
}

start_gateway() {
    local place=()
    ((!WITH_NETNS)) || place=(ip netns exec "$NETNS-$1")
    start "gateway-$1" "${place[@]}" "$BIN/landbridge-gateway" --config "$WORK/$1/gateway.toml"
    wait_until 30 "the gateway of $1 is alive" at "$1" curl -fsS "http://${ADMIN[$1]}/livez"
    wait_until 30 "the gateway of $1 answers fedctl" gateway_answers "$1"
}

# gateway_answers CLUSTER: fedctl could talk to it (exit status 1 only means that something is not as it should be yet).
gateway_answers() {
    local status=0
    gateway_ctl "$1" status || status=$?
    ((status < 2))
}

# gateway_ctl CLUSTER ARGUMENT...: fedctl on one gateway, over its socket.
gateway_ctl() {
    local cluster=$1
    shift
    "$BIN/fedctl" --gateway "unix:$WORK/$cluster/state/admin.sock" "$@"
}

# show_fedctl CLUSTER ARGUMENT...: the same, shown.
show_fedctl() {
    local cluster=$1
    shift
    show "$BIN/fedctl" --gateway "unix:$WORK/$cluster/state/admin.sock" "$@"
}

operator_ctl() { at hub "$BIN/fedctl" --federation "https://$FEDERATION" --operator "$WORK/federation/state/operator" "$@"; }

# join CLUSTER: with a token made for it, which is good for one use.
join() {
    local token
    printf '%s$ fedctl token create --cluster %s | fedctl join - --yes%s\n' "$DIM" "$1" "$RESET"
    token=$(operator_ctl token create --cluster "$1" --ttl 15m 2>>"$(log_of fedctl)") ||
        give_up "fedctl token create failed, see $(log_of fedctl)" federation
    gateway_ctl "$1" join - --yes --wait 60s <<<"$token" 2>&1 | sed 's/^/    /' ||
        give_up "$1 could not join" federation "gateway-$1"
}

# start_app CLUSTER POD KIND LISTEN ARGUMENT...: one application, ready when it listens.
start_app() {
    local cluster=$1 pod=$2 kind=$3 listen=$4 place=()
    shift 4
    ((!WITH_NETNS)) || place=(ip netns exec "$NETNS-$cluster")
    start "$pod" "${place[@]}" "$BIN/demo-app" "$kind" --cluster "$cluster" --pod "$pod" --listen "$listen" "$@"
    wait_until 15 "$pod listens on $listen" grep -q "^listening on $listen" "$(log_of "$pod")"
}

start_apps() {
    local dns=()
    ((WITH_NETNS)) || dns=(--dns "${DNS[east]}")
    start_app west api-west-0 http 127.11.0.10:8080
    start_app north api-north-0 http 127.12.0.10:8080
    start_app west vault-0 tls 127.11.0.20:9443 --name "$VAULT" --out "$WORK/vault"
    start_app west chat-0 chat 127.11.0.30:7000
    start_app west chat-1 chat 127.11.0.31:7000
    start_app east frontend-0 frontend 127.10.0.10:8080 --api "$API:8080" "${dns[@]}"
}
