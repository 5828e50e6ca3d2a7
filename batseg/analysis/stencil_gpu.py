"""The stencil of `stencil.py` on a GPU: the same operations in torch, for the large levels of the grid."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad

from batseg.analysis.stencil import Stencil, face_table

CPU_BELOW = 64**3
"""Levels up to this many cells are handled on the CPU, where starting a kernel costs nothing."""

INNER = (slice(1, -1),) * 3


def gpu_available() -> bool:
    return torch.cuda.is_available()


@dataclass(frozen=True)
class GpuStencil:
    """See `Stencil`; arrays are torch tensors on one device."""

    wz: torch.Tensor
    wy: torch.Tensor
    wx: torch.Tensor
    inverse_diagonal: torch.Tensor
    even: torch.Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(self.inverse_diagonal.shape)

    def field(self, double: bool = False) -> torch.Tensor:
        dtype = torch.float64 if double else torch.float32
        return torch.zeros([length + 2 for length in self.shape], dtype=dtype, device=self.wz.device)

    def fill(self, field: torch.Tensor, values: np.ndarray) -> None:
        field[INNER] = torch.as_tensor(values, device=field.device, dtype=field.dtype)

    def on_cpu(self, field: torch.Tensor) -> np.ndarray:
        return field.cpu().numpy()

    def apply(self, field: torch.Tensor, out: torch.Tensor) -> float:
        out[INNER] = self._outflow(field)
        return self.dot(field, out)

    def smooth(
        self, field: torch.Tensor, right: torch.Tensor, colours: tuple[int, int], from_zero: bool = False
    ) -> None:
        for step, colour in enumerate(colours):
            total = right[INNER].clone()
            if not (from_zero and step == 0):
                total += self._neighbours(field)
            total *= self.inverse_diagonal
            chosen = self.even if colour == 0 else ~self.even
            torch.where(chosen, total, field[INNER], out=total)
            field[INNER] = total

    def restrict_residual(self, field: torch.Tensor, right: torch.Tensor, coarse) -> None:
        summed = _block_sums(right[INNER] - self._outflow(field))
        coarse[INNER] = summed.cpu().numpy() if isinstance(coarse, np.ndarray) else summed

    def prolong(self, coarse, field: torch.Tensor) -> None:
        values = torch.as_tensor(coarse[INNER], device=field.device)
        for axis in range(3):
            values = values.repeat_interleave(2, axis).narrow(axis, 0, self.shape[axis])
        field[INNER] += values * (self.inverse_diagonal > 0)

    def dot(self, first: torch.Tensor, second: torch.Tensor) -> float:
        return float(torch.sum(first * second, dtype=torch.float64))

    def step(self, solution, residual, direction, applied, length: float) -> None:
        solution.add_(direction, alpha=length)
        residual.sub_(applied, alpha=length)

    def turn(self, direction: torch.Tensor, preconditioned: torch.Tensor, factor: float) -> None:
        direction.mul_(factor).add_(preconditioned)

    def fluxes(self, field: torch.Tensor, high: float = 1.0, low: float = 0.0) -> np.ndarray:
        columns = field[:, 1:-1, 1:-1].clone()
        columns[0], columns[-1] = high, low
        return torch.sum(self.wz * (columns[:-1] - columns[1:]), dim=(1, 2), dtype=torch.float64).cpu().numpy()

    def entering(self, field: torch.Tensor) -> float:
        return float(torch.sum(self.wz[0] * field[1, 1:-1, 1:-1], dtype=torch.float64))

    def coarsen(self):
        """As `Stencil.coarsen`; on the CPU where the blocks are few."""
        depth = self.shape[0]
        planes = [*range(0, depth, 2), depth]
        wz = torch.stack([_block_sums(self.wz[plane][None])[0] for plane in planes])
        wy = _block_sums(_ends(self.wy, 1), (0, 2))
        wx = _block_sums(_ends(self.wx, 2), (0, 1))
        if wy.shape[0] * wz.shape[1] * wz.shape[2] <= CPU_BELOW:
            return Stencil.of_faces(*(np.ascontiguousarray(faces.cpu().numpy()) for faces in (wz, wy, wx)))
        return gpu_stencil(wz, wy, wx)

    def _outflow(self, field: torch.Tensor) -> torch.Tensor:
        """A field, by differences: what leaves a cell enters its neighbour to the last digit."""
        here = field[INNER]
        total = self.wz[:-1] * (here - field[:-2, 1:-1, 1:-1])
        total += self.wz[1:] * (here - field[2:, 1:-1, 1:-1])
        total += self.wy[:, :-1] * (here - field[1:-1, :-2, 1:-1])
        total += self.wy[:, 1:] * (here - field[1:-1, 2:, 1:-1])
        total += self.wx[..., :-1] * (here - field[1:-1, 1:-1, :-2])
        total += self.wx[..., 1:] * (here - field[1:-1, 1:-1, 2:])
        return total

    def _neighbours(self, field: torch.Tensor) -> torch.Tensor:
        total = self.wz[:-1] * field[:-2, 1:-1, 1:-1]
        total += self.wz[1:] * field[2:, 1:-1, 1:-1]
        total += self.wy[:, :-1] * field[1:-1, :-2, 1:-1]
        total += self.wy[:, 1:] * field[1:-1, 2:, 1:-1]
        total += self.wx[..., :-1] * field[1:-1, 1:-1, :-2]
        total += self.wx[..., 1:] * field[1:-1, 1:-1, 2:]
        return total


def gpu_stencil(wz: torch.Tensor, wy: torch.Tensor, wx: torch.Tensor) -> GpuStencil:
    """A stencil from its face conductances."""
    total = wz[:-1] + wz[1:] + wy[:, :-1] + wy[:, 1:] + wx[..., :-1] + wx[..., 1:]
    inverse = torch.where(total > 0, 1 / total, 0.0)
    z, y, x = (torch.arange(length, device=wz.device) for length in inverse.shape)
    even = (z[:, None, None] + y[:, None] + x) % 2 == 0
    return GpuStencil(wz.contiguous(), wy.contiguous(), wx.contiguous(), inverse, even)


def gpu_stencil_of_codes(codes: np.ndarray, conductivity: np.ndarray, device: str) -> GpuStencil:
    """See `stencil_of_codes`."""
    table = torch.as_tensor(face_table(conductivity), device=device)
    given = torch.as_tensor(np.asarray(conductivity, np.float32), device=device)
    placed = torch.as_tensor(codes, device=device).int()
    wz = pad(table[placed[:-1], placed[1:]], (0, 0, 0, 0, 1, 1))
    wz[0], wz[-1] = 2 * given[placed[0]], 2 * given[placed[-1]]
    wy = pad(table[placed[:, :-1], placed[:, 1:]], (0, 0, 1, 1))
    wx = pad(table[placed[..., :-1], placed[..., 1:]], (1, 1))
    return gpu_stencil(wz, wy, wx)


def _ends(faces: torch.Tensor, axis: int) -> torch.Tensor:
    """The faces between blocks of two cells: every second one, and the last."""
    count = faces.shape[axis] - 1
    return faces.index_select(axis, torch.tensor([*range(0, count, 2), count], device=faces.device))


def _block_sums(values: torch.Tensor, axes: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    """Sums over blocks of two along each axis given; an odd one out is a block of its own."""
    for axis in axes:
        if values.shape[axis] == 1:
            continue
        odd = values.shape[axis] % 2
        widths = [0, 0] * (2 - axis) + [0, odd]
        values = pad(values, widths) if odd else values
        values = values.unflatten(axis, (-1, 2)).sum(axis + 1)
    return values
