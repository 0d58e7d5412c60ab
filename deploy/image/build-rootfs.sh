#!/usr/bin/env bash
# Builds the image without docker and without a registry: an OCI image layout in a tar file, from the programs that Cargo builds
# and the libraries of this system. The same programs on the same system give the same digest.
#
#   deploy/image/build-rootfs.sh [--output FILE] [--tag NAME] [--bin-dir DIR] [--target TRIPLE]
#
#   --output FILE    where the image goes (landbridge-ARCH.tar)
#   --tag NAME       the name of the image (landbridge:VERSION)
#   --bin-dir DIR    take the three programs from there, and build nothing
#   --target TRIPLE  build for another target that the toolchain has, such as x86_64-unknown-linux-musl. What is linked with glibc
#                    is built on a system of its own architecture, since its libraries come along; static programs anywhere.
#
# Load it: podman load -i FILE, skopeo copy oci-archive:FILE ..., ctr images import FILE, kind load image-archive FILE.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
output='' bin='' target='' tag=''

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

fail() {
    echo "build-rootfs.sh: $*" >&2
    exit 1
}

while (($#)); do
    case $1 in
        --output) output=${2:?--output needs a file}; shift 2 ;;
        --tag) tag=${2:?--tag needs a name}; shift 2 ;;
        --bin-dir) bin=${2:?--bin-dir needs a directory}; shift 2 ;;
        --target) target=${2:?--target needs a triple}; shift 2 ;;
        -h | --help) usage; exit ;;
        *) usage >&2; exit 2 ;;
    esac
done

for tool in tar gzip sha256sum readelf; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' "$top/Cargo.toml")
tag=${tag:-landbridge:$version}

if [[ -z $bin ]]; then
    arguments=(build --locked --release -p gateway -p federation -p federation-fedctl)
    [[ -z $target ]] || arguments+=(--target "$target")
    (cd "$top" && cargo "${arguments[@]}")
    bin=${CARGO_TARGET_DIR:-$top/target}/${target:+$target/}release
fi
[[ -x $bin/landbridge-gateway ]] || fail "$bin has no landbridge-gateway"

case $(readelf -h "$bin/landbridge-gateway" | sed -n 's/^ *Machine: *//p') in
    *X86-64*) architecture=amd64 machine=x86_64 ;;
    AArch64) architecture=arm64 machine=aarch64 ;;
    *) fail "no image is made for the architecture of $bin/landbridge-gateway" ;;
esac
if readelf -l "$bin/landbridge-gateway" | grep -q 'Requesting program interpreter' && [[ $(uname -m) != "$machine" ]]; then
    fail "the programs are linked with the glibc of $machine, which this $(uname -m) does not have: build there, or with a musl target"
fi
output=${output:-landbridge-$architecture.tar}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/layout/blobs/sha256"

# Sorted, of one time and owner, without what only this machine knows.
pack() { # DIRECTORY
    tar --create --format=posix --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
        --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --directory "$1" .
}

digest() { # FILE
    sha256sum "$1" | cut -d' ' -f1
}

# Keeps a file as a blob; prints its digest and size.
blob() { # FILE
    local sum
    sum=$(digest "$1")
    mv "$1" "$work/layout/blobs/sha256/$sum"
    printf '%s %s\n' "$sum" "$(stat -c %s "$work/layout/blobs/sha256/$sum")"
}

"$here/rootfs.sh" "$work/rootfs" "$bin"
pack "$work/rootfs" >"$work/layer.tar"
diff_id=$(digest "$work/layer.tar")
gzip -n <"$work/layer.tar" >"$work/layer.tar.gz"
read -r layer layer_size < <(blob "$work/layer.tar.gz")

cat >"$work/config.json" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z","config":{"User":"65532:65532","Env":["PATH=/usr/bin","SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],"Cmd":["landbridge-gateway","--config","/etc/landbridge/gateway.toml"],"Labels":{"org.opencontainers.image.licenses":"Apache-2.0","org.opencontainers.image.title":"Landbridge","org.opencontainers.image.version":"$version"}},"rootfs":{"type":"layers","diff_ids":["sha256:$diff_id"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"deploy/image/build-rootfs.sh"}]}
JSON
read -r config config_size < <(blob "$work/config.json")

cat >"$work/manifest.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$config_size},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$layer","size":$layer_size}]}
JSON
read -r manifest manifest_size < <(blob "$work/manifest.json")

printf '{"imageLayoutVersion":"1.0.0"}\n' >"$work/layout/oci-layout"
# containerd and podman name the image by the first annotation, skopeo by the second.
cat >"$work/layout/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$manifest_size,"platform":{"architecture":"$architecture","os":"linux"},"annotations":{"io.containerd.image.name":"docker.io/library/$tag","org.opencontainers.image.ref.name":"$tag"}}]}
JSON

pack "$work/layout" >"$work/image.tar"
mv "$work/image.tar" "$output"
printf '%s  linux/%s  %s  sha256:%s\n' "$output" "$architecture" "$tag" "$manifest"
