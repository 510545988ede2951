"""A strict fake of the `tensorrt` package.

The surface (every public name of the bindings of a real version; the members of its enumerations and of the
classes modelled here) is read from `tensorrt_api/`; what is here is behaviour for the few that optkit uses. A
name that the real version lacks is an AttributeError here too; one that it has, and that is not modelled, a
NotImplementedError.
Engines are computed by ONNX Runtime on the CPU.
"""

from __future__ import annotations

import base64
import ctypes
import functools
import json
import types
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import ClassVar

import numpy as np

VERSIONS = {"10": "10.16.1.11", "11": "11.4.0.106"}
API = Path(__file__).with_name("tensorrt_api")


class Value:
    """A value of an enumeration."""

    def __init__(self, owner: str, name: str, value: int) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"{self.owner}.{self.name}"


class Strict:
    """Holds an object to the members that the real class has."""

    _members: frozenset[str] = frozenset()

    def __getattribute__(self, name: str):
        if not name.startswith("_"):
            members = type(self)._members
            if name not in members:
                raise AttributeError(f"tensorrt.{type(self).__name__} has no attribute {name!r}")
            type(self)._trt._calls[f"{type(self).__name__}.{name}"] += 1
        return object.__getattribute__(self, name)

    def __getattr__(self, name: str):
        if name not in type(self)._members:
            raise AttributeError(f"tensorrt.{type(self).__name__} has no attribute {name!r}")
        raise NotImplementedError(f"{type(self).__name__}.{name} is real, but this fake does not model it")

    def __setattr__(self, name: str, value) -> None:
        if not name.startswith("_") and name not in type(self)._members:
            raise AttributeError(f"tensorrt.{type(self).__name__} has no attribute {name!r}")
        object.__setattr__(self, name, value)


class Logger(Strict):
    def __init__(self, min_severity=None) -> None:
        self._least = min_severity


class IHostMemory(Strict):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data

    @property
    def nbytes(self) -> int:
        return len(self._data)


class ITensor(Strict):
    def __init__(self, name, shape) -> None:
        self._name, self._shape = name, shape

    name = property(lambda self: self._name)
    shape = property(lambda self: self._shape)


class INetworkDefinition(Strict):
    def __init__(self, flags: int) -> None:
        self._flags, self._onnx, self._inputs = flags, b"", []

    num_inputs = property(lambda self: len(self._inputs))

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]


class ParserError(Strict):
    def __init__(self, index, node) -> None:
        self._index, self._node = index, node

    def node(self) -> int:
        return self._index

    def node_name(self) -> str:
        return self._node.name

    def node_operator(self) -> str:
        return self._node.op_type

    def desc(self) -> str:
        return f"No importer for {self._node.domain}::{self._node.op_type}"


class OnnxParser(Strict):
    def __init__(self, network, logger) -> None:
        assert isinstance(logger, Logger)
        self._network, self._errors = network, []

    def parse_from_file(self, path: str) -> bool:
        import onnx

        model = onnx.load(path)
        weights = {t.name for t in model.graph.initializer}
        self._errors = [
            self._trt.ParserError(i, n)
            for i, n in enumerate(model.graph.node)
            if n.domain not in ("", "ai.onnx")
        ]
        if self._errors:
            return False
        self._network._onnx = model.SerializeToString()
        self._network._inputs = [
            self._trt.ITensor(i.name, tuple(d.dim_value or -1 for d in i.type.tensor_type.shape.dim))
            for i in model.graph.input
            if i.name not in weights
        ]
        return True

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> ParserError:
        return self._errors[index]


class IOptimizationProfile(Strict):
    def __init__(self) -> None:
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input, min, opt, max) -> None:
        if not all(a <= b <= c for a, b, c in zip(min, opt, max)):
            raise ValueError(f"min <= opt <= max does not hold for {input}: {min}, {opt}, {max}")
        self._shapes[input] = [tuple(min), tuple(opt), tuple(max)]


class ITimingCache(Strict):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> IHostMemory:
        return self._trt.IHostMemory(self._data)


class IBuilderConfig(Strict):
    def __init__(self) -> None:
        self._set: dict[str, object] = {}
        self._flags: list[str] = []
        self._profiles: list[IOptimizationProfile] = []
        self._cache: ITimingCache | None = None

    def set_memory_pool_limit(self, pool, size: int) -> None:
        self._set[pool.name] = size

    def set_flag(self, flag: Value) -> None:
        assert flag.owner == "BuilderFlag"
        self._flags.append(flag.name)

    def create_timing_cache(self, data: bytes) -> ITimingCache:
        return self._trt.ITimingCache(bytes(data))

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        fits = cache._data in (b"", b"timed " + self._trt.__version__.encode())
        if fits or ignore_mismatch:
            self._cache = cache
        return fits or ignore_mismatch

    def add_optimization_profile(self, profile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1


def _recorded(name: str) -> property:
    return property(
        lambda self: self._set[name],
        lambda self, value: self._set.__setitem__(name, getattr(value, "name", value)),
    )


for _name in ("builder_optimization_level", "hardware_compatibility_level", "profiling_verbosity"):
    setattr(IBuilderConfig, _name, _recorded(_name))


class Builder(Strict):
    def __init__(self, logger) -> None:
        assert isinstance(logger, Logger)
        self._logger = logger

    logger = property(lambda self: self._logger)

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        return self._trt.INetworkDefinition(flags)

    def create_builder_config(self) -> IBuilderConfig:
        return self._trt.IBuilderConfig()

    def create_optimization_profile(self) -> IOptimizationProfile:
        return self._trt.IOptimizationProfile()

    def build_serialized_network(self, network, config) -> IHostMemory | None:
        self._trt._builds.append((network, config))
        if self._trt._fail_build or not config._profiles:
            return None
        if config._cache is not None:
            config._cache._data = b"timed " + self._trt.__version__.encode()
        plan = {
            "version": self._trt.__version__,
            "flags": sorted(config._flags),
            "profiles": [p._shapes for p in config._profiles],
            "onnx": base64.b64encode(network._onnx).decode(),
        }
        return self._trt.IHostMemory(json.dumps(plan).encode())


class EngineInspector(Strict):
    def get_engine_information(self, format: Value) -> str:
        assert format.name == "JSON"
        outputs = [{"Name": "y", "Format/Datatype": "Half"}]
        kinds = ("fused attention", "gemm")
        return json.dumps({"Layers": [{"Name": k, "LayerType": k, "Outputs": outputs} for k in kinds]})


@functools.lru_cache(maxsize=8)
def _compiled(encoded: str):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(base64.b64decode(encoded), settings, ["CPUExecutionProvider"])


class ICudaEngine(Strict):
    _types: ClassVar = {"tensor(float)": "FLOAT", "tensor(int64)": "INT64", "tensor(float16)": "HALF"}

    def __init__(self, plan: dict) -> None:
        self._plan, self._session = plan, _compiled(plan["onnx"])
        self._inputs = {i.name: i for i in self._session.get_inputs()}
        self._outputs = {o.name: o for o in self._session.get_outputs()}
        self._tensors = {**self._inputs, **self._outputs}
        self._budget = 0

    num_io_tensors = property(lambda self: len(self._tensors))
    num_optimization_profiles = property(lambda self: len(self._plan["profiles"]))
    device_memory_size_v2 = property(lambda self: 4096)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Value:
        mode = self._trt.TensorIOMode
        return mode.INPUT if name in self._inputs else mode.OUTPUT

    def get_tensor_dtype(self, name: str) -> Value:
        return getattr(self._trt.DataType, self._types[self._tensors[name].type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else -1 for d in self._tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(s) for s in self._plan["profiles"][profile][name]]

    def create_execution_context(self, strategy: Value) -> IExecutionContext:
        return self._trt.IExecutionContext(self, strategy)

    def create_engine_inspector(self) -> EngineInspector:
        return self._trt.EngineInspector()

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self._budget

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, size: int) -> None:
        assert "WEIGHT_STREAMING" in self._plan["flags"]
        self._budget = size


class Runtime(Strict):
    def __init__(self, logger) -> None:
        assert isinstance(logger, Logger)
        self._host_code = False

    @property
    def engine_host_code_allowed(self) -> bool:
        return self._host_code

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, allowed: bool) -> None:
        self._host_code = allowed

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None:
        try:
            plan = json.loads(data)
        except ValueError:
            return None
        if "VERSION_COMPATIBLE" in plan["flags"] and not self._host_code:
            return None
        return self._trt.ICudaEngine(plan)


class IExecutionContext(Strict):
    def __init__(self, engine: ICudaEngine, strategy: Value) -> None:
        self._engine, self._strategy = engine, strategy
        self._profile, self._shapes, self._addresses = 0, {}, {}
        self._has_memory, self._frozen = strategy.name != "USER_MANAGED", False

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory in self._trt._machine.memory
        assert size >= 4096, "less than the engine's device_memory_size_v2"
        self._has_memory = True

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return 0 <= profile < len(self._engine._plan["profiles"])

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert not self._frozen, "a context must not change after it was captured"
        low, _, high = self._engine._plan["profiles"][self._profile][name]
        if not all(a <= s <= b for a, s, b in zip(low, shape, high)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [n for n in self._engine._inputs if n not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        batch, *more = next(iter(self._shapes.values()))
        named = [d if isinstance(d, int) else None for d in self._engine._outputs[name].shape]
        return tuple(d if d is not None else (batch, *more)[i] for i, d in enumerate(named))

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert not self._frozen, "a context must not change after it was captured"
        self._addresses[name] = memory
        return memory in self._trt._machine.memory and memory % 16 == 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        machine = self._trt._machine
        if not self._has_memory or set(self._addresses) != set(self._engine._tensors):
            return False
        self._frozen = self._frozen or stream_handle in machine.capturing
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        machine.enqueue(stream_handle, lambda: self._compute(shapes, addresses))
        return True

    def _compute(self, shapes, addresses) -> None:
        session, kinds = self._engine._session, {"tensor(int64)": np.int64, "tensor(float)": np.float32}
        feeds = {}
        for name, spec in self._engine._inputs.items():
            array = np.empty(shapes[name], kinds[spec.type])
            ctypes.memmove(array.ctypes.data, addresses[name], array.nbytes)
            feeds[name] = array
        for name, value in zip(self._engine._outputs, session.run(None, feeds)):
            block = self._trt._machine.memory[addresses[name]]
            assert value.nbytes <= block.nbytes, "an output does not fit its memory"
            ctypes.memmove(addresses[name], np.ascontiguousarray(value).ctypes.data, value.nbytes)


_BEHAVIOUR = [
    Logger,
    IHostMemory,
    ITensor,
    INetworkDefinition,
    ParserError,
    OnnxParser,
    IOptimizationProfile,
    ITimingCache,
    IBuilderConfig,
    Builder,
    EngineInspector,
    ICudaEngine,
    Runtime,
    IExecutionContext,
]


class FakeTensorRT(types.ModuleType):
    def __getattr__(self, name: str):
        if name in self.__dict__.get("_surface", {}):
            raise NotImplementedError(f"tensorrt.{name} is real, but this fake does not model it")
        raise AttributeError(f"module 'tensorrt' {self.__version__} has no attribute {name!r}")


def surface(version: str) -> dict:
    """Every public name of the real bindings, with the members that the listing holds."""
    return json.loads((API / f"{VERSIONS[version]}.json").read_text(encoding="utf-8"))


def make(version: str, machine) -> FakeTensorRT:
    """`tensorrt` of major version `version` ("10" or "11") on the GPU `machine`."""
    module = FakeTensorRT("tensorrt")
    module.__version__ = VERSIONS[version]
    module.__spec__ = ModuleSpec("tensorrt", None)
    module._surface, module._machine = surface(version), machine
    module._calls, module._builds, module._fail_build = Counter(), [], False
    for name, members in module._surface.items():
        if {"name", "value"} <= set(members):
            values = [m for m in members if m.isupper() or (m.replace("_", "").isalnum() and m[0].isupper())]
            enumeration = types.SimpleNamespace(
                **{m: Value(name, m, i) for i, m in enumerate(sorted(values))}
            )
            setattr(module, name, enumeration)
    for cls in _BEHAVIOUR:
        members = frozenset(module._surface[cls.__name__])
        made = type(cls.__name__, (cls,), {"_members": members, "_trt": module})
        if cls is Logger:
            for i, level in enumerate(("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")):
                assert level in members
                type.__setattr__(made, level, Value("Logger", level, i))
        setattr(module, cls.__name__, made)
    return module
