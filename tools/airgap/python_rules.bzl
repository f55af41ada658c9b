"""py_binary and py_test of the air-gapped lane: programs that see no package but those they declare.

The rules of rules_python are not there to be loaded: @rules_python is made of this file.
"""

_DECLARED_ONLY = ["@//tools/airgap:declared_only"]

# buildifier: disable=native-py
def py_binary(deps = [], **kwargs):
    native.py_binary(deps = deps + _DECLARED_ONLY, **kwargs)

# buildifier: disable=native-py
def py_test(deps = [], **kwargs):
    native.py_test(deps = deps + _DECLARED_ONLY, **kwargs)
