#!/usr/bin/env bash
# Build the image: build/isthmus.raw, its compressed copy with a checksum, and build/boot/ (kernel,
# initrd and command line, for starting it without firmware). Root only. The first run takes some
# minutes and makes a Debian trixie tools tree (mkosi, QEMU, ...), the caches and the signing keys.
#
#   MIRROR=URL            Debian mirror, instead of the host's own or the tools' default
#   SECURITY_MIRROR=URL   the same for the security archive
#   VERSION=1.2.3         another version than pyproject.toml's
#   OUTPUT=build/FOLDER   where the results go, instead of build/
#   FIRST_SETTINGS=1      a new box takes its configuration from its ESP or a NoCloud drive (docs/image.md)
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
output=$(realpath -m "${OUTPUT:-$build}")
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' "$top/pyproject.toml")}
suite=trixie

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
die() {
    printf 'image/build.sh: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "must run as root" "make image calls sudo by itself"
[ -x "$top/.venv/bin/pip" ] || die "no virtual environment" "make setup makes it"
mkdir -p "$build"

# The base address of one of the host's own Debian archives ("" on Ubuntu: the tools' default then).
host_archive() { # $1: pattern of the codename
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 2>/dev/null |
        awk -v codename="$1" '$1 == "Debian" && $2 ~ codename && !found { print $3; found = 1 }'
}

mirror=${MIRROR:-$(host_archive '^[a-z]+$')}
security=${SECURITY_MIRROR:-}
[ -n "$security" ] || [ -n "${MIRROR:-}" ] || security=$(host_archive '^[a-z]+-security$')

# mkosi asks the environment for a proxy, apt its configuration: let both know of the same one.
if [ -z "${http_proxy:-}" ]; then
    eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
    if [ -n "${http_proxy:-}" ]; then export http_proxy; fi
fi

# --- the tools tree ---------------------------------------------------------------------------
tools_packages=apt,cpio,cryptsetup-bin,debian-archive-keyring,dosfstools,e2fsprogs,erofs-utils,fdisk,gpg,gpgv
tools_packages+=,jq,kmod,mkosi,mtools,openssl,ovmf,python3-cryptography,python3-pefile,qemu-system-x86,qemu-utils
tools_packages+=,sbsigntool,squashfs-tools,systemd,systemd-boot,systemd-boot-efi,systemd-container
tools_packages+=,systemd-repart,systemd-ukify,udev,util-linux,xz-utils,zstd
# To compile the engine for the image's own Python.
tools_packages+=,cython3,gcc,libc6-dev,python3-dev,python3-setuptools

make_tools() {
    say "tools tree: Debian $suite (once, about a minute and 250 MB)"
    local sources=()
    if [ -n "$mirror" ]; then
        sources+=("deb $mirror $suite main" "deb $mirror $suite-updates main")
        [ -z "$security" ] || sources+=("deb $security $suite-security main")
    fi
    rm -rf "$build/tools.new"
    # Given no source at all, mmdebstrap takes Debian's own.
    printf '%s\n' "${sources[@]}" | mmdebstrap --quiet --mode=root --variant=apt --format=directory \
        --include="$tools_packages" --aptopt='APT::Install-Recommends "false"' \
        "$suite" "$build/tools.new" ${sources[@]:+-}
    printf '%s\n' "$tools_packages" >"$build/tools.new/.isthmus-tools"
    rm -rf "$build/tools"
    mv "$build/tools.new" "$build/tools"
}

[ "$(cat "$build/tools/.isthmus-tools" 2>/dev/null)" = "$tools_packages" ] || make_tools

# mkosi would add the debug archive, which many mirrors lack; the tree's own sources are the ones that worked.
rm -rf "$build/sandbox"
mkdir -p "$build/sandbox/etc/apt/sources.list.d"
find "$build/tools/etc/apt" \( -name sources.list -o -name '*.sources' \) -exec cat {} + |
    awk '$1 == "deb" {
        if ($2 ~ /^\[/) $2 = ""
        $0 = $0; $1 = $1
        printf "Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n", $2, $3
        printf "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        next
    }
    { print }' >"$build/sandbox/etc/apt/sources.list.d/mkosi.sources"

# --- our files --------------------------------------------------------------------------------
say "our files: rootfs-overlay/ and the Python packages"
rm -rf "$build/tree" "$build/wheel"
mkdir -p "$build/tree" "$build/wheel"
cp -rP --no-preserve=ownership "$top/rootfs-overlay/." "$build/tree/"
# The modes of a checkout depend on whoever cloned it; only the executable bit is git's.
chmod -R u=rwX,go=rX "$build/tree"
# From a copy: setuptools would leave its build/ folder, which is ours, full of stale modules.
source=$build/wheel/source
mkdir -p "$source"
cp -r "$top/appliance" "$top/webui" "$top/pyproject.toml" "$source/"
[ ! -e "$top/README.md" ] || cp "$top/README.md" "$source/"
[ -e "$source/README.md" ] || : >"$source/README.md"
# The program says the image's version.
sed -i "s/^version = .*/version = \"$version\"/" "$source/pyproject.toml"
sed -i "s/^__version__ = .*/__version__ = \"$version\"/" "$source/appliance/__init__.py"
find "$source" \( -name __pycache__ -o -name _compiled \) -prune -exec rm -rf {} +
"$top/.venv/bin/pip" wheel --quiet --disable-pip-version-check --no-deps \
    --wheel-dir "$build/wheel" "$source"
"$top/.venv/bin/python" "$top/image/unpack_wheel.py" "$build"/wheel/*.whl "$build/tree"

if [ -n "${FIRST_SETTINGS:-}" ]; then
    # Before 00-isthmus.preset, whose last line switches off all that is not named.
    echo 'enable isthmus-first-settings.service' \
        >"$build/tree/usr/lib/systemd/system-preset/00-first-settings.preset"
fi

"$top/image/keys.sh"
install -D -m 644 "$build/keys/update.pub" "$build/tree/usr/share/isthmus/update.pub"

# What the engine is compiled from: while that is the same, so is the result.
engine_sources() {
    find appliance \( -name '*.pyx' -o -name '*.pxd' -o -name engine.py \) -print
    sed -n '/^    "[a-z0-9_.]*",$/ {s|\.|/|g; s|^    "\(.*\)",$|appliance/\1.py|p}' appliance/engine.py
}
engine=$(cd "$source" && { engine_sources | sort -u | xargs sha256sum; sha256sum <"$top/image/build_engine.py"
    chroot "$build/tools" dpkg-query -W gcc cython3 python3-dev; } | sha256sum | cut -d' ' -f1)
if [ "$(cat "$build/engine/.from" 2>/dev/null)" != "$engine" ]; then
    say "the engine, compiled"
    rm -rf "$build/tools/engine" "$build/engine"
    mkdir "$build/tools/engine"
    cp -r "$source/appliance" "$top/image/build_engine.py" "$build/tools/engine/"
    chroot "$build/tools" python3 /engine/build_engine.py /engine /engine/compiled >"$build/engine.log" 2>&1 ||
        { tail -n 40 "$build/engine.log" >&2; die "the engine cannot be compiled" "the whole log: build/engine.log"; }
    cp -r --no-preserve=ownership "$build/tools/engine/compiled" "$build/engine"
    printf '%s\n' "$engine" >"$build/engine/.from"
    rm -rf "$build/tools/engine"
fi
cp -r "$build/engine" "$build/tree/usr/lib/python3/dist-packages/appliance/_compiled"
rm "$build/tree/usr/lib/python3/dist-packages/appliance/_compiled/.from"

# --- the image --------------------------------------------------------------------------------
run_mkosi() {
    PYTHONPATH=$build/tools/usr/lib/python3/dist-packages python3 -m mkosi --directory "$top/image" \
        --tools-tree "$build/tools" --output-directory "$build/image" --workspace-directory "$build/work" \
        --cache-directory "$build/cache" --package-cache-dir "$build/packages" \
        --secure-boot-key "$build/keys/mkosi.key" --secure-boot-certificate "$build/keys/mkosi.crt" \
        --verity-key "$build/keys/mkosi.key" --verity-certificate "$build/keys/mkosi.crt" \
        --sandbox-tree "$build/sandbox" --extra-tree "$build/tree" --image-version "$version" "$@"
}

mkdir -p "$build"/{image,work,cache,packages}
say "image $version: mkosi (log: build/mkosi.log)"
if ! run_mkosi --force build >"$build/mkosi.log" 2>&1; then
    tail -n 40 "$build/mkosi.log" >&2
    die "mkosi failed" "the whole log: build/mkosi.log"
fi

mkdir -p "$output/boot"
cp "$build/image/isthmus.vmlinuz" "$output/boot/vmlinuz"
cp "$build/image/isthmus.initrd" "$output/boot/initrd"
cp "$build/image/isthmus.efi" "$output/boot/kernel.efi"
# With the root hash, which only the finished image knows.
objcopy -O binary --only-section=.cmdline "$output/boot/kernel.efi" "$output/boot/cmdline"
printf '%s\n' "$version" >"$output/boot/version"
mv -f "$build/image/isthmus.raw" "$output/isthmus.raw"
say "$output/isthmus.raw: version $version"
[ -z "${OUTPUT:-}" ] || exit 0

say "compressing"
zstd --quiet --force -T0 -6 --sparse "$build/isthmus.raw" -o "$build/isthmus.raw.zst"
say "media: qcow2, the list of what is in it, checksums and their signature"
PYTHONPATH=$top "$top/.venv/bin/python" "$top/image/sbom.py" "$build/image/isthmus.manifest" "$version" \
    >"$build/isthmus.cdx.json"
libraries=$build/tools/usr/lib/x86_64-linux-gnu
"$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" "$build/tools/usr/bin/qemu-img" convert \
    -f raw -O qcow2 -c "$build/isthmus.raw" "$build/isthmus.qcow2"
(
    cd "$build"
    sha256sum isthmus.raw.zst >isthmus.raw.zst.sha256
    sha256sum isthmus.raw.zst isthmus.qcow2 isthmus.cdx.json >SHA256SUMS
    # openssl pkeyutl -verify -pubin -inkey update.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
    openssl pkeyutl -sign -inkey keys/update.key -rawin -in SHA256SUMS -out SHA256SUMS.sig
)
say "build/isthmus.raw, build/isthmus.raw.zst ($(du -h "$build/isthmus.raw.zst" | cut -f1))"
