#!/usr/bin/env bash
# Add another library of OpenMMLab to the environment of tools/setup_env.sh, and activate it.
#
#   source tools/setup_host.sh mmrotate             # to the OneDL builds
#   source tools/setup_host.sh mmpose|mmyolo        # to the upstream builds
#
# Nothing that is installed is replaced: the library and what it imports are installed without their
# dependencies, in the versions of requirements/<library>.txt.

_mmdiffkd_add_host() {
    local root
    # For setup_env.sh alone, and not for what is set up later in the same shell.
    local -x MMDIFFKD_STACK=openmmlab
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    case ${1:-} in
        mmrotate) MMDIFFKD_STACK=onedl ;;
        mmpose | mmyolo) ;;
        *)
            echo "error: name mmrotate, mmpose or mmyolo, got '${1:-}'" >&2
            return 1
            ;;
    esac
    # shellcheck disable=SC1091
    source "$root/tools/setup_env.sh" || return 1
    python -m pip install --disable-pip-version-check -q --no-deps \
        -r "$root/requirements/$1.txt" || return 1
    if [ "$1" = mmyolo ]; then
        # It refuses mmcv 2.1, with which it works, and has had no release since.
        sed -i "s/^mmcv_maximum_version = '2.1.0'/mmcv_maximum_version = '2.2.0'/" \
            "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mmyolo/__init__.py"
    fi
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python -c "import $1.models, $1.datasets"
}

_mmdiffkd_add_host "$@"
