# shellcheck shell=bash
# The processes of the demo: each has a name, a log of its own, and is stopped by its id.

declare -A PIDS=()
STARTED=()
# How long a process may take to end before it is killed, seconds.
STOP_TIMEOUT=8

log_of() { printf '%s/logs/%s.log' "$WORK" "$1"; }

# start NAME COMMAND...: runs it in the background, in a session of its own so that Ctrl-C reaches this script alone.
start() {
    local name=$1
    shift
    # File 9 is the lock on the work directory.
    setsid "$@" >>"$(log_of "$name")" 2>&1 </dev/null 9>&- &
    PIDS[$name]=$!
    STARTED+=("$name")
    # So that bash does not comment on its end.
    disown $!
}

running() { [[ -n ${PIDS[$1]:-} ]] && kill -0 "${PIDS[$1]}" 2>/dev/null; }

# stop NAME SIGNAL: asks it to end, waits, and insists when it does not.
stop() {
    local name=$1 deadline
    running "$name" || return 0
    kill -s "${2:-TERM}" "${PIDS[$name]}" 2>/dev/null || true
    deadline=$((SECONDS + STOP_TIMEOUT))
    while running "$name"; do
        if ((SECONDS >= deadline)); then
            note "$name did not stop within $STOP_TIMEOUT s and is killed"
            kill -s KILL "${PIDS[$name]}" 2>/dev/null || true
            break
        fi
        poll_again
    done
    unset "PIDS[$name]"
}

# stop_all: in the opposite order of their start.
stop_all() {
    local index
    for ((index = ${#STARTED[@]} - 1; index >= 0; index--)); do
        stop "${STARTED[$index]}" TERM
    done
    STARTED=()
}

# How often a condition is looked at.
poll_again() { sleep 0.05; }

# wait_until SECONDS WHAT COMMAND...: until the command succeeds. Ends the demo when it does not in time, or when a process that
# should run has ended.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2 name
    shift 2
    until "$@" >/dev/null 2>&1; do
        for name in "${!PIDS[@]}"; do
            running "$name" || give_up "$name ended while waiting until $what" "$name"
        done
        ((SECONDS < deadline)) || give_up "timed out waiting until $what"
        poll_again
    done
}

# give_up MESSAGE [NAME]: shows the end of the logs that may tell why, and ends the demo.
give_up() {
    local names=("${@:2}") name
    ((${#names[@]})) || names=("${!PIDS[@]}")
    for name in "${names[@]}"; do
        printf '%s--- end of %s%s\n' "$BOLD" "$(log_of "$name")" "$RESET" >&2
        tail -n 15 "$(log_of "$name")" >&2 || true
    done
    die "$1"
}

millis() { printf '%d' $((${EPOCHREALTIME/[.,]/} / 1000)); }
