"""From a network and a configuration to a plan."""

from __future__ import annotations

from typing import Any, ClassVar

from tests.support.fake_tensorrt.network import NetworkDefinition, OptimizationProfile
from tests.support.fake_tensorrt.plan import HostMemory, packed
from tests.support.fake_tensorrt.version import Fake, MemoryPoolType, Severity, a_logger

_TIMINGS = b"FAKE TIMINGS "


class TimingCache:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self) -> HostMemory:
        return HostMemory(self.data)


class BuilderConfig:
    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self.flags = {fake.BuilderFlag["TF32"]}
        self.profiles: list[OptimizationProfile] = []
        self.pools: dict[MemoryPoolType, int] = {}
        self.timings: TimingCache | None = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(self._fake.BuilderFlag(flag))

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(self._fake.BuilderFlag(flag))

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[MemoryPoolType(pool)] = int(pool_size)

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> TimingCache:
        data = bytes(memoryview(serialized_timing_cache))
        if data and not data.startswith(_TIMINGS + self._fake.version.encode()):
            raise AssertionError("TensorRT was given timings that are not its own")
        return TimingCache(data)

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if not isinstance(cache, TimingCache):
            raise TypeError("cache must be an ITimingCache")
        if cache.data and not cache.data.endswith(f" {self._fake.gpu.driver}".encode()):
            return False
        self.timings = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.timings


class Builder:
    fake: ClassVar[Fake]

    def __init__(self, logger: Any) -> None:
        self._logger = a_logger(logger)

    def create_network(self, flags: int = 0) -> NetworkDefinition:
        known = sum(1 << int(flag) for flag in self.fake.NetworkDefinitionCreationFlag)
        if flags & ~known:
            raise AssertionError(f"flags {flags:b} are unknown to TensorRT {self.fake.version}")
        return NetworkDefinition(self.fake, flags, self._logger)

    def create_builder_config(self) -> BuilderConfig:
        return BuilderConfig(self.fake)

    def create_optimization_profile(self) -> OptimizationProfile:
        return OptimizationProfile()

    def build_serialized_network(
        self, network: NetworkDefinition, config: BuilderConfig
    ) -> HostMemory | None:
        fake = self.fake
        problem = _problem(fake, network, config)
        if problem is not None:
            self._logger.log(Severity.ERROR, problem)
            return None
        fake.gpu.builds += 1
        timings = config.timings.data if config.timings is not None else b""
        if config.timings is not None:
            config.timings.data = timings or _TIMINGS + f"{fake.version} {fake.gpu.driver}".encode()
        head = {
            "version": fake.version,
            "gpu": fake.gpu.name,
            "driver": fake.gpu.driver,
            "profiles": [profile.shapes for profile in config.profiles],
            "flags": sorted(flag.name for flag in config.flags),
            "workspace": config.pools.get(MemoryPoolType.WORKSPACE),
            "knew_timings": bool(timings),
            "pinned": {layer.name: layer.pinned.name for layer in network.layers if layer.pinned},
        }
        return packed(head, network.model.SerializeToString())


def _problem(fake: Fake, network: NetworkDefinition, config: BuilderConfig) -> str | None:
    """Why no plan can be built of it, as TensorRT says that; None where one can."""
    if network.model is None:
        return "Error Code 4: Network must have at least one output"
    if network.parser() is None:
        return "Error Code 1: weights were freed before the network was built"
    if fake.gpu.out_of_memory_at_build:
        return "Error Code 2: OutOfMemory (Requested size was 8589934592 bytes.)"
    weak = {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}
    if fake.strongly_typed(network.flags) and weak & {flag.name for flag in config.flags}:
        return "Error Code 4: precision flags are not allowed in a strongly typed network"
    if not config.profiles:
        return "Error Code 4: Network has dynamic inputs, but no optimization profile has been defined"
    for profile in config.profiles:
        for tensor in network.inputs:
            if tensor.name not in profile.shapes:
                return f"Error Code 4: {tensor.name} has no shape in a profile"
            for shape in profile.shapes[tensor.name]:
                if any(want not in (-1, got) for want, got in zip(tensor.shape, shape, strict=True)):
                    return f"Error Code 4: {tensor.name} cannot be {shape}"
    return None
