#!/usr/bin/env bash
# Tests the image that build-rootfs.sh builds from programs that are there: deploy/image/test.sh BIN-DIR
# Twice the same digest; a valid layout; programs that run in it and in nothing else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=${1:?usage: test.sh BIN-DIR}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

ok() {
    echo "ok: $*"
}

# Without what only a debugger reads: programs of the debug profile are ten times the size.
mkdir "$work/bin" "$work/copy"
for program in landbridge-gateway landbridge-federation fedctl; do
    strip --strip-debug -o "$work/bin/$program" "$bin/$program"
done
built=$("$here/build-rootfs.sh" --bin-dir "$work/bin" --output "$work/one.tar")
echo "$built"
# From a copy with other times, to be sure that they do not matter.
cp "$work/bin"/* "$work/copy/"
"$here/build-rootfs.sh" --bin-dir "$work/copy" --output "$work/two.tar" >/dev/null
cmp "$work/one.tar" "$work/two.tar" || fail "two builds from the same programs differ"
ok "two builds are the same bytes"

mkdir "$work/layout"
tar -xf "$work/one.tar" -C "$work/layout"
python3 - "$work/layout" <<'PY' || fail "the layout is not valid"
import gzip, hashlib, json, pathlib, sys, tarfile, io
layout = pathlib.Path(sys.argv[1])
blobs = layout / "blobs/sha256"
for blob in blobs.iterdir():
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name, blob
def get(descriptor):
    algorithm, digest = descriptor["digest"].split(":")
    data = (blobs / digest).read_bytes()
    assert algorithm == "sha256" and len(data) == descriptor["size"], descriptor
    return data
assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
index = json.loads((layout / "index.json").read_text())
(entry,) = index["manifests"]
manifest = json.loads(get(entry))
assert manifest["mediaType"] == entry["mediaType"]
config = json.loads(get(manifest["config"]))
assert config["config"]["User"] == "65532:65532", config
assert config["os"] == "linux" and config["architecture"] == entry["platform"]["architecture"]
(layer,) = manifest["layers"]
data = gzip.decompress(get(layer))
assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(data).hexdigest()]
members = tarfile.open(fileobj=io.BytesIO(data)).getmembers()
assert all(m.mtime == 0 and m.uid == 0 and m.gid == 0 for m in members)
assert not any(m.mode & 0o6000 for m in members), "something is setuid"
names = sorted(m.name for m in members if m.isfile())
print("\n".join("  " + name for name in names))
assert len({m.name for m in members}) == len(members)
referenced = {entry["digest"], manifest["config"]["digest"], layer["digest"]}
assert {"sha256:" + blob.name for blob in blobs.iterdir()} == referenced, "a blob is not referred to"
PY
ok "every digest, size and reference is right"

root=$work/root
mkdir "$root"
layer=$(python3 -c 'import json, sys, pathlib
layout = pathlib.Path(sys.argv[1])
blob = lambda digest: layout / "blobs/sha256" / digest.split(":")[1]
manifest = json.loads(blob(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"]).read_text())
print(blob(manifest["layers"][0]["digest"]))' "$work/layout")
tar -xzf "$layer" -C "$root"
for program in landbridge-gateway landbridge-federation fedctl; do
    # As the user of the image, in a root that holds the image alone.
    if ((EUID == 0)); then
        said=$(chroot --userspec=65532:65532 "$root" "/usr/bin/$program" --version) || fail "$program does not run in the image"
    elif unshare --user --map-root-user true 2>/dev/null; then
        said=$(unshare --user --map-root-user chroot "$root" "/usr/bin/$program" --version) || fail "$program does not run in the image"
    else
        echo "SKIPPED: $program in the image: neither root nor user namespaces" >&2
        continue
    fi
    ok "in the image: $said"
done
