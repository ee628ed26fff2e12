#!/bin/sh
# Pretrains on several nodes; run it on each of them, from the checkout:
#   HEAD=node0:29500 NODES=16 sh recipes/launch/torchrun.sh recipes/codeshell-7b/pretrain.yaml \
#       accelerate=recipes/accelerate/fsdp2.yaml
# HEAD: host and port of the first node. NODES: how many. PER_NODE: processes of each, by default one a GPU.
# Where a node is lost, the others wait until it, or another in its place, runs this again, and go on from the last
# checkpoint. Run by the tests as two nodes on loopback.
set -eu
[ $# -gt 0 ] || { echo "usage: HEAD=host:port NODES=n sh recipes/launch/torchrun.sh SETTINGS [section.key=value ...]" >&2; exit 2; }
cd "$(dirname "$0")/../.."
# Which node answers the others is found by HEAD's name; where that is no help, as on loopback, NODE_RANK says.
case "${NODE_RANK:-}" in
  "") host= ;;
  0) host=,is_host=true ;;
  *) host=,is_host=false ;;
esac
# A node that comes anew asks the first for an address that torch, sharing one store, tells in the first round alone.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes "${NODES:?set NODES to the number of nodes}" --nproc-per-node "${PER_NODE:-gpu}" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:?set HEAD to host:port of the first node}" \
  --rdzv-id "${RUN_ID:-codeshell}" --rdzv-conf "join_timeout=${JOIN_TIMEOUT_S:-1800}$host" \
  --max-restarts "${RESTARTS:-3}" -m recipes.pretrain "$@"
