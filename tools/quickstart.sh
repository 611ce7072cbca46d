#!/usr/bin/env bash
# Generated data, Mask R-CNN with AttNet-XXS trained from scratch, evaluation, pictures: called by `make quickstart`.
# Interrupted or called again, it goes on from its last checkpoint; remove work_dirs/quickstart to start over.
# Options are passed on to training and evaluation: tools/quickstart.sh --verbose
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
export PYTHON=$python
out=work_dirs/quickstart
config=configs/quickstart/mask-rcnn_attnet-xxs_fpn_shapes.py
started=$SECONDS

echo '1/3 data'
"$python" tools/dataset_tools/make_shapes.py data/shapes --train 600

# Four images a step: one process on a GPU, two on the CPU, whose RoIAlign has one thread.
processes=$("$python" -c 'import os, torch; print(1 if torch.cuda.is_available() else min(2, len(os.sched_getaffinity(0))))')
options=(--cfg-options "train_dataloader.batch_size=$((4 / processes))")
echo '2/3 training'
bash tools/dist_train.sh "$config" "$processes" --work-dir "$out/mask-rcnn" --resume "$@" "${options[@]}"
checkpoint=$out/mask-rcnn/$(basename "$(cat "$out/mask-rcnn/last_checkpoint")")
rm -rf "$out/predictions" "$out/browse" "$out/demo"
echo '3/3 evaluation'
bash tools/dist_test.sh "$config" "$checkpoint" "$processes" --work-dir "$out/mask-rcnn" --show-dir "$out/predictions" \
  --out "$out/mask-rcnn/predictions.pkl" "$@"
"$python" tools/analysis_tools/report_run.py "$out/mask-rcnn" --plot "$out/curves.png" --quiet \
  --pictures "$out/predictions" --sheet "$out/predictions.png" --headings 'ground truth' prediction
"$python" tools/analysis_tools/browse_predictions.py "$out/mask-rcnn" --out "$out/browse" >/dev/null
"$python" tools/image_demo.py data/shapes/coco/val/000000000001.jpg "$config" "$checkpoint" --out "$out/demo" >/dev/null

cat <<EOF
Done in $((SECONDS - started)) s.
  $out/predictions.png    ground truth and predictions, one by one in $out/predictions/
  $out/curves.png         loss and AP
  $out/browse/index.html  open it in a browser: worst and best images, classes, curves
  $out/demo/pictures/     tools/image_demo.py on one image
EOF
