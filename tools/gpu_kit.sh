#!/usr/bin/env bash
# Builds build/gpu-kit: the project and the packages that a machine with a GPU lacks on which nothing can be installed.
#
#   bash tools/gpu_kit.sh              the project and MMEngine with what it needs: 14 MB; everything but mmcv and mmdet
#   MMCV=1 bash tools/gpu_kit.sh       mmcv with its ops for that GPU and mmdet too, compiled here: 58 MiB, 11 minutes of CPU time
#   GPU_PYTHON=3.12 GPU_TORCH=2.11.0   the Python and torch of that machine; with MMCV=1 it is looked for on the PATH and
#                                      otherwise fetched
#   TORCH_CUDA_ARCH_LIST=9.0           its GPU (MMCV=1): 9.0 is an H100 or H200, 8.0 an A100
#
# There: bash gpu-kit/run.sh --out RESULTS. It must have numpy, matplotlib, OpenCV, rich and PyYAML beside torch, and for
# mmdet scipy, scikit-image, six and tqdm.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
uv=${UV:-$(dirname "$python")/uv}
wanted=${GPU_PYTHON:-3.12}
torch=${GPU_TORCH:-2.11.0}
kit=build/gpu-kit
say() { printf '[kit] %s\n' "$*"; }

# name==version as tested here.
pinned() { grep -oE "^$1==[^ ]+" requirements/tested.txt; }
# Into a folder of the kit, not installed there: such a machine may lack pip and venv, and its own packages stay as they are.
add() {
  "$uv" pip install --quiet --python "$python" --no-deps --link-mode copy --target "$kit/packages" \
    --python-version "$wanted" --python-platform x86_64-manylinux_2_28 "$@"
}

rm -rf "$kit"
mkdir -p "$kit/project"
say 'the project'
git ls-files -z | xargs -0 tar -cf - | tar -xf - -C "$kit/project"
say 'packages'
add "$(pinned onedl-mmengine)" "$(pinned addict)" "$(pinned yapf)" "$(pinned platformdirs)" "$(pinned termcolor)"
if [ "${MMCV:-0}" = 1 ]; then
  add "$(pinned onedl-mmdetection)" "$(pinned terminaltables)" "$(pinned pycocotools)" "$(pinned shapely)" "$(pinned imaug)"
  say "an environment with Python $wanted and torch $torch"
  "$uv" venv --quiet --clear --python "$wanted" build/gpu-kit-env \
    || { echo "error: found no Python $wanted; put its folder on the PATH, or set GPU_PYTHON" >&2; exit 1; }
  target=$PWD/build/gpu-kit-env/bin/python
  "$uv" pip install --quiet --python "$target" "torch==$torch" numpy ninja 'setuptools<81' wheel
  say "mmcv with its ops; the log is build/gpu-kit-mmcv.log"
  source=build/gpu-kit-mmcv
  rm -rf "$source"
  mkdir "$source"
  "$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: --require-hashes \
    --requirement requirements/mmcv.txt --dest "$source"
  tar -xzf "$source"/*.tar.gz -C "$source" --strip-components 1
  "$python" tools/mmcv_units.py "$source" --cuda
  # As in setup_env.sh: the toolkit where nvcc is a script, headers that a small toolkit lacks, and flags that CFLAGS
  # would replace.
  if [ -z "${CUDA_HOME:-}" ] && command -v nvcc >/dev/null; then
    toolkit=$(nvcc --dryrun -c -x cu /dev/null -o /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p' || true)
    [ -z "$toolkit" ] || CUDA_HOME=$(cd "$toolkit" && pwd)
    export CUDA_HOME
  fi
  for headers in "$PWD"/build/gpu-kit-env/lib/python*/site-packages/nvidia/*/include; do
    export CPATH="${CPATH:+$CPATH:}$headers"
  done
  flags="$("$target" -c 'import sysconfig; print(sysconfig.get_config_var("CFLAGS"))') -g0"
  (cd "$source" && PATH="$(dirname "$target"):$PATH" MMCV_WITH_OPS=1 FORCE_CUDA=1 LDFLAGS=-Wl,-s \
    TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST:-9.0}" CFLAGS="$flags" CXXFLAGS="$flags" \
    "$target" setup.py --quiet bdist_wheel) >build/gpu-kit-mmcv.log 2>&1 \
    || { echo 'error: compiling mmcv failed; see build/gpu-kit-mmcv.log' >&2; exit 1; }
  add "$source"/dist/*.whl
fi
cat >"$kit/run.sh" <<'SH'
#!/usr/bin/env bash
# Checks and times this GPU: bash run.sh --out RESULTS [options of tools/gpu_check.py]
# MMATCONV_TESTS=1 runs the tests of operator, layers, backbones and deploy instead (pytest is needed).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=$here/project:$here/packages${PYTHONPATH:+:$PYTHONPATH}
python=${PYTHON:-python3}
if [ "${MMATCONV_TESTS:-0}" = 1 ]; then
  cd "$here/project"
  exec "$python" -m pytest -q tests/test_ops tests/test_layers tests/test_backbones/test_devices.py \
    tests/test_deploy/test_devices.py "$@"
fi
exec "$python" "$here/project/tools/gpu_check.py" "$@"
SH
chmod +x "$kit/run.sh"
say "$kit is ready: $(du -sm --apparent-size "$kit" | cut -f1) MB; bash gpu-kit/run.sh --out RESULTS runs it there"
