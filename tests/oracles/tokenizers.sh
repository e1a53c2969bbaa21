#!/usr/bin/env bash
# tokenizers.sh DIR [ARGUMENT...] - huggingface_tokenizers.py in a Python environment that has what it needs.
#
# Where ORACLE_PYTHON (python3) lacks the packages, they are installed into a virtual environment in DIR, once. Where
# that cannot be done, for want of a network, nothing is compared, and that is said.
set -u
here=$(dirname "$0")
folder=$1
shift
python=${ORACLE_PYTHON:-python3}
if ! "$python" -c 'import tokenizers, sentencepiece' 2>/dev/null; then
    if ! "$folder/bin/python" -c 'import tokenizers, sentencepiece' 2>/dev/null; then
        "$python" -m venv "$folder" && "$folder/bin/pip" install --quiet tokenizers sentencepiece || {
            echo "skipped: the Python packages tokenizers and sentencepiece cannot be installed"
            exit 0
        }
    fi
    python=$folder/bin/python
fi
exec "$python" "$here/huggingface_tokenizers.py" "$@"
