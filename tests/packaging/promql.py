"""What a PromQL expression asks of the metrics that exist: names, labels, buckets, and whether both
sides of an operator carry the same labels, without which it is silently empty."""

from __future__ import annotations

from collections.abc import Mapping

import promql_parser as promql

OF_TARGET = frozenset({"job", "instance"})
"""Prometheus adds them to whatever it scrapes."""
SYNTHETIC = {"up": frozenset[str](), "ALERTS": frozenset({"alertname", "alertstate"})}
GRAFANA = {"$__rate_interval": "5m", "$__range": "6h"}

Samples = Mapping[str, list[dict[str, str]]]
"""The labels of a server's samples, by name."""


class QueryError(AssertionError):
    """A query that would show nothing."""


def labels_of(query: str, samples: Samples) -> frozenset[str]:
    """The labels of the query's result. QueryError for what no server exports."""
    for word, value in GRAFANA.items():
        query = query.replace(word, value)
    try:
        expression = promql.parse(query)
    except ValueError as error:
        raise QueryError(f"{query}: {error}") from error
    labels = _labels(expression, samples)
    if labels is None:
        raise QueryError(f"{query}: a constant")
    return labels


def _labels(node: promql.Expr, samples: Samples) -> frozenset[str] | None:
    """None: a scalar or a string."""
    match node:
        case promql.VectorSelector():
            return _selected(node, samples)
        case promql.MatrixSelector():
            return _selected(node.vector_selector, samples)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            return _labels(node.expr, samples)
        case promql.NumberLiteral() | promql.StringLiteral():
            return None
        case promql.Call():
            (found,) = [
                labels for arg in node.args if (labels := _labels(arg, samples)) is not None
            ]
            if node.func.name == "histogram_quantile":
                _demand({"le"}, found, node)
                return found - {"le"}
            return found
        case promql.AggregateExpr():
            inner = _labels(node.expr, samples)
            assert inner is not None
            if node.modifier is None:
                return frozenset()
            named = frozenset(node.modifier.labels)
            _demand(named, inner, node)
            return named if node.modifier.type == promql.AggModifierType.By else inner - named
        case promql.BinaryExpr():
            return _joined(node, samples)
    raise QueryError(f"{node}: not understood here")


def _joined(node: promql.BinaryExpr, samples: Samples) -> frozenset[str] | None:
    left, right = _labels(node.lhs, samples), _labels(node.rhs, samples)
    if left is None or right is None:
        return left if right is None else right
    matching = None if node.modifier is None else node.modifier.matching
    if matching is not None:
        raise QueryError(f"{node}: `on` and `ignoring` are not understood here")
    if left != right:
        raise QueryError(f"{node}: {sorted(left)} never equal {sorted(right)}")
    return left


def _selected(selector: promql.VectorSelector, samples: Samples) -> frozenset[str]:
    name = selector.name or ""
    if name in SYNTHETIC:
        return SYNTHETIC[name] | OF_TARGET
    if not samples.get(name):
        raise QueryError(f"{selector}: no server exports {name}")
    labels = frozenset(samples[name][0])
    for matcher in selector.matchers.matchers:
        _demand({matcher.name}, labels | OF_TARGET, selector)
        is_exact = matcher.op == promql.MatchOp.Equal and matcher.name not in OF_TARGET
        values = {sample.get(matcher.name) for sample in samples[name]}
        if is_exact and matcher.value not in values:
            raise QueryError(f"{selector}: {matcher.name} is one of {sorted(map(str, values))}")
    return labels | OF_TARGET


def _demand(wanted: set[str] | frozenset[str], there: frozenset[str], node: promql.Expr) -> None:
    if missing := wanted - there:
        raise QueryError(
            f"{node}: no label {', '.join(sorted(missing))}; there are {sorted(there)}"
        )
