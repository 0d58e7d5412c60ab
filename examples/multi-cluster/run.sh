#!/usr/bin/env bash
# Three clusters on this machine: a federation service, three gateways and a few applications as real processes, joined with
# real tokens. Shows what they do, and checks it.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
# shellcheck source=lib/screen.sh
source "$HERE/lib/screen.sh"
# shellcheck source=lib/processes.sh
source "$HERE/lib/processes.sh"
# shellcheck source=lib/network.sh
source "$HERE/lib/network.sh"
# shellcheck source=lib/clusters.sh
source "$HERE/lib/clusters.sh"
# shellcheck source=lib/story.sh
source "$HERE/lib/story.sh"

ONCE=0
WITH_NETNS=0
PORT_BASE=${LANDBRIDGE_DEMO_PORT_BASE:-18000}
WORK=$ROOT/.demo
BIN=''
PROFILE=dev
HUB=()

usage() {
    cat <<'TEXT'
Usage: examples/multi-cluster/run.sh [OPTION]...

Starts three clusters on this machine, shows what they do, and keeps them until Ctrl-C.

  --once            show, check every answer, stop everything; exit status 1 when an answer differed, 2 when it could not run
  --netns           a network namespace for each cluster, with its own resolv.conf (root and iproute2)
  --port-base N     the first port used without --netns [default: 18000, or LANDBRIDGE_DEMO_PORT_BASE]
  --work-dir DIR    where state, logs and manifests are kept [default: .demo]
  --release         build with optimisation
  --bin-dir DIR     use the programs there and build nothing
  --help            this text
TEXT
}

options() {
    while (($#)); do
        case $1 in
        --once) ONCE=1 ;;
        --netns) WITH_NETNS=1 ;;
        --release) PROFILE=release ;;
        --port-base | --work-dir | --bin-dir)
            (($# > 1)) || die "$1 needs a value"
            case $1 in
            --port-base) PORT_BASE=$2 ;;
            --work-dir) WORK=$2 ;;
            --bin-dir) BIN=$(cd "$2" && pwd) || die "there is no directory $2" ;;
            esac
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            usage >&2
            die "unknown option $1"
            ;;
        esac
        shift
    done
    if ! [[ $PORT_BASE =~ ^[0-9]{4,5}$ ]] || ((PORT_BASE < 1024 || PORT_BASE > 65000)); then
        die "--port-base is a number from 1024 to 65000, not \"$PORT_BASE\""
    fi
}

requirements() {
    local tool missing=()
    for tool in curl dig openssl setsid flock; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]} == 0)) ||
        die "not installed: ${missing[*]}; on Debian: apt-get install curl bind9-dnsutils openssl util-linux"
    ((WITH_NETNS)) || return 0
    ((EUID == 0)) || die "--netns needs root: network namespaces are made with ip netns"
    command -v ip >/dev/null || die "--netns needs iproute2; on Debian: apt-get install iproute2"
    HUB=(ip netns exec "$NETNS-hub")
}

# The directory is ours alone: it is emptied at the start of each run.
work_directory() {
    mkdir -p "$WORK"
    WORK=$(cd "$WORK" && pwd)
    local entries=("$WORK"/*)
    if [[ ! -e $WORK/.landbridge-demo && -e ${entries[0]} ]]; then
        die "$WORK is not empty and not of an earlier demo: choose another --work-dir"
    fi
    touch "$WORK/.landbridge-demo"
    exec 9>"$WORK/.lock"
    flock -n 9 || die "another demo runs in $WORK: stop it, or choose another --work-dir and --port-base"
    # A Unix socket's path has 107 bytes at most, and the gateways' sockets are below this directory.
    ((${#WORK} <= 80)) || die "the path $WORK is too long for a socket in it: choose another --work-dir"
    rm -rf "${WORK:?}"/{federation,east,west,north,vault,vault.yaml,logs}
    mkdir -p "$WORK/logs"
    chmod 700 "$WORK"
}

build() {
    [[ -z $BIN ]] || return 0
    heading "Building the programs (the first time takes a few minutes)"
    local flags=(-p gateway -p federation -p federation-fedctl -p examples-multi-cluster --bins)
    [[ $PROFILE == dev ]] || flags+=(--release)
    (cd "$ROOT" && cargo build "${flags[@]}") || die "the build failed"
    BIN=${CARGO_TARGET_DIR:-$ROOT/target}/$([[ $PROFILE == dev ]] && echo debug || echo release)
    BIN=$(cd "$ROOT" && cd "$BIN" && pwd)
}

programs() {
    local program
    for program in landbridge-federation landbridge-gateway fedctl demo-app; do
        [[ -x $BIN/$program ]] || die "$BIN/$program is missing: leave --bin-dir out to build it"
    done
}

clean_up() {
    local status=$?
    trap - EXIT INT TERM HUP
    [[ -z ${TALK_ID:-} ]] || kill "$TALK_ID" 2>/dev/null || true
    if ((${#STARTED[@]})); then
        heading "Stopping everything"
        stop_all
    fi
    network_down
    ((status == 0)) || note "logs: $WORK/logs"
    exit "$status"
}

set_up() {
    heading "One federation service and three gateways"
    start_federation
    note "federation service: https://$FEDERATION"
    local cluster
    for cluster in "${CLUSTERS[@]}"; do
        configure "$cluster"
        start_gateway "$cluster"
        note "gateway of $cluster: tunnels ${ADVERTISE[$cluster]:-none inbound (dials only)}; imports ${VIP[$cluster]}.0.0/16; DNS ${DNS[$cluster]}"
    done
    heading "Joining them, each with a token of its own"
    for cluster in "${CLUSTERS[@]}"; do
        join "$cluster"
    done
    heading "Applications: a frontend in east, an api in west and north, a TLS service and a chat in west"
    start_apps
    note "each on its own loopback address; logs in $WORK/logs"
}

story() {
    show_names
    show_http
    show_policy
    open_session
    show_tls
    show_overview
    show_failover
    show_return
    show_independence
}

try_it() {
    heading "The clusters stay up until Ctrl-C. Try, in another terminal:"
    if ((WITH_NETNS)); then
        note "ip netns exec $NETNS-east curl http://$API:8080"
        note "ip netns exec $NETNS-east dig +short $API"
        note "ip netns exec $NETNS-north curl --cacert $WORK/vault/ca.pem https://$VAULT:8443"
    else
        note "dig @${DNS[east]%:*} -p ${DNS[east]##*:} $API"
        note "curl --interface $EAST_SHELL --resolve $API:8080:$API_ADDRESS http://$API:8080"
        note "curl http://127.10.0.10:8080              # the frontend of east, which calls the api"
        note "curl --cacert $WORK/vault/ca.pem --connect-to $VAULT:443:${SNI[east]} https://$VAULT"
    fi
    note "$BIN/fedctl --gateway unix:$WORK/east/state/admin.sock status"
    note "kill -9 ${PIDS[gateway-west]}                          # west's gateway: watch the frontend move to north"
    note "edit $WORK/west/manifests/*.yaml, and dig again"
    note "tail -f $WORK/logs/gateway-east.log      # one line for each connection"
    # A signal ends the wait; clean_up is what comes then.
    trap 'exit 0' INT
    sleep infinity &
    STARTED+=(waiting)
    PIDS[waiting]=$!
    wait "${PIDS[waiting]}"
}

options "$@"
requirements
build
programs
work_directory
addresses
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
network_up
set_up
story
if ((ONCE)); then
    summary
else
    summary || true
    try_it
fi
