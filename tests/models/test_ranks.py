"""Training on several processes of a machine without GPUs: dense models, and ranks that share no folder.

Also tests fmfbench_models.training: batch_norm.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from conftest_run import torchrun
from torch import nn

SCRIPT = """
import json, os, sys
import torch
torch.set_num_threads(1)
import torch.distributed as dist
from torch import nn
from fmfbench_models.training.batch_norm import GatheredBatchNorm, gather_batch_norm

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
def layers():
    last = nn.BatchNorm2d(2, momentum=None)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 3), last)
whole, single = layers(), layers()
single.load_state_dict(whole.state_dict())
names = list(whole.state_dict())
whole = gather_batch_norm(whole)
assert list(whole.state_dict()) == names
assert isinstance(whole[1], GatheredBatchNorm)
parallel = nn.parallel.DistributedDataParallel(whole)
x = torch.randn(6, 3, 9, 11) * 3 + 100
for _ in range(3):
    parallel(x[rank::size]).square().tanh().mean().backward()
    single(x).square().tanh().mean().backward()
for (name, ours), theirs in zip(whole.named_parameters(), single.parameters(), strict=True):
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=2e-3, atol=2e-5, msg=name)
for (name, ours), theirs in zip(whole.named_buffers(), single.buffers(), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=name)
torch.testing.assert_close(whole.eval()(x), single.eval()(x), rtol=1e-3, atol=1e-4)
dist.barrier()
dist.destroy_process_group()
"""

TRAIN = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from fmfbench_models.training.train import train
store, out, options = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
# Each process has a folder of its own: what the first wrote, the second does not see.
train("fmformer", store, out / f"rank{os.environ['RANK']}" / "run", options=options, device="cpu")
"""


def test_gathered_batch_norm_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun(tmp_path / "script.py")


def test_alone_it_is_torch_s(tmp_path: Path) -> None:
    from fmfbench_models.training.batch_norm import gather_batch_norm

    torch.manual_seed(1)
    plain = nn.Sequential(nn.BatchNorm1d(4))
    ours = nn.Sequential(nn.BatchNorm1d(4))
    ours.load_state_dict(plain.state_dict())
    gather_batch_norm(ours)
    x = torch.randn(8, 4) + 2
    torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())


def test_a_dense_model_trains_on_two_processes_that_share_no_folder(furnace_store, options, tmp_path) -> None:
    (tmp_path / "script.py").write_text(TRAIN)
    quick = {**options, "epochs": 1, "batch_size": 16, "dense_task": True}
    for rank in (0, 1):
        (tmp_path / f"rank{rank}").mkdir()
    torchrun(tmp_path / "script.py", furnace_store, tmp_path, json.dumps(quick))
    found = json.loads((tmp_path / "rank0" / "run" / "run.json").read_text())
    assert found["finished"]
    assert found["processes"] == 2
    assert not (tmp_path / "rank1" / "run").exists()
    torchrun(
        tmp_path / "script.py", furnace_store, tmp_path, json.dumps(quick)
    )  # finished: nothing is done, by either
