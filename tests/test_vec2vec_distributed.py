"""test_vec2vec_distributed — several processes train one network, under torchrun with gloo.

The law: where the losses are means over rows, two processes with k rows each take the steps that one with 2k rows takes. (VSP
looks at pairs of rows, and those across processes are not seen, so it is left out of the law.)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import servers
import torch
from conftest import make_world

from crossvec.aligners.vec2vec.__main__ import main
from crossvec.aligners.vec2vec.distributed import joined
from crossvec.aligners.vec2vec.universal import Universal
from crossvec.errors import SettingError

RUN = """
import sys
from pathlib import Path
from crossvec.aligners.vec2vec import Vec2Vec
from crossvec.aligners.vec2vec.distributed import Group, joined
from crossvec.aligners.vec2vec.universal import Universal
from crossvec.errors import SettingError

folder = Path(sys.argv[1])
with joined("cpu"):
    group = Group.now()
    settings = Vec2Vec(
        preset="scratch", width=16, batch=64 // group.world, steps=20, looks=2, warmup=3, without="vsp, cycle_vsp, dropout",
        checkpoint=str(folder / f"kept-by-{group.world}"), every=5,
    )
    made = Universal.fit({name: folder / f"{name}.npy" for name in "ab"}, settings)
    made.save(folder / f"{group.rank}-of-{group.world}.safetensors")
"""


def start(folder: Path, processes: int, *words: str) -> subprocess.CompletedProcess[str]:
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    return subprocess.run(
        [sys.executable, *torchrun, *words], capture_output=True, text=True, timeout=300, check=False, cwd=folder
    )


def apart(folder: Path, script: str) -> list[subprocess.CompletedProcess[str]]:
    """Run two processes of one group as two machines do: no launcher of theirs ends the one when the other is lost."""
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(servers.free_port())}
    both = [
        subprocess.Popen(
            [sys.executable, script],
            cwd=folder,
            env=shared | {"RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    told = [one.communicate(timeout=300) for one in both]
    return [subprocess.CompletedProcess(one.args, one.returncode, *out) for one, out in zip(both, told, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows on disk, and the same training done by one process and by two."""
    folder = tmp_path_factory.mktemp("group")
    made = make_world(n=300, m=280, pool=2, dx=10, dy=8, latent=8, clusters=12)
    np.save(folder / "a.npy", made.x)
    np.save(folder / "b.npy", made.y)
    (folder / "run.py").write_text(RUN)
    for processes in (1, 2):
        done = start(folder, processes, "run.py", str(folder))
        assert done.returncode == 0, done.stderr
    return folder


def weights(folder: Path, rank: int, world: int) -> dict[str, torch.Tensor]:
    return Universal.load(folder / f"{rank}-of-{world}.safetensors").network.state_dict()


@pytest.mark.slow
def test_all_processes_end_with_the_same_bits(folder: Path) -> None:
    first, second = weights(folder, 0, 2), weights(folder, 1, 2)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.slow
def test_two_processes_learn_what_one_with_twice_the_batch_learns(folder: Path) -> None:
    alone, together = weights(folder, 0, 1), weights(folder, 0, 2)
    moved = Universal.load(folder / "0-of-1.safetensors").trace[0]["looks"]
    assert moved[-1]["parts"]["rec"] < moved[1]["parts"]["rec"], "it learned something"
    for name, tensor in alone.items():
        assert torch.allclose(together[name], tensor, atol=2e-5), name


@pytest.mark.slow
def test_only_the_leader_writes_checkpoints_and_all_go_on_from_them(folder: Path) -> None:
    kept = folder / "kept-by-2"
    assert [file.name for file in kept.iterdir()] == ["seed-0.safetensors"]
    before = weights(folder, 1, 2)
    (folder / "1-of-2.safetensors").unlink()
    done = start(folder, 2, "run.py", str(folder))
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(folder, 1, 2).items())


LOST = """
import os
import signal
import sys
from pathlib import Path
from crossvec.aligners.vec2vec.__main__ import main
from crossvec.aligners.vec2vec.distributed import joined
from crossvec.aligners.vec2vec.training import Training

step = Training.step

def dies(self):
    if self.group.rank == 1 and self.done == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self)

if not Path("kept-by-the-lost").exists():
    Training.step = dies
sys.exit(main(["lost.toml"]))
"""


@pytest.mark.slow
def test_the_others_of_a_killed_process_say_so_and_the_same_line_ends_as_if_nobody_had_died(folder: Path) -> None:
    (folder / "lost.py").write_text(LOST)
    (folder / "lost.toml").write_text(
        """
output = "lost.safetensors"
device = "cpu"
[spaces]
a = "a.npy"
b = "b.npy"
[settings]
preset = "scratch"
width = 16
batch = 32
steps = 20
looks = 2
warmup = 3
without = "vsp, cycle_vsp, dropout"
checkpoint = "kept-by-the-lost"
every = 5
"""
    )
    first, second = apart(folder, "lost.py")
    assert (first.returncode, second.returncode) == (4, -signal.SIGKILL), first.stderr
    assert "process 0 of 2 cannot go on, another one was lost" in first.stderr and "Traceback" not in first.stderr
    assert "by the same line" in first.stderr
    assert (folder / "kept-by-the-lost").exists() and not (folder / "lost.safetensors").exists()
    assert [one.returncode for one in apart(folder, "lost.py")] == [0, 0]
    lost, whole = (Universal.load(folder / name) for name in ("lost.safetensors", "0-of-2.safetensors"))
    made = lost.network.state_dict()
    assert all(torch.equal(tensor, made[name]) for name, tensor in whole.network.state_dict().items())
    for one, other in zip(lost.trace[0]["looks"], whole.trace[0]["looks"], strict=True):
        assert one["parts"] == pytest.approx(other["parts"], rel=1e-5), "the last checkpoint was between two looks"


@pytest.mark.slow
def test_a_file_of_settings_trains_in_one_process_and_in_two(folder: Path) -> None:
    config = folder / "run.toml"
    config.write_text(
        """
output = "space.safetensors"
device = "cpu"
[spaces]
a = ["a.npy"]
b = "b.npy"
[settings]
preset = "scratch"
width = 16
batch = 32
steps = 6
looks = 2
"""
    )
    for processes in (1, 2):
        done = start(folder, processes, "-m", "crossvec.aligners.vec2vec", str(config))
        assert done.returncode == 0, done.stderr
        assert "discriminators right" in done.stderr and done.stdout == ""
        assert Universal.load(folder / "space.safetensors").spaces == ["a", "b"]
        (folder / "space.safetensors").unlink()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("output = ", "TOML"),
        ('output = "x"', "spaces"),
        ('outputs = "x"\n[spaces]', "outputs"),
        ('output = "x"\n[spaces]\na = "a.npy"\n[settings]\nstep = 3', "step"),
        ('output = "x"\n[spaces]\na = "a.npy"\n[settings]\nsteps = "three"', "steps"),
        ('output = "x"\n[spaces]\na = "missing.npy"\nb = "missing.npy"', "missing.npy"),
        ('output = "x"\n[spaces]\na = 3', "no files for a"),
        ('output = "x"\n[spaces]\na = ["a.npy", 3]', "no files for a"),
        ('output = "x"\nspaces = "a.npy"', "spaces"),
        ('output = "x"\nsettings = 5\n[spaces]\na = "a.npy"', "settings"),
        ('output = "x"\ndevice = 5\n[spaces]\na = "a.npy"', "device"),
        ('output = "x"\ndevice = "tpu"\n[spaces]\na = "a.npy"', "tpu"),
        ('output = "."\n[spaces]\na = "missing.npy"', "is no file"),
        ('output = "/dev/null/x"\n[spaces]\na = "missing.npy"', "cannot write"),
        ('output = "/dev/null"\n[spaces]\na = "missing.npy"', "is no file"),
        ('output = "run.toml"\n[spaces]\na = "missing.npy"\nb = "run.toml"', "is read"),
    ],
)
def test_a_file_of_settings_that_is_wrong_is_refused_in_words(
    text: str, named: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    assert main([str(config)]) == 2
    assert named in caplog.text
    assert main([]) == main([str(tmp_path / "none.toml")]) == 2


@pytest.fixture
def config(tmp_path: Path) -> Path:
    made = make_world(n=80, m=70, pool=2, dx=6, dy=5, latent=4, clusters=5)
    np.save(tmp_path / "a.npy", made.x)
    np.save(tmp_path / "b.npy", made.y)
    file = tmp_path / "run.toml"
    file.write_text(
        """
output = "space.safetensors"
device = "cpu"
spaces = {a = "a.npy", b = "b.npy"}
settings = {preset = "scratch", width = 8, batch = 32, steps = 4, looks = 2}
"""
    )
    return file


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_words(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    config.write_text(config.read_text().replace('"cpu"', '"cuda"'))
    assert main([str(config)]) == 2
    assert "no cuda device" in caplog.text


def test_processes_that_train_together_need_a_device_that_can(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingError, match="cannot train together on mps"), joined("mps"):
        pass


def test_where_every_training_was_sick_the_run_is_inconclusive(
    config: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossvec.aligners.vec2vec import training

    assert main([str(config)]) == 0
    assert Universal.load(config.parent / "space.safetensors").healthy
    monkeypatch.setattr(training, "sickness", lambda looks, _settled: "mode collapse" if len(looks) > 1 else "")
    with caplog.at_level("INFO"):
        assert main([str(config)]) == 3
    assert "every training ended sick" in caplog.text
    assert not Universal.load(config.parent / "space.safetensors").healthy


@pytest.mark.parametrize("kept", [False, True])
def test_ctrl_c_ends_a_run_in_words(
    kept: bool, config: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crossvec.aligners.vec2vec.training import Training

    step = Training.step

    def interrupted(self: Training) -> None:
        if self.done == 3:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Training, "step", interrupted)
    if kept:
        config.write_text(config.read_text().replace("steps = 4", 'steps = 4, checkpoint = "kept"'))
    assert main([str(config)]) == 4
    assert ("is kept in" if kept else "nothing was kept") in caplog.text
    assert (config.parent / "kept").exists() == kept and not (config.parent / "space.safetensors").exists()


def test_help_tells_what_the_file_holds_and_how_to_start_many(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert main(["--help"]) == 0
    assert "[spaces]" in caplog.text and "torchrun" in caplog.text
