#!/usr/bin/env bash
# Set up all that mmdiffkd needs, once.
#
#   source tools/setup_env.sh     # sets up if needed and activates the environment
#   bash tools/setup_env.sh       # sets up only
#
# An active environment that has mmdet, mmseg or mmpretrain is used as it is (mmdiffkd and what its
# tests and documentation need are added to it). Otherwise `.venv` in the source tree is made, or
# reused; MMDIFFKD_VENV names another place. Needs Python 3.10 or newer with venv and pip, and a
# C++ compiler.
#
# MMDIFFKD_STACK=openmmlab asks for the upstream builds (requirements/openmmlab.txt) in the place of
# the OneDL builds (requirements/onedl.txt). They have the same import names, so they have an
# environment of their own, `.venv-openmmlab`; an active one is used only if it has these builds.

_mmdiffkd_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
_mmdiffkd_stack=${MMDIFFKD_STACK:-onedl}
_mmdiffkd_pins=$_mmdiffkd_root/requirements/$_mmdiffkd_stack.txt
_mmdiffkd_venv=$_mmdiffkd_root/.venv
if [ "$_mmdiffkd_stack" != onedl ]; then
    _mmdiffkd_venv+=-$_mmdiffkd_stack
fi
_mmdiffkd_venv=${MMDIFFKD_VENV:-$_mmdiffkd_venv}

_mmdiffkd_find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.10 python3 python; do
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

_mmdiffkd_install_stack() {
    local pip=(python -m pip install --disable-pip-version-check -q)
    echo "[setup 1/4] torch and torchvision (several GB, a few minutes)"
    "${pip[@]}" "$(_mmdiffkd_pin setuptools)" wheel ninja psutil packaging || return 1
    _mmdiffkd_with_heartbeat "$_mmdiffkd_venv/torch.log" \
        "${pip[@]}" "$(_mmdiffkd_pin torch)" "$(_mmdiffkd_pin torchvision)" || return 1
    echo "[setup 2/4] mmcv, compiled from source (5 to 15 minutes on two cores, once)"
    # Without --no-build-isolation it builds without torch, that is, without its operators.
    _mmdiffkd_with_heartbeat "$_mmdiffkd_venv/mmcv.log" \
        "${pip[@]}" --no-build-isolation "$(_mmdiffkd_pin mmengine)" "$(_mmdiffkd_pin mmcv)" || return 1
    echo "[setup 3/4] mmdet, mmseg and mmpretrain"
    _mmdiffkd_with_heartbeat "$_mmdiffkd_venv/hosts.log" \
        "${pip[@]}" -r "$_mmdiffkd_pins" || return 1
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
    if ! _mmdiffkd_has_host; then
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
    echo "$_mmdiffkd_root"
    cat "$_mmdiffkd_pins" "$_mmdiffkd_root"/requirements/{tests,docs}.txt "$_mmdiffkd_root/setup.py"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    _mmdiffkd_setup
    exit
fi
_mmdiffkd_setup
