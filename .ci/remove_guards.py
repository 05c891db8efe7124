"""Remove each guard in turn, in a copy of the last commit, and show that some test goes red.

    python .ci/remove_guards.py [WORD]     # only the guards whose name holds the word

Takes some minutes. Ends with 1 if a guard's test stays green: then the test does not bite.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
# name: (file, what stands there, what replaces it, the test that must fail)
GUARDS = {
    "unknown keys are refused": (
        "stages/core/params_fields.py", 'extra="forbid"', 'extra="ignore"', "row_16"),
    "secrets are refused": (
        "stages/core/params.py", "if _SECRET.search(line):", "if False:", "row_51"),
    "two runs of a stage are kept apart": (
        "stages/running/locks.py", "            holder = printable(file.read(20)) or",
        "            yield\n            return\n            holder = printable(file.read(20)) or",
        "row_06_a"),
    "a stage ends with DVC": (
        "stages/running/locks.py", "ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)",
        "pass",
        "row_05"),
    "SIGTERM ends in a line": (
        "stages/running/locks.py", "signal.signal(signal.SIGTERM, _terminate)", "pass", "row_04"),
    "the disk has room": (
        "stages/running/disk.py", "if free < size + SPARE:", "if False:", "row_09"),
    "a damaged checkpoint is not used": (
        "stages/training/checkpoints.py", "return seal is not None and seal == _hashes(folder)",
        "return True", "row_02_a_checkpoint_damaged"),
    "a checkpoint of other inputs is not used": (
        "stages/training/checkpoints.py", "known = _read(paths.CHECKPOINTS / INPUTS)",
        "known = inputs", "row_03"),
    "the order of rows hangs on seed and epoch": (
        "stages/training/checkpoints.py", "self.generator = torch.Generator().manual_seed",
        "torch.Generator().manual_seed", "row_01_two"),
    "a loss that is no number ends it": (
        "stages/training/trainer.py", "if not bool(torch.isfinite(loss)):", "if False:", "row_30"),
    "weights are finite": (
        "stages/model/classifier.py",
        "if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):", "if False:",
        "row_27"),
    "the adapter belongs to the labels": (
        "stages/model/saved.py", 'if manifest["labels"] != list(labels):', "if False:",
        "row_25"),
    "the adapter holds every tensor": (
        "stages/model/saved.py", "    if missing:", "    if False:", "row_21_an"),
    "pickled weights are refused": (
        "stages/sources/model_folder.py", "pickle weights are refused", "no weights", "row_28"),
    "code of a model is refused": (
        "stages/sources/model_folder.py", '"auto_map"', '"auto_map_"', "row_29"),
    "a member has its size": (
        "stages/sources/package_index.py", "if size > expected.size:", "if False:", "row_45_a_bomb"),
    "a member has its hash": (
        "stages/sources/package_index.py", "if digest.hexdigest() != expected.sha256:", "if False:",
        "row_44_the_last"),
    "a member is a regular file": (
        "stages/sources/package_index.py", "if not member.isreg() or (content", "if (content",
        "row_44_a_wanted"),
    "wheels only": (
        "stages/sources/package_index.py", '"--no-binary" if package.sdist else "--only-binary"',
        '"--no-binary"', "row_46_a_source"),
    "a text stands in one split": (
        "stages/rows/checks.py", 'if several.any() and params.on_leak == "refuse":', "if False:",
        "row_39"),
    "a text has one label": (
        "stages/rows/checks.py", 'if several.any() and params.on_conflict == "refuse":',
        "if False:", "row_40"),
    "a group stands in one split": (
        "stages/rows/checks.py", "    if shared:\n        one", "    if False:\n        one",
        "row_43_a_group_in"),
    "control characters are escaped": (
        "stages/core/errors.py", 'not in "CZ" else ascii(c)[1:-1]', 'not in "" else c', "row_50"),
    "a word that gives the label away is told": (
        "stages/evaluate_tfidf.py", "for line in giveaways(train, labels):", "for line in []:",
        "row_42_a"),
    "verify hashes the cache": (
        "stages/tools/verify.py", "if md5_of(stored) != md5:", "if False:", "row_13_a_flipped"),
    "verify asks whether inputs changed": (
        "stages/tools/verify.py", ", *changed_since(_dvc_status())]", "]", "names_inputs"),
    "verify scores the predictions again": (
        "stages/tools/verify.py", "if abs(recorded[name] - value) > ROUNDING:", "if False:",
        "recorded_by_mistake"),
    "doctor reads DVC's lock": (
        "stages/tools/doctor.py", "*lock_faults(),", "", "row_07"),
}  # fmt: skip


def bites(folder: Path, file: str, old: str, new: str, test: str) -> bool:
    """Return whether the test fails once the guard is gone, and only then.

    Raises:
        SystemExit: if the guard is not where this script looks for it.
    """
    path = folder / file
    whole = path.read_text(encoding="utf-8")
    if old not in whole:
        sys.exit(f"{file}: no longer holds {old!r}: mend this script")
    path.write_text(whole.replace(old, new), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-x", "-k", test, "-m", "slow or not slow"]
    done = subprocess.run(
        [*command, "tests/faults"], cwd=folder, env=environment, capture_output=True
    )
    path.write_text(whole, encoding="utf-8")
    return done.returncode == 1  # 0: passed; 5: no such test


def main(word: str = "") -> None:
    """Try every guard whose name holds the word."""
    blunt = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "copy"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)  # noqa: S607  # git by name
        wanted = [name for name in GUARDS if word in name]
        for number, name in enumerate(wanted, start=1):
            bitten = bites(folder, *GUARDS[name])
            print(f"{number}/{len(wanted)} {'red' if bitten else 'GREEN'}: {name}", flush=True)
            blunt += [] if bitten else [name]
    sys.exit(f"no test goes red for: {', '.join(blunt)}" if blunt else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
