"""The state of a fit in Pyro as the host's loop sees it: eager steps on the parameters of the current param store."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from typing import Any

import numpy as np
import pyro
import torch
from torch.distributions import transform_to

from deepgen.inference.svi import loop, rows
from deepgen.inference.svi.pyro.elbo import ELBO
from deepgen.inference.svi.pyro.importance import IWAE
from deepgen.inference.svi.pyro.observed import CompleteGuide, ObservedModel
from deepgen.inference.svi.rows import Call
from deepgen.program.said import declared_before

Optimizer = Callable[[list[torch.Tensor]], Any]


class Trainer:
    """The `loop.Trainer` of Pyro. It is to be made and used inside one scope of the param store."""

    def __init__(
        self,
        program: Any,
        objective: Any,
        optimizer: Optimizer,
        call: Call,
        held: Call,
        *,
        learning_rate: Any,
        clip_norm: float | None,
        ema: float | None,
        batch_size: int | None,
        seed: int,
        steps: int,
        holes: bool | None = None,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.program = program
        self.per_row = not isinstance(program, tuple)
        self.model, self.guide = (program.model, program.guide) if self.per_row else program
        if holes:
            self.model = ObservedModel(self.model)
        elif holes is False and augment is None:
            self.guide = CompleteGuide(self.guide)
        # an objective that carries a state does so for this fit alone
        self.objective = deepcopy(objective) if isinstance(objective, loop.Measuring) else objective
        self.call, self.held = call, held
        self.learning_rate, self.clip_norm, self.ema = learning_rate, clip_norm, ema
        self.batch_size, self.seed, self.steps, self.step = batch_size, seed, steps, 0
        self.augment = augment

        # Parameters come to be where they are first declared; this pass also is the one that Pyro validates.
        first = call if batch_size is None else call.map(lambda array: array[:batch_size])
        first = first if augment is None else first.with_data(augment)
        with torch.no_grad():
            loop.at(self.objective, 0).loss(self.model, self.guide, *first.args, **first.kwargs)
        self.store = pyro.get_param_store()
        self.params: dict[str, torch.Tensor] = dict(self.store.named_parameters())
        self._list = list(self.params.values())
        self._scale = 1 / rows.count(first, "data") if self.per_row else 1.0
        modules = [program] if self.per_row else [fn for fn in program if isinstance(fn, torch.nn.Module)]
        self.buffers = {
            f"{i}.{name}": buffer for i, module in enumerate(modules) for name, buffer in module.named_buffers()
        }
        made = optimizer(self._list)
        self.optimizer, self.scheduler = made if isinstance(made, tuple) else (made, None)
        self.average = None if ema is None else {name: torch.zeros_like(p) for name, p in self.params.items()}
        self._epoch, self._order = -1, torch.zeros(0)

    def _batch(self) -> Call:
        if self.batch_size is None:
            return self.call
        array = next(iter(self.call.arrays().values()))
        epoch, position = divmod(self.step, len(array) // self.batch_size)
        if epoch != self._epoch:
            # drawn on the host, so that the order is the same wherever the program is
            generator = torch.Generator("cpu").manual_seed((self.seed + epoch) % 2**63)
            order = torch.randperm(len(array), generator=generator, device="cpu")
            self._epoch, self._order = epoch, order.to(array.device)
        index = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        return self.call.map(lambda array: array.index_select(0, index))

    def advance(self, count: int) -> tuple[np.ndarray, bool]:
        """See `loop.Trainer`."""
        arrays, meta = self.save()
        start = {name: array.copy() for name, array in arrays.items()}
        losses, finite = self._steps(count)
        if finite and all(bool(torch.isfinite(param).all()) for param in self._list):
            return losses, True
        # Steps look at the loss alone. Where that, or a parameter at the end, is not finite, the chunk is
        # repeated from its beginning with an eye on each gradient, to stop in the last good state.
        self.load(start, meta)
        return self._steps(count, careful=True)

    def _steps(self, count: int, *, careful: bool = False) -> tuple[np.ndarray, bool]:
        losses: list[float] = []
        with declared_before() if self.per_row else nullcontext():
            for _ in range(count):
                loss, finite = self._step(careful)
                if not finite:
                    return np.array(losses), False
                losses.append(loss)
        return np.array(losses), True

    def _step(self, careful: bool) -> tuple[float, bool]:
        batch = self._batch() if self.augment is None else self._batch().with_data(self.augment)
        params, scale = self._list, self._scale
        for param in params:
            param.grad = None
        objective = loop.at(self.objective, self.step)
        if isinstance(objective, ELBO | IWAE):
            loss = objective.differentiable_loss(self.model, self.guide, *batch.args, **batch.kwargs) * scale
            if loss.requires_grad:
                loss.backward()
            loss = loss.detach()
        else:
            loss = torch.as_tensor(
                objective.loss_and_grads(self.model, self.guide, *batch.args, **batch.kwargs) * scale
            )
            for param in params:
                if param.grad is not None and scale != 1.0:
                    param.grad.mul_(scale)
        if len(self.store) != len(self.params):
            raise ValueError(
                f"param sites {sorted(set(self.store.keys()) - set(self.params))} appeared after the first step, and "
                "the optimizer does not know them: declare every param site on every call of the model or the guide."
            )
        value = loss.item()
        if self.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(params, self.clip_norm)
        if not math.isfinite(value) or (careful and not self._finite_gradient()):
            return value, False
        if callable(self.learning_rate):
            for group in self.optimizer.param_groups:
                group["lr"] = float(self.learning_rate(self.step))
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.step += 1
        if self.average is not None and self.ema is not None:
            with torch.no_grad():
                for average, param in zip(self.average.values(), params, strict=True):
                    average.lerp_(param, 1 - self.ema)
        return value, True

    def _finite_gradient(self) -> bool:
        return all(bool(torch.isfinite(param.grad).all()) for param in self._list if param.grad is not None)

    def snapshot(self) -> dict[str, torch.Tensor]:
        """The parameters, unconstrained and averaged where EMA is on, and the modules' buffers."""
        if self.average is not None and self.ema is not None and self.step > 0:
            weight = 1 - self.ema**self.step
            params = {f"param:{name}": average / weight for name, average in self.average.items()}
        else:
            params = {f"param:{name}": param.detach().clone() for name, param in self.params.items()}
        return params | {f"buffer:{name}": buffer.clone() for name, buffer in self.buffers.items()}

    def _show(self, snapshot: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in snapshot.items():
                kind, name = name.split(":", 1)
                (self.params if kind == "param" else self.buffers)[name].copy_(tensor)

    def evaluate(self, snapshot: dict[str, torch.Tensor]) -> float:
        """See `loop.Trainer`."""
        here = {f"param:{name}": param.detach().clone() for name, param in self.params.items()}
        here |= {f"buffer:{name}": buffer.clone() for name, buffer in self.buffers.items()}
        total, objective = 0.0, loop.at(loop.judging(self.objective), self.steps)
        count = rows.count(self.held, "validation") if self.per_row else 1
        size = max(self.batch_size or 0, 512)
        devices = {param.device for param in self.params.values() if param.is_cuda}
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(self.seed)
            self._show(snapshot)
            for start in range(0, count, size) if self.per_row else [0]:
                piece = self._piece(start, size) if self.per_row else self.held
                total += float(objective.loss(self.model, self.guide, *piece.args, **piece.kwargs))
            self._show(here)
        return total / count

    def _piece(self, start: int, size: int) -> Call:
        return self.held.map(lambda array: array[start : start + size])

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The state; the order of the rows is a function of the seed and the step."""
        tensors = {f"param:{name}": param for name, param in self.params.items()}
        tensors |= {f"buffer:{name}": buffer for name, buffer in self.buffers.items()}
        tensors |= {f"average:{name}": average for name, average in (self.average or {}).items()}
        tensors |= {f"objective:{name}": value for name, value in self._state().items()}
        tensors["rng"] = torch.get_rng_state()
        for device in sorted({str(param.device) for param in self.params.values() if param.is_cuda}):
            tensors[f"rng:{device}"] = torch.cuda.get_rng_state(device)
        meta = {
            "step": self.step,
            "seed": self.seed,
            "optimizer": _flatten(self.optimizer.state_dict(), "optimizer", tensors),
            "scheduler": None
            if self.scheduler is None
            else _flatten(self.scheduler.state_dict(), "scheduler", tensors),
        }
        return self.pack(tensors), meta

    def load(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Take up the state that `save` gave."""
        tensors = self.unpack(arrays)
        self._show({name: tensor for name, tensor in tensors.items() if name.startswith(("param:", "buffer:"))})
        for name, average in (self.average or {}).items():
            average.copy_(tensors[f"average:{name}"])
        if isinstance(self.objective, loop.Measuring):
            held = {name: tensor for name, tensor in tensors.items() if name.startswith("objective:")}
            device = self._list[0].device
            own: Any = self.objective
            own.state = {name.removeprefix("objective:"): tensor.to(device) for name, tensor in held.items()}
        self.step, self.seed = meta["step"], meta["seed"]
        self.optimizer.load_state_dict(_restore(meta["optimizer"], tensors))
        if self.scheduler is not None:
            self.scheduler.load_state_dict(_restore(meta["scheduler"], tensors))
        torch.set_rng_state(tensors["rng"])
        for name, tensor in tensors.items():
            if name.startswith("rng:"):
                torch.cuda.set_rng_state(tensor, name.removeprefix("rng:"))

    def pack(self, snapshot: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """Tensors as arrays; NumPy has no bfloat16, whose values float32 holds exactly."""
        widened = {
            name: tensor.float() if tensor.dtype == torch.bfloat16 else tensor for name, tensor in snapshot.items()
        }
        return {name: tensor.detach().cpu().numpy() for name, tensor in widened.items()}

    def unpack(self, arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """The snapshot that `pack` gave."""
        return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}

    def diagnostics(self) -> dict[str, float]:
        """See `loop.Trainer`."""
        if not isinstance(self.objective, loop.Measuring):
            return {}
        return {name: float(value) for name, value in self.objective.diagnostics(self._state()).items()}

    def _state(self) -> dict[str, torch.Tensor]:
        """What the objective carries from step to step."""
        own: Any = self.objective
        return own.state if isinstance(self.objective, loop.Measuring) else {}

    def result(self, snapshot: dict[str, torch.Tensor]) -> tuple[Any, dict[str, Any]]:
        """The trained program, or the pair within a param store of its own, and the constrained parameters."""
        self._show(snapshot)
        state = self.store.get_state()
        params = {
            name: transform_to(state["constraints"][name])(param).detach().clone()
            for name, param in state["params"].items()
        }
        return self.program if self.per_row else tuple(_within(fn, state) for fn in self.program), params


def _within(fn: Callable[..., Any], state: Any) -> Callable[..., Any]:
    def trained(*args: Any, **kwargs: Any) -> Any:
        with pyro.get_param_store().scope({key: dict(value) for key, value in state.items()}):  # type: ignore[arg-type]
            return fn(*args, **kwargs)

    return trained


def _flatten(tree: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """The tree as JSON, its tensors moved to ``tensors``. A dictionary is a list of pairs: its keys may be numbers."""
    if isinstance(tree, torch.Tensor):
        tensors[name] = tree
        return {"tensor": name}
    if isinstance(tree, dict):
        return {"dict": [[key, _flatten(value, f"{name}.{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_flatten(value, f"{name}.{i}", tensors) for i, value in enumerate(tree)]
    return tree


def _restore(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, dict):
        if "tensor" in tree:
            return tensors[tree["tensor"]]
        return {key: _restore(value, tensors) for key, value in tree["dict"]}
    return [_restore(value, tensors) for value in tree] if isinstance(tree, list) else tree
