#!/usr/bin/env bash
# The experiments on the nodes of one SLURM job: a Ray node on each, the command on the first.
# How to run: docs/scaling.md#the-experiments-on-a-cluster.
#
#   sbatch configs/ray/slurm.sh run --table 1 --profile paper --gpus-per-stage 1
#
# Submit it in the clone, with its Python environment active; clone, environment and store must be
# on a disk that all nodes share. Submitted again, the job goes on from the store.
#SBATCH --job-name=sparsepo
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
set -euo pipefail

port="${RAY_PORT:-6379}"
nodes="${SLURM_JOB_NUM_NODES:?run this with sbatch}"
cores="${SLURM_CPUS_PER_TASK:-1}"
gpus="${SLURM_GPUS_PER_TASK:-0}"
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
address="$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')"

# Other users of the machines can reach the cluster: only this job has the token.
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN

start=(ray start --block --num-cpus="$cores" --num-gpus="$gpus" --disable-usage-stats)
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    "${start[@]}" --head --node-ip-address="$address" --port="$port" --include-dashboard=false &
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
if [ "$nodes" -gt 1 ]; then
    srun --nodes="$((nodes - 1))" --ntasks="$((nodes - 1))" --exclude="$head" --overlap \
        "${start[@]}" --address="$address:$port" &
fi

# The command refuses what no node can give, so all of them must have joined before it looks.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    env RAY_ADDRESS="$address:$port" python -c '
import sys, time
import ray
for _ in range(120):
    try:
        ray.init(logging_level="ERROR", log_to_driver=False)
        break
    except ConnectionError:
        time.sleep(1)
else:
    sys.exit("The first node of the job did not start Ray.")
for _ in range(300):
    if sum(node["Alive"] for node in ray.nodes()) >= int(sys.argv[1]):
        break
    time.sleep(1)
else:
    sys.exit("Not all nodes of the job have joined.")
' "$nodes"

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
    env RAY_ADDRESS="$address:$port" python -m harness "$@" --engine ray
