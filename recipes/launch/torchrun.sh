#!/bin/sh
# Pretrains on several nodes; run it on each of them, from the checkout:
#   HEAD=node0:29500 NODES=16 sh recipes/launch/torchrun.sh recipes/codeshell-7b/pretrain.yaml \
#       accelerate=recipes/accelerate/fsdp2.yaml
# HEAD: host and port of the first node. NODES: their number. PER_NODE: processes on each, by default one per GPU.
# If a node is lost, the others wait until it, or a replacement, runs this again, and resume from the last checkpoint.
# The output must be on a disk that all nodes share.
# SIGTERM or SIGUSR1 to this process, on one node or all: every rank finishes its step, saves and stops, and the exit
# status is 75. After CODESHELL_GRACE_S seconds, by default 600, ranks are killed.
# The tests run it as two nodes on loopback.
set -eu
[ $# -gt 0 ] || { echo "usage: HEAD=host:port NODES=n sh recipes/launch/torchrun.sh SETTINGS [section.key=value ...]" >&2; exit 2; }
cd "$(dirname "$0")/../.."
# The first node is recognised by HEAD's host name; where that does not work, as on loopback, set NODE_RANK.
case "${NODE_RANK:-}" in
  "") host= ;;
  0) host=,is_host=true ;;
  *) host=,is_host=false ;;
esac
# A restarted node needs an address that torch, with a shared store, only publishes in the first rendezvous.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
python="${PYTHON:-python}"
exec "$python" -m codeshell_hf.commands.supervisor "$python" -m torch.distributed.run --signals-to-handle SIGQUIT \
  --nnodes "${NODES:?set NODES to the number of nodes}" --nproc-per-node "${PER_NODE:-gpu}" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:?set HEAD to host:port of the first node}" \
  --rdzv-id "${RUN_ID:-codeshell}" --rdzv-conf "join_timeout=${JOIN_TIMEOUT_S:-1800}$host" \
  --max-restarts "${RESTARTS:-3}" -m recipes.pretrain "$@"
