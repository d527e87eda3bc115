"""One measurement: a side of a line in a process of its own, what it printed, and what else the machine did meanwhile."""

import json
import os
import pathlib
import resource
import shlex
import subprocess
import sys
import time

from lines import FIRST_ANSWER, LINES_PER_S

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
VERBALIZERS = {"rte": {"entailment": ["yes"], "not_entailment": ["no"]}, "equal": {"good": ["good"], "bad": ["bad"]}}
TARGETS = {"lama": "obj_label"}


class Bench:
    """Where everything is: the program, the peer, models and rows, and a folder for run files and adapters."""

    def __init__(self, arguments, folder):
        self.ptune, self.python, self.peer = arguments.ptune, arguments.python, arguments.peer
        self.models, self.small, self.rows = arguments.models, arguments.small, arguments.rows
        self.folder = folder

    def model(self, line):
        return self.small if line.model == "small" else self.models / line.model

    def run_file(self, line):
        """Writes the run file of a line; both programs read it."""
        kind = line.task["rows"]
        train = self.rows / f"{kind}.jsonl" if kind == "equal" else self.rows / f"{kind}-train.jsonl"
        test = train if kind == "equal" else self.rows / f"{kind}-eval.jsonl"
        quoted = lambda value: json.dumps(str(value), ensure_ascii=False)
        text = f"model = {quoted(self.model(line).resolve())}\n[data]\ntrain = {quoted(train.resolve())}\ntest = {quoted(test.resolve())}\n"
        text += f"[task]\ntemplate = {quoted(line.task['template'])}\ntarget = {quoted(TARGETS.get(kind, 'label'))}\n"
        verbalizer = VERBALIZERS.get(kind, {})
        text += "".join(["[task.verbalizer]\n"] * bool(verbalizer) + [f"{label} = {json.dumps(words)}\n" for label, words in verbalizer.items()])
        text += f"[train]\nepochs = 1\nbatch_size = {line.batch}\n"
        file = self.folder / f"{line.name}.toml"
        file.write_text(text, encoding="utf-8")
        return file

    def adapter(self, line, precision):
        """An adapter of a line: one step of training on its rows, whose labels are made up where it has others than its task."""
        directory = self.folder / f"{line.name}-{precision}"
        if directory.exists():
            return directory / "adapter"
        file = self.run_file(line)
        labels = line.task.get("verbalizer")
        if labels:
            rows = self.folder / f"{line.name}.jsonl"
            source = (self.rows / f"{line.task['rows']}-train.jsonl").read_text(encoding="utf-8").splitlines()[:8]
            examples = [json.loads(row) | {"label": list(labels)[i % len(labels)]} for i, row in enumerate(source)]
            rows.write_text("".join(json.dumps(row) + "\n" for row in examples), encoding="utf-8")
            words = "".join(f"{label} = {json.dumps(words)}\n" for label, words in labels.items())
            text = file.read_text(encoding="utf-8").replace('target = "obj_label"', f'target = "label"\n[task.verbalizer]\n{words}')
            file.write_text("\n".join(f"train = {json.dumps(str(rows))}" if row.startswith("train =") else row for row in text.splitlines() if not row.startswith("test =")))
        command = [self.ptune, "train", file, "--out", directory, "--set", "train.steps=1", "--set", f"compute={precision}"]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return directory / "adapter"

    def command(self, line, side):
        """The command of a side, in words."""
        if line.kind == "bench":
            file = self.run_file(line)
            if side.program == "ptune":
                return [self.ptune, "bench", file, "--epochs", side.epochs, "--set", f"compute={side.precision}", "--json", *side.options]
            if self.peer:
                values = {"run": file, "model": self.model(line), "rows": self.rows, "epochs": side.epochs, "dtype": side.precision}
                return [*shlex.split(self.peer.format(**values)), *side.options]
            return [self.python, PEERS / "ptuning.py", file, "--epochs", side.epochs, "--dtype", side.precision, *side.options]
        adapter = self.adapter(line, side.precision)
        if line.kind == "lines":
            question = ["--input", self.rows / "lines.jsonl"]
        else:
            question = ["--field", "premise=A cat sat on the mat.", "--field", "hypothesis=The mat was empty."]
        if side.program == "ptune":
            return [self.ptune, "predict", adapter, *question, *(["--json"] if line.kind == "start" else [])]
        return [self.python, PEERS / "answer.py", adapter, *question, "--dtype", side.precision]

    def measure(self, line, side):
        """The numbers of a side, by name; `others` is the share of the machine that other processes took meanwhile."""
        command = [str(part) for part in self.command(line, side)]
        mine, machine, start = children_seconds(), machine_seconds(), time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = process.stdout.readline()
        answered = time.perf_counter() - start
        rest, complaint = process.communicate()
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            raise SystemExit(f"{shlex.join(command)} failed with status {process.returncode}:\n{complaint[-2000:]}")
        output = (first + rest).splitlines()
        if line.kind == "bench":
            found = json.loads(output[-1])
        elif line.kind == "lines":
            found = {LINES_PER_S: len(output) / seconds}
        else:
            found = {FIRST_ANSWER: answered}
        others = max(0.0, (machine_seconds() - machine) - (children_seconds() - mine))
        return found | {"others": others / (seconds * os.cpu_count())}


def children_seconds():
    """Processor time of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_seconds():
    """Processor time that all processes of the machine have used; 0 where the system does not say."""
    try:
        user, nice, system = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:4]
    except OSError:
        return 0.0
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def busy(seconds=3.0):
    """The share of the machine that is in use now."""
    before, mine = machine_seconds(), time.process_time()
    time.sleep(seconds)
    return max(0.0, machine_seconds() - before - (time.process_time() - mine)) / (seconds * os.cpu_count())


def processor():
    """The processor's name and how many of it there are."""
    try:
        names = [row.split(":", 1)[1].strip() for row in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} threads"


if __name__ == "__main__":
    sys.exit("bench/compare.py measures; this file only helps it")
