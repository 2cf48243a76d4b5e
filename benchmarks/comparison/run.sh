#!/usr/bin/env bash
# One task of the comparison, from the data to the table. Run again, it goes on where it was stopped.
#
#     bash benchmarks/comparison/run.sh classification|detection|segmentation [ablations|pulls] [flags]
#
# With "ablations", given after the task itself has ended, it is the table of DiffKD's ablations. They
# get the weights that were chosen for DiffKD. With "pulls" the trainings of seed 0 are repeated with
# a hook that measures how hard each pair pulls at the student, which takes time. The flags are those
# of tools/compare.py, or for "pulls" those of tools/train.py.
# Whether all of it runs is shown in minutes by: --smoke --seeds 1 --weights 1
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
task=${1:?classification, detection or segmentation}
shift
configs=benchmarks/comparison/$task
results=work_dirs/comparison/$task

case $task in
    classification) methods=alone,kd,align,cwd,pkd,mgd,diffkd,no_diffusion ;;
    detection) methods=alone,align,cwd,pkd,mgd,diffkd ;; # align is DiffKD's pair without diffusion
    segmentation) methods=alone,kd,align,cwd,pkd,mgd,diffkd,no_diffusion,diffkd_scores ;;
esac
table=compare weights=0.3,1,3
if [[ ${1:-} == ablations ]]; then
    table=ablations
    shift
fi

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # The operations are too small for several threads.
if [[ ${1:-} == pulls ]]; then
    shift
    for run in "$results"/compare/*/seed-0; do
        method=$(basename "$(dirname "$run")")
        pulls=$results/pulls/$method
        [[ $method == alone || -f $pulls/last_checkpoint ]] && continue
        mkdir -p "$results/pulls"
        echo "_base_ = '$PWD/$run/config/train.py'
custom_hooks = [*_base_.custom_hooks, dict(type='mmdiffkd.TelemetryHook', interval=25)]" \
            >"$pulls.py"
        python tools/train.py "$pulls.py" --work-dir "$pulls" "$@"
    done
    exit
fi

python benchmarks/comparison/make_data.py
teacher=random
if [[ " $* " != *' --smoke '* ]]; then
    if [[ ! -f $results/teacher/last_checkpoint ]]; then
        python tools/train.py "$configs/teacher.py" --work-dir "$results/teacher"
    fi
    teacher=$(<"$results/teacher/last_checkpoint")
fi
if [[ $table == ablations ]]; then
    methods=alone,diffkd,diffkd_own_loss,diffkd_no_noise,diffkd_gamma_07,diffkd_own_loss_no_noise
    methods+=,diffkd_own_loss_gamma_07,diffkd_roots,diffkd_one_step
    weights=1
    if [[ $teacher != random ]]; then
        weights=$(python -c 'import json, sys; print(json.load(sys.stdin)["rows"]["diffkd"]["factor"])' \
            <"$results/compare/comparison.json")
        mkdir -p "$results/ablations"
        cp -r --update "$results"/compare/{alone,diffkd,teacher} "$results/ablations"
    fi
fi
python tools/compare.py "$configs/student.py" --teacher "$configs/teacher.py" \
    --teacher-checkpoint "$teacher" \
    --methods "$methods" --methods-file "$configs/methods.py" \
    --seeds 5 --weights "$weights" --work-dir "$results/$table" "$@"
