#!/usr/bin/env bash
# Set up all that mmdiffkd needs, once.
#
#   source tools/setup_env.sh     # sets up if needed and activates the environment
#   bash tools/setup_env.sh       # sets up only
#
# An active environment that has mmdet, mmseg or mmpretrain is used as it is (mmdiffkd and what its
# tests and documentation need are added to it). Otherwise `.venv` in the source tree is made, or
# reused; MMDIFFKD_VENV names another place. Needs Python 3.10 or newer with venv and pip, and a
# C++ compiler. On a machine with a GPU mmcv is compiled with CUDA operations, for which it needs
# nvcc; FORCE_CUDA=0 leaves them out, FORCE_CUDA=1 compiles them on a machine without a GPU.
#
# MMDIFFKD_STACK=openmmlab asks for the upstream builds (requirements/openmmlab.txt) in the place of
# the OneDL builds (requirements/onedl.txt). They have the same import names, so they have an
# environment of their own, `.venv-openmmlab`; an active one is used only if it has these builds.
#
# MMDIFFKD_PYTHON=python3.13 and MMDIFFKD_TORCH=2.14.1 ask for other versions, in an environment of
# their own, `.venv-python3.13-torch2.14.1`.

_mmdiffkd_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
_mmdiffkd_stack=${MMDIFFKD_STACK:-onedl}
_mmdiffkd_pins=$_mmdiffkd_root/requirements/$_mmdiffkd_stack.txt
_mmdiffkd_venv=$_mmdiffkd_root/.venv
if [ "$_mmdiffkd_stack" != onedl ]; then
    _mmdiffkd_venv+=-$_mmdiffkd_stack
fi
_mmdiffkd_versions=${MMDIFFKD_PYTHON:+-${MMDIFFKD_PYTHON##*/}}${MMDIFFKD_TORCH:+-torch$MMDIFFKD_TORCH}
_mmdiffkd_venv=${MMDIFFKD_VENV:-$_mmdiffkd_venv$_mmdiffkd_versions}

_mmdiffkd_find_python() {
    local candidate
    for candidate in ${MMDIFFKD_PYTHON:-python3.11 python3.12 python3.13 python3.10 python3 python}; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "error: no Python 3.10 or newer with the venv module was found" >&2
    return 1
}

# Whether the active environment has a host library, of the stack that was asked for if one was.
_mmdiffkd_has_host() {
    local engine=
    if [ -n "${MMDIFFKD_STACK:-}" ]; then
        engine=$(_mmdiffkd_pin mmengine)
    fi
    python - "${engine%%=*}" 2>/dev/null <<'PYTHON'
import importlib.util as util
import sys
from importlib.metadata import version

if sys.argv[1]:
    version(sys.argv[1])
sys.exit(not any(util.find_spec(name) for name in ('mmdet', 'mmseg', 'mmpretrain')))
PYTHON
}

# Run a command that prints nothing for minutes, and say every half minute that it is alive.
_mmdiffkd_with_heartbeat() {
    local log=$1 pid seconds=0
    shift
    "$@" >"$log" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 5
        seconds=$((seconds + 5))
        if [ $((seconds % 30)) -eq 0 ]; then
            echo "    ... still at it after $((seconds / 60)) min $((seconds % 60)) s"
        fi
    done
    if ! wait "$pid"; then
        tail -n 40 "$log" >&2
        echo "error: failed: $* (whole log: $log)" >&2
        return 1
    fi
}

# One line of the stack's requirements, e.g. `_mmdiffkd_pin mmcv` -> onedl-mmcv==2.3.6
_mmdiffkd_pin() {
    grep -E "^(onedl-)?$1[=<>]" "$_mmdiffkd_pins"
}

# Say what the machine has and what is done there: mmcv is compiled for the cpu or with cuda, or is
# to be installed prebuilt.
_mmdiffkd_look_at_machine() {
    local gpu nvcc
    gpu=$(nvidia-smi -L 2>/dev/null) || gpu=
    nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null) || nvcc=
    echo "[setup] GPU: ${gpu:-none}; nvcc: ${nvcc:-none}"
    if [ "${FORCE_CUDA:-${gpu:+1}}" != 1 ]; then
        _mmdiffkd_mmcv=cpu
        echo "[setup] compiles mmcv without CUDA operations (5 to 15 minutes on two cores, once)"
    elif [ -n "$nvcc" ]; then
        _mmdiffkd_mmcv=cuda
        echo "[setup] compiles mmcv with CUDA operations (much longer than the 5 to 15 minutes on"
        echo "    two cores that it takes without, once; FORCE_CUDA=0 leaves them out)"
    else
        _mmdiffkd_mmcv=prebuilt
        echo "[setup] installs torch, then needs a prebuilt mmcv, because compiling CUDA operations"
        echo "    takes nvcc (FORCE_CUDA=0 compiles mmcv without them)"
    fi
}

_mmdiffkd_require_prebuilt_mmcv() {
    local versions
    if python -c 'from mmcv.ops import *; assert get_compiling_cuda_version()[0].isdigit()' \
        2>/dev/null; then
        return 0
    fi
    versions=$(python -c 'import torch; print("torch", torch.__version__, "with CUDA", torch.version.cuda)')
    echo "error: without nvcc mmcv cannot be compiled with CUDA operations" >&2
    if [ "$_mmdiffkd_stack" = onedl ]; then
        cat >&2 <<TEXT
Install OneDL's mmcv for $versions, then start this again:
    "$_mmdiffkd_venv/bin/python" -m pip install onedl-mim
    "$_mmdiffkd_venv/bin/mim" install --only-binary onedl-mmcv "$(_mmdiffkd_pin mmcv)"
If pip finds none for these versions, install the CUDA toolkit (nvcc) of this version of CUDA.
TEXT
    else
        echo "OpenMMLab's prebuilt ones are for torch 2.4 and older. For $versions install nvcc." >&2
    fi
    echo "FORCE_CUDA=0 compiles an mmcv that computes on the CPU alone." >&2
    return 1
}

_mmdiffkd_install_stack() {
    local pip=(python -m pip install --disable-pip-version-check -q)
    local torch=("$(_mmdiffkd_pin torch)" "$(_mmdiffkd_pin torchvision)") headers
    if [ -n "${MMDIFFKD_TORCH:-}" ]; then
        torch=("torch==$MMDIFFKD_TORCH" torchvision)
    fi
    _mmdiffkd_look_at_machine
    echo "[setup 1/4] torch and torchvision"
    "${pip[@]}" "$(_mmdiffkd_pin setuptools)" wheel ninja psutil packaging || return 1
    _mmdiffkd_with_heartbeat "$_mmdiffkd_venv/torch.log" "${pip[@]}" "${torch[@]}" || return 1
    echo "[setup 2/4] mmcv"
    case $_mmdiffkd_mmcv in
        # mmcv's setup.py compiles with CUDA wherever torch finds a GPU.
        cpu) local -x FORCE_CUDA=0 CUDA_VISIBLE_DEVICES= ;;
        cuda) local -x FORCE_CUDA=1 ;;
        prebuilt) _mmdiffkd_require_prebuilt_mmcv || return 1 ;;
    esac
    headers=$(python -c 'import torch; print(torch.__path__[0])')/include || return 1
    if grep -qs 'C++20' "$headers/ATen/ATen.h"; then
        # torch 2.14 needs C++20, mmcv's setup.py (2.3.6) asks for C++17; the last option counts.
        # Called by its name, as CXX may have no spaces; torch knows by it that this is a compiler.
        printf '#!/bin/sh\nexec %s "$@" -std=c++20\n' "${CXX:-c++}" >"$_mmdiffkd_venv/bin/gnu-c++20"
        chmod +x "$_mmdiffkd_venv/bin/gnu-c++20"
        local -x CXX=gnu-c++20 NVCC_APPEND_FLAGS=-std=c++20
    fi
    # Without --no-build-isolation it builds without torch, that is, without its operators.
    _mmdiffkd_with_heartbeat "$_mmdiffkd_venv/mmcv.log" \
        "${pip[@]}" --no-build-isolation "$(_mmdiffkd_pin mmengine)" "$(_mmdiffkd_pin mmcv)" || return 1
    echo "[setup 3/4] mmdet, mmseg and mmpretrain"
    grep -v ^torch "$_mmdiffkd_pins" >"$_mmdiffkd_venv/hosts.txt" || return 1
    _mmdiffkd_with_heartbeat "$_mmdiffkd_venv/hosts.log" \
        "${pip[@]}" -r "$_mmdiffkd_venv/hosts.txt" || return 1
    if ! python -c 'import cv2' 2>/dev/null; then
        # The build with windows needs libGL, which servers often lack.
        local version
        version=$(python -m pip show opencv-python | sed -n 's/^Version: //p')
        "${pip[@]}" --force-reinstall --no-deps "opencv-python-headless==$version" || return 1
    fi
    python -c 'import cv2, mmcv.ops, mmdet, mmpretrain, mmseg' || return 1
}

_mmdiffkd_install_package() {
    local pip=(python -m pip install --disable-pip-version-check -q)
    echo "[setup 4/4] mmdiffkd itself and what its tests and documentation need"
    "${pip[@]}" -r "$_mmdiffkd_root/requirements/tests.txt" \
        -r "$_mmdiffkd_root/requirements/docs.txt" || return 1
    "${pip[@]}" --no-build-isolation --no-deps -e "$_mmdiffkd_root" || return 1
}

_mmdiffkd_setup() {
    local python stamp
    case $_mmdiffkd_stack in
        onedl | openmmlab) ;;
        *)
            echo "error: MMDIFFKD_STACK must be onedl or openmmlab, got '$_mmdiffkd_stack'" >&2
            return 1
            ;;
    esac
    if [ -n "$_mmdiffkd_versions" ] || ! _mmdiffkd_has_host; then
        if [ ! -x "$_mmdiffkd_venv/bin/python" ]; then
            python=$(_mmdiffkd_find_python) || return 1
            echo "[setup] new environment in $_mmdiffkd_venv"
            "$python" -m venv "$_mmdiffkd_venv" || return 1
        fi
        # shellcheck disable=SC1091
        source "$_mmdiffkd_venv/bin/activate" || return 1
    fi
    # Set up again when what is required has changed, or the source tree has moved.
    stamp=$(python -c 'import sys; print(sys.prefix)')/mmdiffkd-setup
    if [ "$(cat "$stamp" 2>/dev/null)" = "$(_mmdiffkd_requirements)" ]; then
        return 0
    fi
    if [ "$(python -c 'import sys; print(sys.prefix)')" = "$_mmdiffkd_venv" ]; then
        echo "[setup] installs into $_mmdiffkd_venv: all packages of $_mmdiffkd_pins and mmdiffkd"
        _mmdiffkd_install_stack || return 1
    else
        echo "[setup] installs into the active environment, ${stamp%/*}: mmdiffkd and the packages"
        echo "    of requirements/tests.txt and docs.txt. To stop it, press Ctrl-C now. Leave the"
        echo "    environment first to use $_mmdiffkd_venv instead; 'pip install .' adds mmdiffkd alone."
        sleep 5  # time to read and to stop
    fi
    _mmdiffkd_install_package || return 1
    _mmdiffkd_requirements >"$stamp"
    echo "[setup] done"
}

_mmdiffkd_requirements() {
    echo "$_mmdiffkd_root$_mmdiffkd_versions"
    cat "$_mmdiffkd_pins" "$_mmdiffkd_root"/requirements/{tests,docs}.txt "$_mmdiffkd_root/setup.py"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    _mmdiffkd_setup
    exit
fi
_mmdiffkd_setup
