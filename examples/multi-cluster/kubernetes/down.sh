#!/usr/bin/env bash
# Removes what up.sh has made: both clusters, and the image.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)

command -v kind >/dev/null || { echo "missing: kind (https://kind.sigs.k8s.io)" >&2; exit 2; }
for cluster in east west; do
    kind delete cluster --name "$cluster"
done
rm -f "$top/landbridge.tar"
