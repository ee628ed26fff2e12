#!/bin/sh
# Runs the stages of a system in order: sh recipes/run.sh nano
# A stage whose output is up to date is skipped; one that was killed goes on.
# Where programs cannot be isolated, SANDBOX=none runs what the model writes with your rights.
set -eu
system=${1:?usage: sh recipes/run.sh SYSTEM, such as nano}
cd "$(dirname "$0")/.."
[ -d "recipes/$system" ] || { echo "run.sh: recipes/$system does not exist; name a folder under recipes/" >&2; exit 2; }

# glibc gives large blocks back to the kernel after each step and asks for them again; keeping them saves a third of
# a step on a CPU.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456
export TOKENIZERS_PARALLELISM=true
# Bars are for eyes; a log gets a line every ten seconds.
[ -t 2 ] || export TQDM_MININTERVAL=10

for stage in curate tokenizer pack pretrain sft preferences reward rlhf dpo evaluate publish; do
  settings="recipes/$system/$stage.yaml"
  if [ -f "$settings" ]; then
    echo "== $stage"
    case $stage in
      preferences | rlhf | dpo | evaluate) python -m "recipes.$stage" "$settings" ${SANDBOX:+"sandbox=$SANDBOX"} ;;
      *) python -m "recipes.$stage" "$settings" ;;
    esac
  fi
done
