"""What libraries read when they are imported: the number of threads, and how much they print."""

from __future__ import annotations

import os
import warnings

from stages.core.params import ComputeParams


def threads_of(compute: ComputeParams) -> int:
    """Return how many processor threads the params mean on this machine.

    `auto` is the cores that this process may use: its affinity and a container's quota count.
    """
    if compute.threads != "auto":
        return compute.threads
    from joblib import cpu_count

    return int(cpu_count())


def set_environment(compute: ComputeParams) -> None:
    """Set threads and verbosity for the libraries that are imported afterwards.

    The thread count is set whatever the shell says, since it changes the last bits of sums.
    """
    threads = str(threads_of(compute))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    # Warnings about the next releases of libraries do not concern a user.
    warnings.filterwarnings("ignore", category=FutureWarning, module="(transformers|peft)")
