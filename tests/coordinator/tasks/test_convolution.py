import pytest
import torch
from torch import nn

from coordinator.tasks.convolution import ChannelsLastConv2d


@pytest.mark.parametrize(("channels", "stride", "padding"), [(1, 1, 0), (3, 2, 1), (16, 1, 1)])
def test_values_and_gradients_are_those_of_the_usual_convolution(channels: int, stride: int, padding: int) -> None:
    torch.manual_seed(0)
    usual = nn.Conv2d(channels, 8, 3, stride, padding)
    ours = ChannelsLastConv2d(channels, 8, 3, stride, padding)
    ours.load_state_dict(usual.state_dict())
    x = torch.randn(5, channels, 9, 9)
    for convolution in (usual, ours):
        torch.autograd.backward(convolution(x).square().mean())
    torch.testing.assert_close(ours(x), usual(x))
    torch.testing.assert_close([part.grad for part in ours.parameters()], [part.grad for part in usual.parameters()])


def test_result_has_its_channels_last_and_weights_and_gradients_stay_in_rows() -> None:
    convolution = ChannelsLastConv2d(1, 8, 3)
    result = convolution(torch.randn(5, 1, 9, 9))
    torch.autograd.backward(result.sum())
    assert result.stride(1) == 1
    assert convolution.weight.is_contiguous()
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.is_contiguous()
