"""The recipe of a build: every setting of the methods it uses, those of its effort and what was put in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgeq.config.build import BuildConfig
from edgeq.config.recipe import laid_over, recipe_tables, replaced, tables
from edgeq.errors import ConflictError
from edgeq.finetune.settings import Settings, settings_for
from edgeq.graph.ir import Graph
from edgeq.quant.rounding import COMPENSATED
from edgeq.quant.scheme import Scheme
from edgeq.registry import nearest
from edgeq.synth.base import RECIPES, SYNTHESIZERS, settled, shares

__all__ = ["Tables", "synthesis_recipe", "tuning_settings", "whole_recipe"]

Tables = Mapping[str, Mapping[str, Any]]
"""Settings by method and name."""


def synthesis_recipe(method: str, config: BuildConfig) -> Tables:
    """What stands in place of an effort's settings of `method`, a synthesizer or several joined: what `config` says,
    and what the method asks for where weights have few bits."""
    list(SYNTHESIZERS)  # the modules that add to RECIPES are imported on first use
    given, result = tables(config.recipe), {}
    few = Scheme.of(config.bits, layers=config.layer_bits).fewest_weights <= COMPENSATED
    for part, _ in shares(config.images, method):
        if part in RECIPES:
            below = RECIPES[part].few_bits(config.effort) if few else {}
            result[part] = laid_over(below, given.get(part, {}))
    return {part: table for part, table in result.items() if table}


def tuning_settings(tuning: str, config: BuildConfig, graph: Graph) -> Settings:
    """How `tuning`, a method of fine-tuning, is set for an optimised `graph`. Raises `ConfigError`."""
    base = dataclasses.replace(settings_for(tuning, config.effort, graph), precision=config.precision)
    return replaced(base, tables(config.recipe).get(tuning, {}), f"recipe {tuning}")


def whole_recipe(config: BuildConfig, method: str, tuning: str, graph: Graph) -> dict[str, dict[str, Any]]:
    """Every setting of the synthesizer `method` and of `tuning` ("" for none), by method.

    Raises `ConfigError` where `config` names a setting that there is none of, a value that is none, or a method that
    this build does not use.
    """
    given, parts = tables(config.recipe), synthesis_recipe(method, config)
    used = [part for part, _ in shares(config.images, method) if part in RECIPES]
    whole = {part: recipe_tables(settled(part, config.effort, parts)) for part in used}
    if tuning:
        whole[tuning] = recipe_tables(tuning_settings(tuning, config, graph))
        del whole[tuning]["method"], whole[tuning]["precision"]  # --finetune and --precision
    for name in given:
        if name not in whole:
            raise ConflictError(
                f"recipe {name}",
                why=f"this build uses {' and '.join(whole) or f'{method}, which has no settings'}",
                hint=nearest(name, list(whole)) if whole else "leave it out",
            )
    return whole
