# shellcheck shell=bash
# What the demo prints: headings, commands with their output, and the verdict on each answer.

if [[ -t 1 ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' RED=$'\e[31m' RESET=$'\e[0m'
else
    BOLD='' DIM='' GREEN='' RED='' RESET=''
fi

CHECKS=0
FAILED=()
# Output and exit status of the last command that was shown.
OUT=''
RC=0

heading() { printf '\n%s== %s%s\n' "$BOLD" "$*" "$RESET"; }
note() { printf '   %s\n' "$*"; }
die() {
    printf '%serror:%s %s\n' "$RED" "$RESET" "$*" >&2
    exit 2
}

# quoted WORD...: a command as a person would type it.
quoted() {
    local word text=''
    for word in "$@"; do
        [[ $word =~ ^[A-Za-z0-9@%+=:,./_-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
        text+=" $word"
    done
    printf '%s' "${text# }"
}

# show COMMAND...: prints the command and what it answers, and keeps both in OUT and RC.
show() {
    printf '%s$ %s%s\n' "$DIM" "$(quoted "$@")" "$RESET"
    RC=0
    OUT=$("$@" 2>&1 </dev/null) || RC=$?
    [[ -z $OUT ]] || sed 's/^/    /' <<<"$OUT"
}

# expect WHAT ACTUAL EXPECTED: the answer is exactly this.
expect() {
    if [[ $2 == "$3" ]]; then verdict ok "$1"; else verdict no "$1: expected \"$3\", got \"$2\""; fi
}

# expect_like WHAT ACTUAL REGEX: the answer contains something like this.
expect_like() {
    if [[ $2 =~ $3 ]]; then verdict ok "$1"; else verdict no "$1: expected something like /$3/, got \"$2\""; fi
}

# expect_status WHAT WANTED: the last command that was shown ended with this status: a number, or "failure" for any but 0.
expect_status() {
    if [[ $RC == "$2" || ($2 == failure && $RC != 0) ]]; then
        verdict ok "$1"
    else
        verdict no "$1: expected exit status $2, got $RC"
    fi
}

verdict() {
    CHECKS=$((CHECKS + 1))
    if [[ $1 == ok ]]; then
        printf '   %sok%s  %s\n' "$GREEN" "$RESET" "$2"
    else
        printf '   %sNOT AS EXPECTED%s  %s\n' "$RED" "$RESET" "$2"
        FAILED+=("$2")
    fi
}

# summary: how it went; fails when anything differed.
summary() {
    heading "Result"
    if ((${#FAILED[@]} == 0)); then
        printf '   %sall %d answers were as expected%s, in %d s\n' "$GREEN" "$CHECKS" "$RESET" "$SECONDS"
        return
    fi
    printf '   %s%d of %d answers differed:%s\n' "$RED" "${#FAILED[@]}" "$CHECKS" "$RESET"
    printf '   - %s\n' "${FAILED[@]}"
    return 1
}
