"""A study on a worker that sees nothing of the controller's folder, with an S3 server between them, and a clone of it.

The server is moto's. The worker has a clone of its own. Where mount namespaces are allowed, the controller's folder is
an empty one for the worker.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import md5
from pathlib import Path

import pytest
import yaml
from slurm import until
from test_pipeline import ENVIRONMENT, ran, tracked_copy

pytestmark = pytest.mark.integration
CLUSTER = """
launcher: address
options: {{address: "{address}"}}
stages: {{default: {{gpus: 0, memory_gb: 1.0}}}}
worker: {{gpus: 0, memory_gb: 1.0, threads: 1}}
here: [download]
environment: {{}}
python: null
remote: {{name: s3, folder: {folder}}}
confirm_above: 50
attempts: 3
"""


@contextmanager
def started(*command: str, cwd: Path, log: Path, **environment: str) -> Iterator[None]:
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=cwd, stdout=file, stderr=file, env=ENVIRONMENT | environment, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of an S3 server with a bucket, and set what reaches it."""
    import s3fs

    folder = tmp_path_factory.mktemp("s3")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with pytest.MonkeyPatch.context() as patch, started(*command, cwd=folder, log=folder / "log"):
        for name, value in own.items():
            patch.setenv(name, value)
            patch.setitem(ENVIRONMENT, name, value)
        until(lambda: _answers(port))
        address = f"http://127.0.0.1:{port}"
        s3fs.S3FileSystem(client_kwargs={"endpoint_url": address}).mkdir("bucket")
        yield address


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def run(folder: Path, *command: str) -> str:
    environment = ENVIRONMENT | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def use(folder: Path, server: str) -> None:
    """Make the server the remote of a repository, also for the weights, whose remote is a folder otherwise."""
    for name in ("s3", "weights"):
        run(folder, "dvc", "remote", "add", "--local", "--force", name, "s3://bucket/store")
        run(folder, "dvc", "remote", "modify", "--local", name, "endpointurl", server)
    run(folder, "dvc", "remote", "default", "--local", "s3")


def hidden(*folders: Path) -> list[str]:
    """Return what to put before a command for which these folders are empty; nothing where that is not allowed."""
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        return []
    hide = " && ".join(f"mount -t tmpfs none '{folder}'" for folder in folders)
    return ["unshare", "--mount", "sh", "-c", f'{hide} && exec "$@"', "sh"]


@contextmanager
def workers(folder: Path, code: Path, hide: Path) -> Iterator[str]:
    """Run Dask's scheduler and a worker, and yield the scheduler's address."""
    place = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    has = ["--nthreads", "1", "--resources", "CPU=1,GPU=0,GB=1", "--no-nanny"]
    with ExitStack() as stack:
        own = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
        stack.enter_context(started(*dask, "scheduler", *own, cwd=folder, log=folder / "log"))
        until(place.exists)
        command = [*hidden(hide), *dask, "worker", *has, "--scheduler-file", str(place)]
        stack.enter_context(started(*command, cwd=folder, log=folder / "log", PYTHONPATH=str(code / "src")))
        yield yaml.safe_load(place.read_text())["address"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, server: str) -> Path:
    """A repository whose study ran on a worker elsewhere; everything is pushed, and its small results committed."""
    top = tmp_path_factory.mktemp("away")
    folder, code, elsewhere = tracked_copy(top / "controller"), top / "code", top / "elsewhere"
    run(folder, "gapscope", "compose", "study=smoke")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "code")
    run(top, "git", "clone", "-q", str(folder), str(code))
    use(folder, server)
    elsewhere.mkdir()
    with workers(elsewhere, code, folder) as address:
        text = CLUSTER.format(address=address, folder=elsewhere / "scratch")
        (folder / "conf/cluster/away.yaml").write_text(text)
        said = run(folder, "gapscope", "run", "smoke", "--cluster", "away", "-j", "2")
    assert "report@smoke: done" in said, said
    assert sorted(path.name for path in (elsewhere / "scratch").iterdir()) == ["kept"]
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "results")
    run(folder, "dvc", "push")
    return folder


def results(folder: Path) -> dict[str, str]:
    """Return the MD5 of each number and each weight of the study."""
    places = ("metrics/smoke/**/*", "metrics/claims/*", "data/runs/smoke/**/*.safetensors")
    found = [path for place in places for path in folder.glob(place) if path.is_file()]
    return {path.relative_to(folder).as_posix(): md5(path.read_bytes()).hexdigest() for path in found}


def test_the_bits_are_those_of_a_run_on_one_machine(study: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    run(tmp_path, "git", "clone", "-q", str(study), str(here))
    run(here, "git", "checkout", "-q", "HEAD~1")  # without results
    run(here, "dvc", "repro")
    assert len(found := results(here)) > 10
    assert found == results(study)
    assert ran(run(study, "dvc", "repro")) == []  # and nothing has become stale


def test_a_clone_pulls_weights_and_activations_and_analyses_anew(study: Path, server: str, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    run(tmp_path, "git", "clone", "-q", str(study), str(clone))
    use(clone, server)
    run(clone, "dvc", "pull")
    assert results(clone) == results(study)
    again = [f"{stage}@smoke-lenet5-digits-128-0" for stage in ("spectra", "sharpness")]
    said = run(clone, "dvc", "repro", "--force", "--single-item", *again)
    assert ran(said) == again, said
    assert results(clone) == results(study)
    run(clone, "gapscope", "compose", "study=smoke", "thresholds=[1.0e-3]")
    said = run(clone, "dvc", "repro")
    assert "near_rank@smoke" in ran(said)
    assert {stage.partition("@")[0] for stage in ran(said)} & {"train", "activations", "spectra"} == set(), said
