#!/bin/sh
# Is quality worth it? The same number of tokens selected at random and by quality, trained with the same settings:
#   sh recipes/ablation.sh nano 1_000_000 [pretrain's overrides]
# It needs the system's curate, tokenizer and pack, and ends with runs/SYSTEM/ablation/comparison.html.
set -eu
system=${1:?usage: sh recipes/ablation.sh SYSTEM TOKENS [section.key=value ...], such as nano 1_000_000}
tokens=${2:?usage: sh recipes/ablation.sh SYSTEM TOKENS [section.key=value ...], such as nano 1_000_000}
shift 2
cd "$(dirname "$0")/.."
[ -f "recipes/$system/curate.yaml" ] || { echo "ablation.sh: recipes/$system/curate.yaml does not exist; name a system that has one" >&2; exit 2; }
[ -t 2 ] || export TQDM_MININTERVAL=10

from=runs/$system to=runs/$system/ablation
for by in random quality; do
  echo "== $by"
  codeshell curate "recipes/$system/curate.yaml" "cache=$from/curate.measured" "quality.model=$from/curate/quality" \
    "selection={max_tokens: $tokens, by: $by}" "output=$to/$by/curate"
  codeshell pack "recipes/$system/pack.yaml" "documents=$to/$by/curate" "splits=[train]" "output=$to/$by/train"
  # Both are evaluated on the held-out documents of the whole corpus.
  codeshell pretrain "recipes/$system/pretrain.yaml" "shards=$to/$by/train" "evaluation.shards=$from/pack" \
    "output=$to/$by/pretrain" "$@"
done
codeshell evaluate "recipes/$system/evaluate.yaml" "documents=$from/curate" "shards=$from/pack" \
  "models={random: $to/random/pretrain/model, quality: $to/quality/pretrain/model}" "output=$to/evaluate"
codeshell compare "$to/random/pretrain" "$to/quality/pretrain" --scores "$to/evaluate" --output "$to/comparison.html"
