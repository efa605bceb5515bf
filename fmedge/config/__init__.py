"""Settings: TOML file, then FMEDGE_* environment, then flags, into frozen Structs.

Nothing else in fmedge reads the environment.
"""

from fmedge.config.cross import check_engine, check_replica, names_of, not_served
from fmedge.config.fixed import keep_fixed
from fmedge.config.load import load_config, unknown_variables
from fmedge.config.places import history_file, state_dir
from fmedge.config.promises import MAX_NAME_LENGTH, SlaConfig, WorkflowConfig
from fmedge.config.settings import (
    EMBEDDED,
    ClientConfig,
    Config,
    ModelConfig,
    ReplicaConfig,
    ServerConfig,
    Setting,
    settings,
)
from fmedge.config.values import nearest

__all__ = [
    "EMBEDDED",
    "MAX_NAME_LENGTH",
    "ClientConfig",
    "Config",
    "ModelConfig",
    "ReplicaConfig",
    "ServerConfig",
    "Setting",
    "SlaConfig",
    "WorkflowConfig",
    "check_engine",
    "check_replica",
    "history_file",
    "keep_fixed",
    "load_config",
    "names_of",
    "nearest",
    "not_served",
    "settings",
    "state_dir",
    "unknown_variables",
]
