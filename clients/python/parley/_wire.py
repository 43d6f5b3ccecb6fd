"""The contract's generated messages, in one place for the rest of the package."""

from __future__ import annotations

try:
    from parley.policy.v1 import auth_pb2, channel_pb2, common_pb2, connection_pb2, login_pb2
    from parley.policy.v1 import policy_pb2
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("parley.policy"):
        raise
    raise ModuleNotFoundError(
        "The contract's Python code has not been generated: run clients/python/generate.py and put "
        "its output folder (build/python) on PYTHONPATH, or install the package with pip",
        name=error.name,
    ) from None

SERVICE = policy_pb2.DESCRIPTOR.services_by_name["Policy"]


def message_class(descriptor):
    """The Python class of a message descriptor. Our five modules hold every message of the contract."""
    for module in (auth_pb2, channel_pb2, common_pb2, connection_pb2, login_pb2):
        if descriptor.file is module.DESCRIPTOR:
            return getattr(module, descriptor.name)
    raise LookupError(descriptor.full_name)
