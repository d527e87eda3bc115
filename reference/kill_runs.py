"""Kills a run again and again and compares: python reference/kill_runs.py PTUNE RUN.toml KILLS OUT_DIR

Trains RUN.toml once without interruption into OUT_DIR/whole. Then starts it with --resume and kills it (SIGKILL) after a
random part of that time, until KILLS processes have died; a run that ends before its moment is compared and the next is
begun. Its metrics.jsonl and the files of its adapter must have the bytes of the first. Needs no PyTorch.
"""

import pathlib
import random
import subprocess
import sys
import time


def main():
    ptune, run, kills, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), pathlib.Path(sys.argv[4])
    train = lambda name: [ptune, "train", run, "--resume", "--out", str(out / name)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    begin = time.monotonic()
    subprocess.run(train("whole"), check=True, **quiet)
    seconds = time.monotonic() - begin
    expected = results(out / "whole")
    print(f"whole: {seconds:.1f} s, {sum(map(len, expected.values()))} bytes of results", flush=True)
    moments = random.Random(0)
    killed, runs = 0, 0
    while killed < kills:
        runs += 1
        name = f"killed-{runs}"
        while killed < kills:
            moment = moments.uniform(0, seconds)
            process = subprocess.Popen(train(name), **quiet)
            begin = time.monotonic()
            try:
                if process.wait(moment) != 0:
                    sys.exit(f"{name}: status {process.returncode}")
                seconds = min(seconds, time.monotonic() - begin)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            killed += 1
            print(f"kill {killed:2} of {name} after {moment:6.2f} s: {left(out / name)}", flush=True)
        subprocess.run(train(name), check=True, **quiet)
        same = results(out / name) == expected
        print(f"{name}: {'identical' if same else 'DIFFERENT'}", flush=True)
        if not same:
            sys.exit(1)


def results(run):
    files = [run / "metrics.jsonl", *sorted((run / "adapter").iterdir())]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


def left(run):
    """What a killed process has left: lines of the log, whether there is a state, and files half written."""
    log = run / "metrics.jsonl"
    lines = len(log.read_text().splitlines()) if log.exists() else 0
    state = "state" if (run / "state" / "state.safetensors").exists() else "no state"
    halves = [file.name for file in run.rglob("*") if file.name.endswith((".tmp", ".next"))]
    return f"{lines} evaluations, {state}" + "".join(f", half written: {name}" for name in halves)


if __name__ == "__main__":
    main()
