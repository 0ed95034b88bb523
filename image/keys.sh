#!/usr/bin/env bash
# Make the owner's keys in build/keys, once; those that are there stay. A box takes updates of its owner's
# keys only: whoever loses them can build no more updates for boxes in the field, whoever gets them can.
#
#   mkosi.key, mkosi.crt     secure boot (kernel image) and the verified root: RSA, as firmware wants it
#   update.key, update.pub   the bundles: Ed25519; may be kept elsewhere than the others
set -euo pipefail

keys=$(cd "$(dirname "$0")/.." && pwd)/build/keys
umask 077
mkdir -p "$keys"
if [ ! -s "$keys/mkosi.key" ] || [ ! -s "$keys/update.key" ]; then
    printf '\033[1m==>\033[0m %s\n' "keys: build/keys (made once, never committed; keep them)"
fi
if [ ! -s "$keys/mkosi.key" ]; then
    openssl req -new -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=Isthmus image/" \
        -keyout "$keys/mkosi.key" -out "$keys/mkosi.crt" 2>/dev/null
fi
if [ ! -s "$keys/update.key" ]; then
    openssl genpkey -algorithm ed25519 -out "$keys/update.key"
fi
openssl pkey -in "$keys/update.key" -pubout -out "$keys/update.pub"
