#!/bin/sh
# VQAv2 from nothing to a table of four heads, with DINOv2-base and Llama-3.2-1B.
#
#     sh examples/vqav2.sh FOLDER
#
# It downloads questions, answers and pictures, stores their features, trains four heads, and
# compares them. FOLDER/heads.md is the table; the last lines name the report. If it stops, run it
# again: each step goes on where it was, and what is done is not done again.
#
# It needs
# - `frozen-vqa` on the PATH; in a checkout: PATH="$PWD/.venv/bin:$PATH" sh examples/vqav2.sh FOLDER
# - a login, because Llama 3 is gated: accept its licence on
#   https://huggingface.co/meta-llama/Llama-3.2-1B, then run `hf auth login`
# - 80 GB of disk in FOLDER, and 3 GB for the encoders in the Hub's cache
# - a GPU. With one it should take one evening, reckoned and not measured (docs/scale.md); on a
#   processor alone it would take weeks.
set -eu
to=${1:?give a folder, as in: sh examples/vqav2.sh vqav2}
case $to in -*) to=./$to ;; esac # a folder, and no option

# Edit these. Other encoders: docs/models.md; other settings: docs/heads.md. Give other features or
# other heads another FOLDER, because a step that is done is not done again with new settings.
encoders="--vision-model facebook/dinov2-base --text-model meta-llama/Llama-3.2-1B"
settings="--width 1024"
first=co-attention
others="text-to-image concat question-only"

# Exit code 3 means: done, but some inputs were left out, which the step has listed.
step() {
    echo "== frozen-vqa $*" >&2
    frozen-vqa "$@" || [ $? -eq 3 ]
}

step download vqav2 --to "$to/VQA"
step download coco2014 --to "$to/VQA"

# shellcheck disable=SC2086  # the settings are several words
step extract-features --dataset "vqav2:$to/VQA" --split train --split val \
    --cache "$to/features" $encoders

for head in $first $others; do
    run=$to/runs/$head
    # A run without a state and without weights has trained nothing yet, so it begins again.
    begun=--overwrite
    for file in "$run/model.safetensors" "$run/state/state.safetensors"; do
        [ ! -e "$file" ] || begun=--resume
    done
    # shellcheck disable=SC2086
    step train-head "$to/features" --run "$run" --fusion "$head" $settings --no-report $begun
done

set -- "$to/runs/$first"
for head in $others; do
    set -- "$@" --compare "$to/runs/$head"
done
step evaluate "$@" --split val --report --table "$to/heads.md"
cat "$to/heads.md"
