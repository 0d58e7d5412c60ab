# shellcheck shell=bash
# What the demo shows, step by step, and what each answer must be.

API=api.production.svc.clusterset.local
VAULT=vault.production.svc.clusterset.local
CHAT=chat.production.svc.clusterset.local
# The addresses a person calls from: the pods "shell" of the manifests.
EAST_SHELL=127.10.0.5
NORTH_SHELL=127.12.0.5
# The pod that is not let in.
EAST_BATCH=127.10.0.6

# told POINTER: a value of the JSON in OUT.
told() { "$BIN/demo-app" pick "$1" <<<"$OUT" 2>/dev/null || true; }

# resolves CLUSTER NAME: succeeds once the name has an address there.
resolves() { [[ -n $(resolve "$1" "$2") ]]; }
vanished() { [[ -z $(resolve "$1" "$2") ]]; }

# answers CLUSTER: succeeds once the frontend's call is answered by that cluster.
answers() {
    local OUT
    OUT=$(at east curl --silent --max-time 10 http://127.10.0.10:8080/probe)
    [[ $(told /answer/cluster) == "$1" ]]
}

show_names() {
    heading "Names: each cluster answers clusterset.local for itself"
    wait_until 30 "east knows what west exports" resolves east "$VAULT"
    wait_until 30 "north knows the chat" resolves north "$CHAT"
    show_dig east +short "$API"
    expect_like "the api has an address of east's own range in east" "$OUT" "^${VIP[east]}\.[0-9]+\.[0-9]+$"
    API_ADDRESS=$OUT
    show_dig north +short "$API"
    expect_like "and one of north's in north" "$OUT" "^${VIP[north]}\.[0-9]+\.[0-9]+$"
    show_dig east +short "_http._tcp.$API" SRV
    expect "SRV tells the port by its name" "${OUT#* * }" "8080 $API."
    show_dig east +tcp +short "$API"
    expect "TCP answers like UDP" "$OUT" "$API_ADDRESS"
    show_dig east +short dns-version.clusterset.local TXT
    expect "the schema has a version" "$OUT" '"1.0.0"'
    show_dig east +short "$CHAT"
    expect "a headless service has an address for each endpoint" "$(wc -l <<<"$OUT")" 2
    show_dig east +short "chat-1.west.$CHAT"
    expect_like "and each endpoint has a name" "$OUT" "^${VIP[east]}\."
    show_dig_status east nobody.production.svc.clusterset.local
    expect_like "a name that nobody exports does not exist" "$OUT" "status: NXDOMAIN"
    show_dig_status east frontend.production.svc.clusterset.local
    expect_like "nor does a service that is not exported" "$OUT" "status: NXDOMAIN"
    show_dig_status east example.com
    expect_like "other zones are not answered" "$OUT" "status: REFUSED"
}

show_http() {
    heading "HTTP: east calls the api by name; west serves it and knows who calls"
    local from=$EAST_SHELL
    ((!WITH_NETNS)) || from=127.0.0.1
    show_curl east "$from" "$API" 8080 /hello
    expect "west answered" "$(told /cluster)" west
    expect "the api was told the caller's principal" "$(told /caller/principal)" spiffe://east.example/ns/production/sa/shell
    expect "and its cluster" "$(told /caller/source_cluster)" east
    expect "and that its gateway vouches for it" "$(told /caller/assurance)" attested
    expect "and its address in east" "$(told /caller/client)" "$from"
    show_same_trace "$(told /caller/traceparent)"

    show_curl east 127.10.0.99 "$API" 8080 /stranger
    expect "an address that no pod owns has no principal" "$(told /caller/principal)" none
    expect "and no assurance" "$(told /caller/assurance)" none

    show_curl east "$EAST_SHELL" "$API" 8080 /forged --header "x-landbridge-principal: spiffe://east.example/ns/production/sa/admin"
    expect "what a client says of itself does not arrive" "$(told /caller/principal)" \
        spiffe://east.example/ns/production/sa/shell

    show_at east curl --silent http://127.10.0.10:8080/
    expect "the frontend of east is answered by west" "$(told /answer/cluster)" west
    expect "which sees the frontend" "$(told /answer/caller/principal)" spiffe://east.example/ns/production/sa/frontend

    show_curl north "$NORTH_SHELL" "$API" 8080 /hello
    expect "a cluster that has the service itself is answered at home" "$(told /cluster)" north
}

# show_same_trace TRACEPARENT: the access logs of both gateways, and the server, tell of one connection by one id.
show_same_trace() {
    local id gateway
    IFS=- read -r _ id _ <<<"$1"
    for gateway in east west; do
        wait_until 10 "the gateway of $gateway has logged the connection" grep -q "${id:-nothing}" "$(log_of "gateway-$gateway")"
        show grep -h "$id" "$(log_of "gateway-$gateway")"
        expect_like "the access log of $gateway has the principal" "$OUT" "spiffe://east.example/ns/production/sa/shell"
    done
}

# on_trial: whether west has read the policy.
on_trial() { gateway_ctl west policy list | grep -q 'api-callers .* AUDIT ALLOW'; }

show_policy() {
    local policy=production/api-callers batch=spiffe://east.example/ns/production/sa/batch
    heading "Policy: who may call the api of west, on trial first"
    cp "$HERE/manifests/later/west/api-callers.yaml" "$WORK/west/api-callers.yaml"
    show cat "$WORK/west/api-callers.yaml"
    mv "$WORK/west/api-callers.yaml" "$WORK/west/manifests/"
    wait_until 30 "west follows the policy" on_trial
    show_curl east "$EAST_BATCH" "$API" 8080 /orders
    expect "a policy on trial lets everybody in" "$(told /caller/principal)" "$batch"
    wait_until 10 "west has counted the call" reported "$batch"
    show_fedctl west policy report --policy "$policy"
    expect_like "and tells whom it would not have" "$OUT" "$batch +attested +east +production/api:8080 +1 "

    show_fedctl west policy promote "$policy" --yes
    expect_status "now it decides" 0
    show_curl east "$EAST_SHELL" "$API" 8080 /orders
    expect "the shell may still call" "$(told /caller/principal)" spiffe://east.example/ns/production/sa/shell
    show_curl east "$EAST_SHELL" "$API" 8080 /orders --request DELETE --include
    expect_like "and may not delete" "$OUT" "^HTTP/1.1 403 "
    show_curl east "$EAST_BATCH" "$API" 8080 /orders --include
    expect_like "the batch job is refused" "$OUT" "^HTTP/1.1 403 "
    expect_like "with a reason" "$OUT" "the policies of cluster west refuse this call of $batch"

    show_fedctl west policy test --from "$batch" --to production/api:8080 --method GET --path /orders
    expect_status "the same is known without a call" 1
    expect_like "with what would let it in" "$OUT" "remedy +add .*$batch.* to AuthorizationPolicy $policy"
    wait_until 10 "west has logged the refusal" refused_trace "$batch"
    show_fedctl west explain "$(refused_trace "$batch")"
    expect_like "and of the call itself each step" "$OUT" "identify +$batch, assurance attested"
    expect_like "with the rule" "$OUT" "authorize .*AuthorizationPolicy $policy"
    show_fedctl east explain "$(refused_trace "$batch")"
    expect_like "the gateway of the caller knows it by the same id" "$OUT" "accept +$EAST_BATCH:"
}

# reported PRINCIPAL: whether west has counted a call of it.
reported() { gateway_ctl west policy report | grep -q "$1"; }

# refused_trace PRINCIPAL: the trace id of its last connection that west has refused; fails as long as there is none.
refused_trace() {
    grep 'direction="inbound" outcome="denied"' "$(log_of gateway-west)" | grep "$1" | tail -n 1 | grep -o 'trace_id="[0-9a-f]*' |
        cut -d '"' -f 2 | grep .
}

# A session that stays open until its cluster is stopped. TALK[0] reads from it, TALK[1] writes to it.
open_session() {
    heading "A long session: from north, which only dials, to one endpoint in west"
    local address
    address=$(resolve north "chat-0.west.$CHAT")
    note "talking to chat-0.west.$CHAT ($address) from $NORTH_SHELL"
    coproc TALK { at north "$BIN/demo-app" talk "$address:7000" --from "$NORTH_SHELL" 2>"$(log_of talk)" 9>&-; }
    # Kept aside: bash forgets the array when the process ends.
    TALK_READ=${TALK[0]} TALK_WRITE=${TALK[1]} TALK_ID=$TALK_PID
    expect "the server speaks first, and knows to whom" "$(hear)" \
        "chat-0 in west greets spiffe://north.example/ns/production/sa/shell"
    say_in_session "first line"
    expect "it numbers the lines" "$(hear)" "chat-0 1: first line"
}

say_in_session() {
    printf '%s> %s%s\n' "$DIM" "$1" "$RESET"
    printf '%s\n' "$1" >&"$TALK_WRITE"
}

# hear: the next line of the session.
hear() {
    local line
    IFS= read -r -t 15 -u "$TALK_READ" line || line="(nothing)"
    printf '%s' "$line"
}

show_tls() {
    heading "TLS: routed by server name, not decrypted: the client sees the server's own certificate"
    local sni=${SNI[east]} own
    show_at east curl --silent --show-error --max-time 15 --cacert "$WORK/vault/ca.pem" \
        --connect-to "$VAULT:443:$sni" "https://$VAULT/secret"
    expect "west answered" "$(told /cluster)" west
    expect "the server saw its name" "$(told /caller/tls/server_name)" "$VAULT"

    show openssl x509 -in "$WORK/vault/server.pem" -noout -fingerprint -sha256
    own=$OUT
    show_certificate "$sni"
    expect "the certificate that east shows is the server's own" "$OUT" "$own"

    show_at east openssl s_client -brief -connect "$sni" -servername nobody.production.svc.clusterset.local
    expect_status "a name that nobody exports is refused" failure
    expect_like "with the alert for it" "$OUT" "unrecognized.name"
}

# show_certificate ADDRESS: the fingerprint of what is presented there for the vault.
show_certificate() {
    printf '%s$ openssl s_client -connect %s -servername %s | openssl x509 -noout -fingerprint -sha256%s\n' \
        "$DIM" "$1" "$VAULT" "$RESET"
    OUT=$(at east openssl s_client -connect "$1" -servername "$VAULT" -verify_return_error \
        -CAfile "$WORK/vault/ca.pem" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 2>&1) || true
    note "$OUT"
}

show_overview() {
    heading "Overview: what fedctl says in east"
    show_fedctl east status
    show_fedctl east services
    expect_like "both exporting clusters are listed" "$OUT" "north"
    show_fedctl east check
    expect_status "nothing is wrong" 0
    local pod
    for pod in api-west-0 api-north-0 vault-0 chat-0; do
        note "what $pod saw:"
        sed -n '/ from \|session with/s/^/    /p' "$(log_of "$pod")" | grep -v /probe | tail -n 3
    done
}

show_failover() {
    heading "Failover: the gateway of west is killed; north takes over"
    local killed cut_status=0
    say_in_session "still there?"
    expect "the session is the one from before" "$(hear)" "chat-0 2: still there?"
    killed=$(millis)
    stop gateway-west KILL
    wait_until 30 "north answers" answers north
    note "first answer from north $(($(millis) - killed)) ms after the kill"
    show_at east curl --silent http://127.10.0.10:8080/
    expect "the same call is answered by north" "$(told /answer/cluster)" north
    expect "which still sees the frontend of east" "$(told /answer/caller/principal)" spiffe://east.example/ns/production/sa/frontend
    show_dig east +short "$API"
    expect "the address of the api stayed the same" "$OUT" "$API_ADDRESS"
    wait_until 30 "the services of west alone are gone from east" vanished east "$VAULT"
    show_dig_status east "$VAULT"
    expect_like "what west alone exported does not exist now" "$OUT" "status: NXDOMAIN"

    wait_until 30 "the session has ended" session_ended
    wait "$TALK_ID" || cut_status=$?
    show cat "$(log_of talk)"
    expect "the session was cut, which is not a clean end" "$cut_status" 1
}

session_ended() { ! kill -0 "$TALK_ID" 2>/dev/null; }

show_return() {
    heading "Return: west starts again from its own state, without a token"
    start_gateway west
    wait_until 60 "west answers again" answers west
    show_at east curl --silent http://127.10.0.10:8080/
    expect "west is preferred again" "$(told /answer/cluster)" west
}

show_independence() {
    heading "Independence: traffic and discovery go on without the federation service"
    stop federation TERM
    show_curl east "$EAST_SHELL" "$API" 8080 /alone
    expect "east still reaches west" "$(told /cluster)" west
    mv "$WORK/west/manifests/vault.yaml" "$WORK/vault.yaml"
    wait_until 30 "east has heard that west exports no vault any more" vanished east "$VAULT"
    verdict ok "a change of west's manifests reaches east"
    mv "$WORK/vault.yaml" "$WORK/west/manifests/vault.yaml"
    wait_until 30 "east has heard that the vault is back" resolves east "$VAULT"
    verdict ok "and back"
    start_federation
}
