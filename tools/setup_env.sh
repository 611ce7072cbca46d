#!/usr/bin/env bash
# Makes an environment in the project folder: pinned packages and mmcv with compiled ops.
# Safe to interrupt and to call again: finished steps are skipped, and the mmcv build continues where it stopped.
#
#   bash tools/setup_env.sh            the tested environment: .venv from requirements/tested.txt
#   bash tools/setup_env.sh upstream   the original OpenMMLab packages on a CPU: .venv-upstream from requirements/upstream.txt
#   MMATCONV_CACHE=DIR                 where mmcv is built and its wheel kept for other checkouts
#   MAX_JOBS=1                         compilers at once; by default one for each core, as far as memory allows
#   FORCE_CUDA=1 or 0                  compile mmcv's ops for the GPU or not; by default where torch sees one
#   BASE_PYTHON=/usr/bin/python3.11    the interpreter the environment is made from
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

uv_version=0.13.8
cache=${MMATCONV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mmatconv}

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

case ${1:-tested} in
  tested) venv=.venv pins=requirements/tested.txt mmcv_pin=requirements/mmcv.txt newest_python=12 ;;
  upstream)
    venv=.venv-upstream pins=requirements/upstream.txt mmcv_pin=requirements/mmcv-upstream.txt newest_python=11
    : "${FORCE_CUDA:=0}"
    ;;
  *) die "there is no environment '$1'; name tested or upstream" ;;
esac
mmcv_version=$(sed -n 's/.*mmcv==\([0-9.]*\).*/\1/p' "$mmcv_pin")

# The stamp names everything the environment was made from; an equal stamp means there is nothing to do.
stamp_text=$(cat "$pins" "$mmcv_pin" tools/setup_env.sh | sha256sum | cut -d' ' -f1)
if [ -f "$venv/.complete" ] && [ "$(cat "$venv/.complete")" = "$stamp_text" ] && [ -x "$venv/bin/python" ]; then
  exit 0
fi
rm -f "$venv/.complete"

base_python=${BASE_PYTHON:-}
if [ -z "$base_python" ]; then
  for candidate in python3.11 python3 python3.12 python3.10; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, int(sys.argv[1])))' "$newest_python" 2>/dev/null; then
      base_python=$candidate
      break
    fi
  done
fi
[ -n "$base_python" ] || die "no Python 3.10 to 3.$newest_python found; install Python 3.11 or name one with BASE_PYTHON=/path/to/python"
for tool in g++ git; do
  command -v "$tool" >/dev/null || die "$tool is missing; install it (Debian: apt-get install $tool) and call again"
done

if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
  say "making $venv from $("$base_python" -V) ($base_python)"
  "$base_python" -m venv --clear "$venv" || die "'$base_python -m venv' failed; on Debian install python3-venv"
fi
python=$PWD/$venv/bin/python
uv=$PWD/$venv/bin/uv
if [ "$("$uv" --version 2>/dev/null | cut -d' ' -f2)" != "$uv_version" ]; then
  say "installing uv $uv_version"
  "$python" -m pip install --quiet "uv==$uv_version"
fi

say "installing the pinned packages (about 5 GB on a machine that has none of them cached)"
# --no-deps: the file is complete, and what it leaves out on purpose (override.in) must not come back.
# Compiled to bytecode once: where PYTHONDONTWRITEBYTECODE is set, every process would compile what it imports again.
"$uv" pip install --python "$python" --no-deps --compile-bytecode --requirement "$pins"

case ${FORCE_CUDA:-} in
  1) gpu=gpu ;;
  0) gpu=cpu ;;
  *) gpu=$("$python" -c 'import torch; print("gpu" if torch.cuda.is_available() else "cpu")') ;;
esac
if [ "$gpu" = gpu ]; then
  if [ -z "${CUDA_HOME:-}" ] && command -v nvcc >/dev/null; then
    # torch takes the folder above nvcc's own, which is wrong where nvcc is a script that calls another.
    toolkit=$(nvcc --dryrun -c -x cu /dev/null -o /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p' || true)
    [ -z "$toolkit" ] || CUDA_HOME=$(cd "$toolkit" && pwd)
    export CUDA_HOME
  fi
  # A small toolkit lacks the headers of cuBLAS, cuSPARSE, ...: the packages that torch came with have them.
  for headers in "$PWD/$venv"/lib/python*/site-packages/nvidia/*/include; do
    [ ! -d "$headers" ] || export CPATH="${CPATH:+$CPATH:}$headers"
  done
  "$python" -c 'import sys; from torch.utils.cpp_extension import CUDA_HOME, ROCM_HOME; sys.exit(not (CUDA_HOME or ROCM_HOME))' \
    || die "mmcv's GPU ops need nvcc of CUDA $("$python" -c 'import torch; print(torch.version.cuda)'), found none; install it, or set FORCE_CUDA=0"
  export FORCE_CUDA=1
else
  unset FORCE_CUDA
  export CUDA_VISIBLE_DEVICES=  # mmcv's setup.py also asks torch for a GPU
fi
# setuptools lets CFLAGS replace the flags that Python was built with, -O3 among them, so they are named here.
# -g0: without debug information the wheel is a tenth of the size.
flags="$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS"))') -g0 ${CFLAGS:-}"

# One wheel for each combination that changes the binary.
target=$("$python" -c 'import sys, torch; print(f"cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch.__version__}")')-$gpu
wheels=$cache/mmcv-$mmcv_version-$target-$(printf "%s" "$flags ${TORCH_CUDA_ARCH_LIST:-}" | cksum | cut -d' ' -f1)
find_wheel() { find "$wheels" -maxdepth 1 -name '*mmcv-*.whl' 2>/dev/null | head -n 1; }

# Puts the sources in place, gathered into a few files unless compiling those has failed before.
unpack() {
  [ ! -f "$source/setup.py" ] || return 0
  rm -rf "$source" "$wheels/unpack"
  if [ ! -f "$wheels/sdist/complete" ]; then
    say "fetching the mmcv $mmcv_version sources"
    rm -rf "$wheels/sdist"
    "$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: --require-hashes \
      --requirement "$mmcv_pin" --dest "$wheels/sdist"
    touch "$wheels/sdist/complete"
  fi
  mkdir "$wheels/unpack"
  tar -xzf "$wheels"/sdist/*.tar.gz -C "$wheels/unpack" --strip-components 1
  [ -f "$wheels/one_by_one" ] || "$python" tools/mmcv_units.py "$wheels/unpack" ${cuda_units:+--cuda}
  mv "$wheels/unpack" "$source"
}

# One compiler for each core, as far as memory allows: each takes up to 2.2 GB, and 3.2 GB with kernels of a GPU.
fitting_jobs() {
  local cores memory each=2.4e6
  [ "$gpu" != gpu ] || each=3.4e6
  cores=$(nproc 2>/dev/null || echo 2)
  memory=$(awk '/^MemAvailable/ { n = int($2 / '$each'); print (n > 1 ? n : 1) }' /proc/meminfo 2>/dev/null || true)
  printf '%s' $((memory && memory < cores ? memory : cores))
}
progress() { grep --line-buffered -E '^\[[0-9]+/[0-9]+\]|[Ee]rror:' | sed -u -E 's/^(\[[0-9]+\/[0-9]+\]).*\/([^/ ]+)\.o.*/\1 \2/' || true; }
compile() {
  (cd "$source" && PATH="$(dirname "$python"):$PATH" MMCV_WITH_OPS=1 CFLAGS="$flags" CXXFLAGS="$flags" \
    MAX_JOBS=$jobs NINJA_STATUS='[%f/%t] ' "$python" setup.py --quiet bdist_wheel --dist-dir "$wheels/dist" 2>&1) \
    | tee "$wheels/build.log" | progress
}

if [ -z "$(find_wheel)" ]; then
  mkdir -p "$wheels"
  exec 9>"$wheels/lock"
  ! command -v flock >/dev/null || flock 9  # two checkouts set up at once share one build
fi
if [ -z "$(find_wheel)" ]; then
  source=$wheels/source
  # The sources of a ROCm build are translated file by file (hipify), and what a file includes is not.
  cuda_units=
  if [ "$gpu" = gpu ] && "$python" -c 'import sys, torch; sys.exit(torch.version.cuda is None)'; then cuda_units=1; fi
  jobs=${MAX_JOBS:-$(fitting_jobs)}
  trap 'die "compiling mmcv was interrupted; call again to continue"' INT
  unpack
  say "compiling mmcv's ops for $target, $jobs at once; [done/all] below, the log is $wheels/build.log"
  if ! compile && [ ! -f "$wheels/one_by_one" ]; then
    say "compiling several files of mmcv as one failed (log: $wheels/build.units.log); compiling each alone, which takes longer"
    mv "$wheels/build.log" "$wheels/build.units.log"
    touch "$wheels/one_by_one"
    rm -rf "$source"
    unpack
    compile || true
  fi
  trap - INT
  mv "$wheels"/dist/*mmcv-*.whl "$wheels/" || die "compiling mmcv failed; the log is $wheels/build.log, call again to continue"
  rm -rf "$source" "$wheels/dist" "$wheels/sdist" "$wheels/one_by_one"
fi
"$uv" pip install --python "$python" --no-deps --compile-bytecode "$(find_wheel)"
"$python" -c 'import mmcv.ops' || die "the compiled mmcv does not import; remove $wheels and call again"

printf '%s' "$stamp_text" >"$venv/.complete"
say "done: $venv is ready"
