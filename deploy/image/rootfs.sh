#!/bin/sh
# rootfs.sh ROOT BIN: lays out the root file system of the image in ROOT, from the three programs in BIN and from this system:
# the loader and the libraries that they name, and the certificates of public authorities. Nothing else.
set -eu

[ $# -eq 2 ] || { echo "usage: $0 ROOT BIN" >&2; exit 2; }
root=$1 bin=$2
certificates=/etc/ssl/certs/ca-certificates.crt
programs="landbridge-gateway landbridge-federation fedctl"

for program in $programs; do
    [ -x "$bin/$program" ] || { echo "$bin/$program is not there: build it, or name another directory" >&2; exit 1; }
    if ldd "$bin/$program" 2>&1 | grep 'not found' >&2; then
        echo "this system lacks what $bin/$program was linked with: lay out its root on the system that it was built on" >&2
        exit 1
    fi
done
[ -r "$certificates" ] || { echo "$certificates is not there: install ca-certificates" >&2; exit 1; }

mkdir -p "$root/usr/bin" "$root/etc/ssl/certs" "$root/etc/landbridge" "$root/var/lib" "$root/tmp"
for program in $programs; do
    cp "$bin/$program" "$root/usr/bin/$program"
    # `=> PATH (ADDRESS)` is a library, `PATH (ADDRESS)` the loader; linux-vdso has no path. Static programs have neither.
    { ldd "$bin/$program" 2>/dev/null || true; } | sed -n 's/.*=> \(\/[^ ]*\) (.*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'
done | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
    chmod 755 "$root$library"
done
cp -L "$certificates" "$root$certificates"
# For programs that ask who they are; there are no passwords and no shells.
printf 'root:x:0:0::/:/nonexistent\nlandbridge:x:65532:65532::/var/lib/landbridge:/nonexistent\n' >"$root/etc/passwd"
printf 'root:x:0:\nlandbridge:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 644 "$root/etc/nsswitch.conf" "$root$certificates" "$root/etc/passwd" "$root/etc/group"
chmod 755 "$root" "$root/usr" "$root/usr/bin" "$root/etc" "$root/etc/ssl" "$root/etc/ssl/certs" "$root/etc/landbridge" \
    "$root/var" "$root/var/lib" "$root/usr/bin/"*
chmod 1777 "$root/tmp"
