"""Settings: TOML file, then FMEDGE_* environment, then flags, into frozen Structs.

Nothing else in fmedge reads the environment.
"""

from fmedge.config.load import history_file, load_config, unknown_variables
from fmedge.config.settings import (
    ClientConfig,
    Config,
    ModelConfig,
    ServerConfig,
    Setting,
    settings,
)

__all__ = [
    "ClientConfig",
    "Config",
    "ModelConfig",
    "ServerConfig",
    "Setting",
    "history_file",
    "load_config",
    "settings",
    "unknown_variables",
]
