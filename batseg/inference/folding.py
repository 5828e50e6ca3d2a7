"""Batch norm folded into the convolution before it: the same numbers with one pass over memory less."""

import copy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CONVOLUTIONS = (nn.Conv3d, nn.ConvTranspose3d)


def fold_batch_norm(network: nn.Module, probe: torch.Tensor, tolerance: float = 1e-3) -> nn.Module:
    """A copy of the network (eval mode) whose batch norms are folded into their convolutions, or the network itself.

    Which norm follows which convolution is seen by running `probe` (b, channel, thin, a, b). The network itself comes
    back where its layers cannot be told apart this way or where the copy's logits differ by more than `tolerance`.
    """
    folded = copy.deepcopy(network)
    names = {module: name for name, module in folded.named_modules()}
    made: dict[int, tuple[nn.Module, torch.Tensor]] = {}  # the output is held so that its id stays unique
    pairs: list[tuple[nn.Module, nn.Module]] = []

    def note_output(layer, _inputs, output):
        made[id(output)] = (layer, output)

    def note_pair(layer, inputs, _output):
        if id(inputs[0]) in made:
            pairs.append((made[id(inputs[0])][0], layer))

    hooks = []
    for module in folded.modules():
        if isinstance(module, CONVOLUTIONS):
            hooks.append(module.register_forward_hook(note_output))
        elif isinstance(module, nn.BatchNorm3d):
            hooks.append(module.register_forward_hook(note_pair))
    with torch.no_grad():
        folded(probe)
        for hook in hooks:
            hook.remove()
        if len({id(layer) for pair in pairs for layer in pair}) < 2 * len(pairs):
            return network  # a layer is used twice
        for convolution, norm in pairs:
            transposed = isinstance(convolution, nn.ConvTranspose3d)
            _replace(folded, names[convolution], fuse_conv_bn_eval(convolution, norm, transpose=transposed))
            _replace(folded, names[norm], nn.Identity())
        difference = (first_logits(folded(probe)) - first_logits(network(probe))).abs().max()
    return folded if difference <= tolerance else network


def first_logits(output: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Logits at full resolution, also of a network that returns several."""
    return output[0] if isinstance(output, (list, tuple)) else output


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)
