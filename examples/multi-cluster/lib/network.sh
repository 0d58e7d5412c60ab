# shellcheck shell=bash
# Where the clusters are: on distinct loopback addresses and ports of this machine, or, with --netns, each in a network
# namespace of its own, where every gateway has the default ports and the resolver is its DNS server.

CLUSTERS=(east west north)
declare -A TUNNEL=() SNI=() DNS=() ADMIN=() ADVERTISE=() VIP=([east]=127.80 [west]=127.81 [north]=127.82)
FEDERATION=''
FEDERATION_ADMIN=''
# Names of the namespaces, and the network between them.
NETNS=landbridge-demo
SUBNET=10.213.77

addresses() {
    local cluster index=0 base
    for cluster in "${CLUSTERS[@]}"; do
        index=$((index + 1))
        if ((WITH_NETNS)); then
            TUNNEL[$cluster]=0.0.0.0:15443
            ADVERTISE[$cluster]=$SUBNET.$((10 + index)):15443
            SNI[$cluster]=127.0.0.1:15080 DNS[$cluster]=127.0.0.1:53 ADMIN[$cluster]=127.0.0.1:15000
        else
            base=$((PORT_BASE + 100 * index))
            TUNNEL[$cluster]=127.0.0.1:$((base + 1))
            ADVERTISE[$cluster]=127.0.0.1:$((base + 1))
            SNI[$cluster]=127.0.0.1:$((base + 2)) DNS[$cluster]=127.0.0.1:$((base + 3)) ADMIN[$cluster]=127.0.0.1:$((base + 4))
        fi
    done
    # North cannot be reached from outside: it dials, and its tunnels carry both directions.
    ADVERTISE[north]=''
    if ((WITH_NETNS)); then
        FEDERATION=$SUBNET.1:15010 FEDERATION_ADMIN=$SUBNET.1:15011
    else
        FEDERATION=127.0.0.1:$((PORT_BASE + 10)) FEDERATION_ADMIN=127.0.0.1:$((PORT_BASE + 11))
    fi
}

# at PLACE COMMAND...: runs it in a cluster, or in "hub" where the federation service is.
at() {
    local place=$1
    shift
    if ((WITH_NETNS)); then ip netns exec "$NETNS-$place" "$@"; else "$@"; fi
}

# show_at PLACE COMMAND...: the same, shown as a person would type it.
show_at() {
    local place=$1
    shift
    if ((WITH_NETNS)); then show ip netns exec "$NETNS-$place" "$@"; else show "$@"; fi
}

network_up() {
    ((WITH_NETNS)) || return 0
    local cluster index=0
    network_down
    ip netns add "$NETNS-hub"
    at hub ip link add bridge type bridge
    at hub ip address add "$SUBNET.1/24" dev bridge
    at hub ip link set lo up
    at hub ip link set bridge up
    for cluster in "${CLUSTERS[@]}"; do
        index=$((index + 1))
        ip netns add "$NETNS-$cluster"
        ip -n "$NETNS-hub" link add "$cluster" type veth peer name eth0 netns "$NETNS-$cluster"
        at hub ip link set "$cluster" master bridge up
        at "$cluster" ip address add "$SUBNET.$((10 + index))/24" dev eth0
        at "$cluster" ip link set lo up
        at "$cluster" ip link set eth0 up
        mkdir -p "/etc/netns/$NETNS-$cluster"
        printf 'nameserver 127.0.0.1\n' >"/etc/netns/$NETNS-$cluster/resolv.conf"
    done
}

network_down() {
    ((WITH_NETNS)) || return 0
    local place
    for place in hub "${CLUSTERS[@]}"; do
        [[ ! -e /run/netns/$NETNS-$place ]] || ip netns delete "$NETNS-$place"
        rm -rf "/etc/netns/$NETNS-$place"
    done
}

# resolve CLUSTER NAME [TYPE]: the short answer of the cluster's DNS server.
resolve() { at "$1" dig +short +timeout=2 +tries=1 "@${DNS[$1]%:*}" -p "${DNS[$1]##*:}" "$2" "${3:-A}"; }

# show_dig CLUSTER ARGUMENT...: the same, shown; in a namespace the resolver is set already.
show_dig() {
    local cluster=$1
    shift
    if ((WITH_NETNS)); then
        show_at "$cluster" dig "$@"
    else
        show dig "@${DNS[$cluster]%:*}" -p "${DNS[$cluster]##*:}" "$@"
    fi
}

# show_dig_status CLUSTER NAME: whether the name exists, as the header of the answer says.
show_dig_status() {
    local how=("@${DNS[$1]%:*}" -p "${DNS[$1]##*:}" +noall +comments)
    ((!WITH_NETNS)) || how=(+noall +comments)
    printf '%s$ %sdig %s | grep status%s\n' "$DIM" "$( ((!WITH_NETNS)) || echo "ip netns exec $NETNS-$1 ")" "${how[*]} $2" "$RESET"
    OUT=$(at "$1" dig "${how[@]}" "$2" 2>&1 | grep status) || true
    printf '    %s\n' "$OUT"
}

# show_curl CLUSTER FROM NAME PORT PATH [OPTION]...: a call of a service by name, from an address of the cluster.
show_curl() {
    local cluster=$1 from=$2 name=$3 port=$4 path=$5 how=(--silent --show-error --max-time 15 "${@:6}")
    if ((WITH_NETNS)); then
        # Nothing but a name: the namespace's resolver knows it, and a plain call comes from 127.0.0.1.
        [[ $from == 127.0.0.1 ]] || how+=(--interface "$from")
    else
        how+=(--interface "$from" --resolve "$name:$port:$(resolve "$cluster" "$name" | head -n 1)")
    fi
    show_at "$cluster" curl "${how[@]}" "http://$name:$port$path"
}
