#!/usr/bin/env bash
# Write build/isthmus.raw to a whole disk: flash.sh /dev/… . Refuses anything that is in use, and asks first.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
image=$top/build/isthmus.raw
disk=${1:-}

die() {
    printf 'flash: %s\n' "$*" >&2
    exit 1
}

[ -n "$disk" ] || die "which disk? make flash DISK=/dev/…   (lsblk lists them)"
[ -e "$disk" ] || die "$disk does not exist"
disk=$(readlink -f "$disk")
[ -b "$disk" ] || die "$disk is not a block device"
[ -s "$image" ] || die "$image is missing: make image"

# From here on by the kernel's own lists: what is below this disk, and what stands on it.
kind=$(lsblk --nodeps --noheadings --output TYPE "$disk" | tr -d ' ')
[ "$kind" = disk ] || die "$disk is a ${kind:-nothing that lsblk knows}, not a whole disk"
[ "$(blockdev --getro "$disk")" = 0 ] || die "$disk is read-only"

mounted=$(lsblk --noheadings --list --output NAME,MOUNTPOINTS "$disk" | awk 'NF > 1')
[ -z "$mounted" ] || die "$disk is in use, mounted or swap: $(tr -s '\n ' '  ' <<<"$mounted")"
while read -r name; do
    holders=$(find "/sys/class/block/$name/holders" -mindepth 1 -printf '%f ' 2>/dev/null)
    [ -z "$holders" ] || die "$disk is in use: ${holders}stands on $name (LVM, RAID or encryption)"
    # lsblk looks into this mount namespace only, /proc/swaps knows every swap
    if awk -v device="/dev/$name" '$1 == device { found = 1 } END { exit !found }' /proc/swaps; then
        die "$disk is in use: $name is swap"
    fi
done < <(lsblk --noheadings --list --output KNAME "$disk")
if lsblk --noheadings --list --output FSTYPE "$disk" | grep -qE '^(LVM2_member|linux_raid_member|zfs_member)$'; then
    die "$disk belongs to a volume group, RAID or pool: wipe it first (wipefs) if it is really free"
fi
# The kernel's last word: an exclusive open fails while anything at all holds the disk.
python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_EXCL)' "$disk" 2>/dev/null ||
    die "$disk is in use: the kernel gives it to nobody else"

size=$(blockdev --getsize64 "$disk")
need=$(($(stat --format %s "$image") + 1024 * 1024 * 1024))
[ "$size" -ge "$need" ] || die "$disk is too small: the box needs $((need / 1000000)) MB (two slots and its data)"

echo "This disk will be overwritten, all of it:"
lsblk --output NAME,MODEL,SERIAL,SIZE,TRAN,FSTYPE,LABEL "$disk"
printf 'Type the name of the disk (%s) to go on: ' "$disk"
read -r answer || die "nothing was written"
[ "$answer" = "$disk" ] || die "nothing was written"

dd if="$image" of="$disk" bs=4M conv=fsync status=progress
blockdev --rereadpt "$disk" 2>/dev/null || true
echo "done: $disk holds Isthmus. Start the machine from it; the first boot makes the data partition."
