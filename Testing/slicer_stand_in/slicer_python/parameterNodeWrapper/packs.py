"""Groups of parameters."""

from typing import Any

from .storage import parametersOf


def parameterPack(cls: type | None = None) -> Any:
    """Class decorator: members are the annotations, values are checked, and ``getValue("member")`` works."""
    if cls is None:
        return parameterPack
    parameters = parametersOf(cls)
    cls.allParameters = parameters
    cls.__init__, cls.__setattr__, cls.__eq__, cls.__hash__ = _init, _setattr, _eq, None
    cls.__repr__ = lambda self: f"{cls.__name__}({', '.join(f'{n}={self.getValue(n)!r}' for n in parameters)})"
    cls.getValue = lambda self, name: getattr(self, name)
    cls.setValue = lambda self, name, value: setattr(self, name, value)
    cls.dataType = staticmethod(lambda name: parameters[name].unalteredType)
    return cls


def _init(self: Any, *values: Any, **named: Any) -> None:
    object.__setattr__(self, "_onChanged", lambda: None)
    names = list(self.allParameters)
    given = {**dict(zip(names, values, strict=False)), **named}
    if len(values) > len(names) or set(given) - set(names):
        raise ValueError(f"{type(self).__name__} has the members {names}")
    for name, parameter in self.allParameters.items():
        setattr(self, name, given.get(name, parameter.default.value))


def _setattr(self: Any, name: str, value: Any) -> None:
    if name not in self.allParameters:
        raise AttributeError(f"{type(self).__name__} has no member {name}")
    self.allParameters[name].stored.check(value)
    object.__setattr__(self, name, value)
    self._onChanged()


def _eq(self: Any, other: object) -> bool:
    same = type(self) is type(other)
    return same and all(self.getValue(name) == other.getValue(name) for name in self.allParameters)
