"""A user's prices: YAML lines `device: price of one hour`, in whatever currency the user counts. We know no prices."""

from __future__ import annotations

import math
from pathlib import Path

from dpn_platform.config.errors import ConfigError
from dpn_platform.config.yaml_text import parse_yaml


def price_per_hour(path: Path, device: str) -> float:
    """What the file says one hour of `device` costs; upper and lower case are the same.

    Raises:
        ConfigError: no such file, not `device: price` lines, a price that is none, or another device's prices only.
    """
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise ConfigError(f"{path}: {reason}") from None
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{path}: write one `device: price per hour` per line, for example `{device}: 2.50`")
    for name, price in values.items():
        is_number = isinstance(price, int | float) and not isinstance(price, bool)
        if not is_number or not math.isfinite(price) or price < 0:
            raise ConfigError(f"{path}: {name}: {price!r} is no price; allowed: a number from 0 up, per hour")
    prices = {str(name).lower(): float(price) for name, price in values.items()}
    if device.lower() not in prices:
        raise ConfigError(f"{path}: no price of device '{device}'; it has: {', '.join(map(str, values))}")
    return prices[device.lower()]
