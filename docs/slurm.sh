#!/bin/bash
#SBATCH --job-name=taolu
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --gpus-per-node=2
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

# sbatch docs/slurm.sh vae --trainer.max_epochs 500 --store /shared/mlruns
#
# A run of any length in jobs of four hours: two minutes before the time is over, SLURM sends USR1 to this shell (B:),
# which passes it on; taolu keeps its state and ends with exit status 75; the job goes back into the queue, and the same
# command, started again, goes on. An id that is the job's makes it the same run however often.

srun --kill-on-bad-exit=0 taolu run "$@" --id "slurm-$SLURM_JOB_ID" \
    --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.num_nodes "$SLURM_NNODES" &
step=$!
trap 'told=yes; kill -USR1 "$step"' USR1
trap 'told=yes; kill -TERM "$step"' TERM
while told=; wait "$step"; status=$?; [ "$told" ]; do :; done # a signal ends a wait, not the step

if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
