#!/usr/bin/env bash
# Debian's Python and onnxruntime for 64-bit ARM in one folder, run by qemu-user without a chroot,
# and wheels of TVM for boards:
#
#   tests/arm64/install.sh FOLDER
#
# Packages are unpacked, never installed; apt gets a state of its own. Needs qemu-user.
set -euo pipefail
folder=$(realpath -m "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=$(realpath -s "${PYTHON:-$here/.venv/bin/python}")
[ -f "$folder/ready" ] && exit 0

mkdir -p "$folder"/apt/{lists,archives}/partial "$folder"/root/proc "$folder"/wheels
: > "$folder/apt/status"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
echo "deb [signed-by=$keys] http://deb.debian.org/debian $release main" > "$folder/apt/sources.list"
options=(
  -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Install-Recommends=0
  -o APT::Sandbox::User=root -o Debug::NoLocking=1
  -o Dir::State="$folder/apt" -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt"
  -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=/nonexistent
)
apt-get "${options[@]}" --quiet update
apt-get "${options[@]}" --quiet --yes --download-only install \
  python3-minimal libpython3-stdlib libstdc++6 libgcc-s1 zlib1g
for package in "$folder"/apt/archives/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done

# The board server is linked to TVM's libraries for ARM.
"$python" -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder/tvm" \
  --platform manylinux_2_28_aarch64 --constraint "$here/constraints.txt" \
  $("$python" -c 'from gmpq.backends.rpc.server.tvm_libraries import versions; print(*versions())')

version=$(ls "$folder"/root/usr/lib | sed -n 's/^python3\.\([0-9]*\)$/3.\1/p')
"$python" -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder/wheels" \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
  --python-version "$version" --constraint "$here/constraints.txt" numpy onnxruntime
for wheel in "$folder"/wheels/*.whl; do "$python" -m zipfile --extract "$wheel" "$folder/site"; done

# onnxruntime identifies the processor by this file, which qemu shows in place of the machine's own.
for core in 0 1 2 3; do
  printf 'processor\t: %s\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n' "$core"
  printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n'
  printf 'CPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done > "$folder/root/proc/cpuinfo"
echo "$version" > "$folder/ready"
