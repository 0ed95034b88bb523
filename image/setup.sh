#!/usr/bin/env bash
# Install the packages of the host (Debian 12 or 13, Ubuntu 24.04) that building, running and testing need.
# Root only; `make setup` calls it. A package that is there already is left alone. Packages named as
# arguments are installed beside them: the bench's rivals, which nothing else needs.
set -euo pipefail

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

packages=(
    python3 python3-venv python3-dev gcc binutils                    # the development environment
    mmdebstrap debian-archive-keyring fdisk zstd openssl             # the image
    iproute2 iputils-ping procps kmod nftables                       # namespaces
    curl bind9-dnsutils chrony dnsmasq-base unbound dns-root-data ndisc6 tcpdump traceroute slirp4netns
    isc-dhcp-client                                                  # a client for the DHCPv6 answers (dhclient -6 -S)
    wget git netcat-openbsd openssh-client dropbear-bin slowhttptest # clients of the explicit proxy
    strace                                                           # a kernel that runs out
)

# shellcheck disable=SC1091
distribution=$(. /etc/os-release && echo "${ID:-} ${VERSION_ID:-}")
case $distribution in
    debian*) packages+=(chromium) ;;
    # Ubuntu's chromium is a snap, which cannot be driven as root; the browser tests skip themselves.
    ubuntu*) say "no Chromium package here: the browser tests will be skipped" ;;
    *) say "not tried on $distribution: expect to install some packages by hand" ;;
esac

packages+=("$@")
missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
    say "packages: all there"
    exit 0
fi

# chrony and unbound come with services: this machine's clock and port 53 are not ours to take.
# For the time of the installation, packages may start nothing; and what was new stays off.
policy=/usr/sbin/policy-rc.d
made_policy=
disable=()
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    made_policy=1
fi
cleanup() { [ -z "$made_policy" ] || rm -f "$policy"; }
trap cleanup EXIT
for pair in chrony:chrony unbound:unbound haproxy:haproxy squid:squid tayga:tayga nginx-light:nginx tinyproxy:tinyproxy dante-server:danted; do
    case " ${missing[*]} " in *" ${pair%:*} "*) disable+=("${pair#*:}.service") ;; esac
done

say "packages to install: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
if [ ${#disable[@]} -gt 0 ] && command -v systemctl >/dev/null; then
    systemctl disable --quiet "${disable[@]}" 2>/dev/null || true
fi
say "packages installed"
